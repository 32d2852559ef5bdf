"""What few cases allow to say: bootstrap intervals, and Wilcoxon's signed-rank test of paired differences."""

from __future__ import annotations

import warnings
from typing import Callable, NamedTuple, Optional

import numpy as np
from scipy import stats

from utils.evaluation.evaluate import defined_mean

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST = 6  # with five the two-sided p of the signed-rank test is never below 0.05; below that nothing is claimed


class Difference(NamedTuple):
    """A mean paired difference over `count` cases; None where nothing is defined or the cases are too few."""

    mean: Optional[float]
    low: Optional[float]  # of the bootstrap's confidence interval
    high: Optional[float]
    p_value: Optional[float]  # Wilcoxon's, two-sided
    count: int


def bootstrap_interval(statistic: Callable, count: int, seed: int = 0) -> Optional[tuple[float, float]]:
    """The percentile bootstrap interval (95 %) of a statistic of `count` cases, None for fewer than FEWEST.

    statistic(index) gives for each row of case numbers (R, count), drawn with replacement, one value (R,). The same
    numbers for the same seed. None, too, where a draw leaves nothing defined.
    """
    if count < FEWEST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a statistic without a value; its interval is None
        found = stats.bootstrap(
            (np.arange(count),),
            lambda index, axis: statistic(index),
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            axis=-1,
            batch=1000,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return None if np.isnan(found).any() else (float(found.low), float(found.high))


def mean_interval(tables: np.ndarray, groups: np.ndarray) -> Optional[tuple[float, float]]:
    """The interval of the mean of one metric's tables (seeds, cases, classes): over cases, then classes, then seeds.

    NaN is left out of its class's mean. groups (cases,): the patient of each case; a patient's cases stay together.
    """
    members = np.unique(groups)[:, None] == np.asarray(groups)  # patients, cases
    defined = ~np.isnan(tables)
    sums = np.einsum("pc,sck->psk", members, np.where(defined, tables, 0))
    counts = np.einsum("pc,sck->psk", members, defined.astype(float))

    def statistic(index):
        index = np.atleast_2d(index)
        total, number = sums[index].sum(axis=1), counts[index].sum(axis=1)  # draws, seeds, classes
        by_class = np.where(number > 0, total / np.maximum(number, 1), np.nan)
        return defined_mean(defined_mean(by_class, axis=2), axis=1)

    return bootstrap_interval(statistic, len(members)) if defined.any() else None


def wilcoxon_p(differences: np.ndarray) -> Optional[float]:
    """Two-sided p of Wilcoxon's signed-rank test of paired differences (N,), zeros left out.

    None for fewer than FEWEST differences, and where all are zero.
    """
    if len(differences) < FEWEST or not differences.any():
        return None
    return float(stats.wilcoxon(differences[differences != 0]).pvalue)


def paired_difference(differences: np.ndarray, groups: np.ndarray) -> Difference:
    """Of differences (N,), NaN where one of a pair is undefined, after averaging those of one group (a patient's).

    Two frames of one patient are not independent, so groups are drawn and ranked, not cases.
    """
    defined = ~np.isnan(differences)
    differences, groups = differences[defined], np.asarray(groups)[defined]
    means = np.array([differences[groups == group].mean() for group in np.unique(groups)])
    if not len(means):
        return Difference(None, None, None, None, 0)
    low, high = bootstrap_interval(lambda index: means[index].mean(axis=-1), len(means)) or (None, None)
    return Difference(float(means.mean()), low, high, wilcoxon_p(means), len(means))
