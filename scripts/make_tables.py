#!/usr/bin/env python3
r"""Tables of tested runs, measured beside published: Markdown, LaTeX (booktabs), CSV, or one self-contained HTML page.

    python scripts/make_tables.py runs/ACDC                                     # Markdown, to be read here
    python scripts/make_tables.py runs/ACDC --format latex --out acdc.tex       # to be \input
    python scripts/make_tables.py runs/ --format csv --out runs.csv             # every number at full precision
    python scripts/make_tables.py runs/ACDC runs/LA --format html --out page.html

Reads test_best/ and test_last/ of every run at or below the folders. Seeds of one setting are averaged; deviations over
seeds and over cases stand in tables of their own; methods on the same split are compared by case.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # scripts run from anywhere: the root holds the packages

from dataloaders.writing import write_text  # noqa: E402
from utils.folder_lock import hold  # noqa: E402
from utils.options import Parser, new_file, one_line_errors  # noqa: E402
from utils.settings import find_settings  # noqa: E402
from utils.tables import Block, as_csv, as_latex, as_markdown, make_blocks  # noqa: E402

SUFFIXES = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}


def render(blocks: Sequence[Block], format: str) -> str:
    """The blocks as text in one of SUFFIXES' formats."""
    if format == "html":
        from utils.report_page import as_html  # needs matplotlib and torchvision

        return as_html(blocks)
    return {"markdown": as_markdown, "latex": as_latex, "csv": as_csv}[format](blocks)


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders with tested runs")
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), default="markdown", help="what to write (default: %(default)s)"
    )
    parser.add_argument("--out", type=new_file, metavar="FILE", help="file to write (default: printed)")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix in {*SUFFIXES.values()} - {SUFFIXES[args.format]}:
        parser.error(f"--out {args.out}: --format {args.format} ends with {SUFFIXES[args.format]}")
    return args


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    text = render(make_blocks(find_settings(args.runs)), args.format)
    if args.out is None:
        print(text, end="")
    else:
        hold(args.out.parent, args.out.name)
        write_text(args.out, text)
        print(f"{args.format}: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
