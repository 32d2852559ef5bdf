#!/usr/bin/env python3
"""Test the runs of a 3-D dataset by sliding windows: Dice, Jaccard, 95HD and ASD, best and last weights.
Or predict new scans with one weights file.

    python test_3d.py --name LA --output_dir runs/LA/DuCiSC_8 --gpu 0     # a run, or a folder of runs (seeds)
    python test_3d.py --name LA --output_dir runs/LA --figures            # all runs, with pictures and a page each
    python test_3d.py --name LA --output_dir downloads/                   # a folder with a bare .pth of this family
    python test_3d.py --predict scan.nrrd --weights runs/LA/DuCiSC_8/seed_1337/best.pth   # or a folder, DICOM

Each run gets test_best/ and test_last/ with per_case.csv, summary.json and predictions/. New scans get
label maps in their own geometry, <scan>.nii.gz, and volumes.csv; exit code 0: all are predicted, 1: some are faulty,
2: bad input. Protocol: docs/PROTOCOLS.md.
"""

from __future__ import annotations

import sys

from utils.cli import Parser, array_size, named_dataset, one_line_errors
from utils.prediction.folder import add_predict_flags, parse_test_or_predict, run_predictions
from utils.reports.testing import add_test_flags, run_tests


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    add_test_flags(parser, dims=3, batch_size=4)
    parser.add_argument(
        "--stride",
        type=array_size,
        nargs=2,
        metavar=("XY", "Z"),
        help="of the windows in voxels (default: the dataset's, the papers': LA 18 4, Pancreas 16 16)",
    )
    add_predict_flags(parser, dims=3)
    return parse_test_or_predict(parser, argv, dims=3)


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    if args.predict:
        return run_predictions(args, dims=3)
    named_dataset(args, (3,))
    return run_tests(args)


if __name__ == "__main__":
    sys.exit(main())
