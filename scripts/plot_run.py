#!/usr/bin/env python3
"""Draw runs: curves of loss terms and validation Dice, best, median and worst test case, and one page with the table.

    python scripts/plot_run.py runs/ACDC/Ours_MT_5/seed_1337
    python scripts/plot_run.py runs/ACDC                        # all runs at or below

Exit code 0: all are drawn, 1: some could not be, 2: none could.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.files import InputError
from utils.cli import Parser, one_line_errors
from utils.reports.runs import find_records


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument(
        "run", type=Path, nargs="+", help="folders of runs, or any folder above them: of a dataset, a method, a seed"
    )
    return parser.parse_args(argv)


@one_line_errors
def main(argv=None):
    folders = list(dict.fromkeys(run for folder in parse_args(argv).run for run in find_records(folder)))
    from utils.reports.report_page import plot_run  # needs matplotlib and torchvision

    drawn = 0
    for folder in folders:
        try:
            print(f"page: {plot_run(folder)}", flush=True)
            drawn += 1
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
    return 0 if drawn == len(folders) else 1 if drawn else 2


if __name__ == "__main__":
    sys.exit(main())
