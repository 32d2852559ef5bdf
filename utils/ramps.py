"""Schedules over iterations. Source: docs/METHODS.md section 1, "Ramp" and "Optimiser"."""

from __future__ import annotations

import argparse
import math

from utils.cli import below_one, not_negative, number_or_whole, ramp_length


def consistency_ramp(step: int, rampup: float = 200) -> float:
    """r(step) = exp(-5 (1 - min(step // 150, R) / R)^2), R = rampup in units of 150 iterations; 1 where R is 0.

    It moves every 150 iterations, with a fraction R too, and is 1 from the first multiple of 150 that is >= 150 R.
    """
    if rampup == 0:
        return 1.0
    phase = 1 - min(step // 150, rampup) / rampup
    return math.exp(-5 * phase * phase)


def late_ramp(rampup: float, iterations: int) -> str:
    """A warning for the log where the ramp stays below one half in this run, otherwise ""."""
    reached = consistency_ramp(iterations - 1, rampup)
    if reached >= 0.5:
        return ""
    return (
        f"WARNING: the unlabelled terms reach only {reached:.1%} of their weight by the end of this run (all of it at "
        f"iteration {150 * math.ceil(rampup)}). The ramp moves every 150 iterations: shorten it with --ramp_until, or "
        "switch it off with --consistency_rampup 0"
    )


def add_ramp_flags(group: argparse._ArgumentGroup) -> None:
    """--consistency_rampup and, in other units, --ramp_until; a run records consistency_rampup alone."""
    either = group.add_mutually_exclusive_group()
    either.add_argument(  # the default is text: argparse takes a typed value that is the default for none
        "--consistency_rampup",
        type=ramp_length,
        default="200",
        metavar="R",
        help="length of the ramp in units of 150 iterations: the unlabelled terms reach full weight at iteration 150 "
        "R, rounded up to a multiple of 150; 0: no ramp. R can be a fraction. For a short run use about a third of "
        "--max_iterations: R = max_iterations / 450 (default: %(default)s)",
    )
    either.add_argument(
        "--ramp_until",
        type=lambda text: number_or_whole(not_negative(text) / 150),
        dest="consistency_rampup",
        default=argparse.SUPPRESS,
        metavar="ITERATION",
        help="the length of the ramp in iterations, instead of --consistency_rampup: R = ITERATION / 150; full weight "
        "is reached at the next multiple of 150 (default: not used)",
    )


def add_ema_flag(group: argparse._ArgumentGroup, what: str) -> None:
    """--ema_decay"""
    group.add_argument("--ema_decay", type=below_one, default=0.99, help=f"{what} (default: %(default)s)")


def ema_alpha(step: int, limit: float = 0.99) -> float:
    """min(1 - 1 / (step + 1), limit), step counted from 0: the teacher starts as the student."""
    return min(1 - 1 / (step + 1), limit)
