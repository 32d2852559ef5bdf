from itertools import product

import numpy as np
import pytest
from scipy import stats

from utils.statistics import RESAMPLES, bootstrap_interval, paired_difference, wilcoxon_p


@pytest.fixture
def scores():
    """Two methods' Dice on the same 20 cases."""
    rng = np.random.default_rng(7)
    first = rng.normal(0.85, 0.08, 20)
    return first, first + rng.normal(-0.02, 0.03, 20)


def test_interval_agrees_with_scipy(scores):
    differences = scores[0] - scores[1]
    theirs = stats.bootstrap(
        scores, lambda a, b, axis: np.mean(a - b, axis=axis), paired=True, n_resamples=RESAMPLES, method="percentile"
    )
    assert bootstrap_interval(differences) == pytest.approx(tuple(theirs.confidence_interval), abs=8e-4)
    width = 2 * 1.96 * differences.std() / np.sqrt(20)  # and with the normal approximation
    low, high = bootstrap_interval(differences)
    assert high - low == pytest.approx(width, rel=0.05)


def test_interval_repeats_and_needs_two():
    assert bootstrap_interval(np.array([1.0, 2.0, 4.0])) == bootstrap_interval(np.array([1.0, 2.0, 4.0]))
    assert bootstrap_interval(np.array([1.0])) is None


def test_interval_of_two_values_by_hand():
    """Means of two draws of {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0, 1)


def test_p_value_agrees_with_scipy_and_with_all_signs_enumerated(scores):
    differences = scores[0] - scores[1]
    assert wilcoxon_p(differences) == stats.wilcoxon(*scores).pvalue
    few = differences[:9]
    ranks = stats.rankdata(np.abs(few))
    statistics = np.array([np.dot(signs, ranks) for signs in product((-1, 1), repeat=9)])
    by_hand = np.mean(np.abs(statistics) >= abs(np.dot(np.sign(few), ranks)))
    assert wilcoxon_p(few) == pytest.approx(by_hand)


def test_equal_methods_have_no_p_value():
    assert wilcoxon_p(np.zeros(5)) is None
    assert paired_difference(np.zeros(5), np.arange(5)) == (0, 0, 0, None, 5)


def test_frames_of_a_patient_count_once_and_undefined_pairs_not():
    differences = np.array([0.1, 0.3, np.nan, 0.4, np.nan])
    patients = np.array(["a", "a", "b", "b", "c"])
    found = paired_difference(differences, patients)
    assert found.count == 2 and found.mean == pytest.approx((0.2 + 0.4) / 2)
    assert (found.low, found.high) == pytest.approx((0.2, 0.4)) and found.p_value == 0.5
    assert paired_difference(np.array([np.nan]), np.array(["a"])) == (None, None, None, None, 0)
