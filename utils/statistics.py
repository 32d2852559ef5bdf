"""Is one method better than another on the same cases? Paired bootstrap interval and Wilcoxon's signed-rank test."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
from scipy import stats

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Difference(NamedTuple):
    """A mean paired difference over `count` cases; None where too few are there to say."""

    mean: Optional[float]
    low: Optional[float]  # of the bootstrap's confidence interval
    high: Optional[float]
    p_value: Optional[float]  # Wilcoxon's, two-sided
    count: int


def bootstrap_interval(differences: np.ndarray, seed: int = 0) -> Optional[tuple[float, float]]:
    """The percentile bootstrap interval (95 %) of the mean of paired differences (N,); None below two.

    The cases are drawn with replacement, a case's pair always together. The same numbers for the same seed.
    """
    count = len(differences)
    if count < 2:
        return None
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    means = differences[drawn].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def wilcoxon_p(differences: np.ndarray) -> Optional[float]:
    """Two-sided p of Wilcoxon's signed-rank test of paired differences (N,), zeros left out; None if no others are."""
    differences = differences[differences != 0]
    return float(stats.wilcoxon(differences).pvalue) if len(differences) else None


def paired_difference(differences: np.ndarray, groups: np.ndarray) -> Difference:
    """Of differences (N,), NaN where one of a pair is undefined, after averaging those of one group (a patient's).

    Two frames of one patient are no two independent cases, so groups are what is drawn and ranked.
    """
    defined = ~np.isnan(differences)
    differences, groups = differences[defined], np.asarray(groups)[defined]
    means = np.array([differences[groups == group].mean() for group in np.unique(groups)])
    if not len(means):
        return Difference(None, None, None, None, 0)
    low, high = bootstrap_interval(means) or (None, None)
    return Difference(float(means.mean()), low, high, wilcoxon_p(means), len(means))
