#!/usr/bin/env python3
r"""Tables of tested runs next to published results: Markdown, LaTeX (booktabs), CSV, or one self-contained HTML page.

    python scripts/make_tables.py runs/ACDC                                     # Markdown, to be read here
    python scripts/make_tables.py runs/ACDC --format latex --out acdc.tex       # to be \input
    python scripts/make_tables.py runs/ACDC --format latex --columns dice asd --weights best --notes short  # one column
    python scripts/make_tables.py runs/ --format csv --out runs.csv             # every number at full precision
    python scripts/make_tables.py runs/ACDC runs/LA --format html --out page.html

Reads test_best/ and test_last/ of every run at or below the folders. Seeds of one setting are averaged; deviations over
seeds and over cases have tables of their own; methods on the same split are compared by case. Runs that cannot be read,
and seeds that were trained with different flags, are left out and named, with exit code 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.files import write_text
from utils.cli import Parser, new_file, one_line_errors
from utils.reports.results import ALL_COLUMNS
from utils.reports.settings import find_settings
from utils.reports.tables import Block, Shown, as_csv, as_latex, as_markdown, make_blocks
from utils.runs.lock import hold

SUFFIXES = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}


def render(blocks: Sequence[Block], format: str) -> str:
    """The blocks as text in one of SUFFIXES' formats."""
    if format == "html":
        from utils.reports.report_page import as_html  # needs matplotlib and torchvision

        return as_html(blocks)
    return {"markdown": as_markdown, "latex": as_latex, "csv": as_csv}[format](blocks)


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders with tested runs")
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), default="markdown", help="what to write (default: %(default)s)"
    )
    parser.add_argument("--out", type=new_file, metavar="FILE", help="file to write (default: printed)")
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=ALL_COLUMNS,
        default=ALL_COLUMNS,
        metavar="COLUMN",
        help="columns of the tables; CSV has every number (default: dice jaccard hd95 asd classes empty)",
    )
    parser.add_argument(
        "--weights", choices=("best", "last", "both"), default="both", help="rows of our runs (default: %(default)s)"
    )
    parser.add_argument(
        "--notes",
        choices=("none", "short", "full"),
        default="full",
        help="footnotes; short: what the numbers cannot be used without (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.out and args.out.suffix in {*SUFFIXES.values()} - {SUFFIXES[args.format]}:
        parser.error(f"--out {args.out}: --format {args.format} ends with {SUFFIXES[args.format]}")
    args.columns = [column for column in ALL_COLUMNS if column in args.columns]
    return args


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    settings, faults = find_settings(args.runs)
    text = render(make_blocks(settings, Shown(args.columns, args.weights, args.notes), faults), args.format)
    if args.out is None:
        print(text, end="")
    else:
        hold(args.out.parent, args.out.name)
        write_text(args.out, text)
        print(f"{args.format}: {args.out}")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
