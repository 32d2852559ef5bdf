#!/usr/bin/env python3
"""Test the runs of a 2-D dataset: Dice, Jaccard, 95HD and ASD for each case and class, best and last weights.

    python test_2d.py --name ACDC --output_dir runs/ACDC/Ours_MT_5        # a run, or a folder of runs (seeds)
    python test_2d.py --name ACDC --output_dir runs/ACDC --figures        # all runs, with pictures and a page each
    python test_2d.py --name ACDC --output_dir downloads/                 # a folder with a bare .pth of this family

Each run gets test_best/ and test_last/ with per_case.csv, summary.json and predictions/. Protocol: docs/PROTOCOLS.md.
"""

from __future__ import annotations

import sys

from utils.inference import make_predictor
from utils.options import Parser, named_dataset, one_line_errors
from utils.testing import add_test_flags, run_tests


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    add_test_flags(parser, dims=2, batch_size=24)
    return parser.parse_args(argv)


def predictor(net, info, patch_size, args):
    """Slice by slice at the patch's size."""
    return make_predictor(net, info, patch_size, batch_size=args.batch_size, nms=args.nms)


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    named_dataset(args, (2,))
    return run_tests(args, predictor)


if __name__ == "__main__":
    sys.exit(main())
