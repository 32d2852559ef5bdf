#!/usr/bin/env python3
"""Draw a run: curves of loss terms and validation Dice, best, median and worst test case, and one page with the table.

python scripts/plot_run.py runs/ACDC/Ours_MT_5/seed_1337
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # scripts run from anywhere: the root holds the packages

from utils.options import Parser, one_line_errors  # noqa: E402


@one_line_errors
def main(argv=None):
    from utils.report_page import plot_run  # needs matplotlib and torchvision

    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="+", help="run folders")
    for run in parser.parse_args(argv).run:
        print(f"page: {plot_run(run)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
