"""Schedules over iterations. Source: docs/METHODS.md section 1, "Ramp" and "Optimiser"."""

from __future__ import annotations

import math


def consistency_ramp(step: int, rampup: float = 200) -> float:
    """r(step) = exp(-5 (1 - min(step // 150, R) / R)^2), R = rampup in units of 150 iterations; 1 where R is 0.

    It moves every 150 iterations, with a fraction R too, and is 1 from the first multiple of 150 that is >= 150 R.
    """
    if rampup == 0:
        return 1.0
    phase = 1 - min(step // 150, rampup) / rampup
    return math.exp(-5 * phase * phase)


def ema_alpha(step: int, limit: float = 0.99) -> float:
    """min(1 - 1 / (step + 1), limit), step counted from 0: the teacher starts as the student."""
    return min(1 - 1 / (step + 1), limit)
