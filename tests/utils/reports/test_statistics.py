import warnings
from itertools import product

import numpy as np
import pytest
from scipy import stats

from utils.reports.statistics import FEWEST, RESAMPLES, bootstrap_interval, mean_interval, paired_difference, wilcoxon_p


def of_mean(values):
    """The interval of the mean of values (N,)."""
    return bootstrap_interval(lambda index: values[index].mean(axis=-1), len(values))


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
    assert of_mean(differences) == pytest.approx(tuple(theirs.confidence_interval), abs=8e-4)
    width = 2 * 1.96 * differences.std() / np.sqrt(20)  # and with the normal approximation
    low, high = of_mean(differences)
    assert high - low == pytest.approx(width, rel=0.05)


def test_interval_repeats_and_is_that_of_the_binomial():
    """Six draws of five zeros and a one: their sum is binomial (6, 1/6), of which 0 to 3 are 99 %."""
    values = np.array([0.0, 0, 0, 0, 0, 6.0])
    assert of_mean(values) == of_mean(values) == (stats.binom(6, 1 / 6).ppf(0.025), stats.binom(6, 1 / 6).ppf(0.975))


def test_a_statistic_without_a_value_has_no_interval_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert of_mean(np.full(8, np.nan)) is None


@pytest.mark.parametrize("count", range(FEWEST + 1))
def test_too_few_cases_have_neither_interval_nor_p(count):
    found = paired_difference(np.arange(1.0, count + 1), np.arange(count))
    assert found.count == count and (found.mean is None) == (count == 0)
    assert all((value is None) == (count < FEWEST) for value in found[1:4])
    interval = mean_interval(np.random.default_rng(0).random((2, 2 * count, 3)), np.repeat(np.arange(count), 2))
    assert (interval is None) == (count < FEWEST)


def test_interval_of_a_mean_draws_patients_and_leaves_undefined_values_out():
    rng = np.random.default_rng(3)
    tables, patients = np.repeat(rng.random((2, 8, 3)), 2, axis=1), np.repeat(np.arange(8), 2)
    tables[0, 3, 1] = tables[1, :2, 2] = np.nan

    def by_hand(drawn):
        cases = np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])
        return np.mean([np.mean([np.nanmean(table[cases, k]) for k in range(3)]) for table in tables])

    draws = np.random.default_rng(0).integers(8, size=(2000, 8))
    expected = np.percentile([by_hand(drawn) for drawn in draws], [2.5, 97.5])
    assert mean_interval(tables, patients) == pytest.approx(tuple(expected), abs=0.01)
    frames = mean_interval(tables, np.arange(16))
    assert frames[1] - frames[0] < 0.85 * np.diff(expected)[0]  # as if a patient's equal frames were independent


def test_a_class_that_no_case_has_is_left_out_of_the_mean():
    table = np.random.default_rng(1).random((1, 12, 2))
    with_absent = np.concatenate([table, np.full((1, 12, 1), np.nan)], axis=2)
    assert mean_interval(with_absent, np.arange(12)) == mean_interval(table, np.arange(12))
    assert mean_interval(np.full((1, 12, 1), np.nan), np.arange(12)) is None


def test_p_value_agrees_with_scipy_and_with_all_signs_enumerated(scores):
    differences = scores[0] - scores[1]
    assert wilcoxon_p(differences) == stats.wilcoxon(*scores).pvalue
    few = differences[:9]
    ranks = stats.rankdata(np.abs(few))
    statistics = np.array([np.dot(signs, ranks) for signs in product((-1, 1), repeat=9)])
    by_hand = np.mean(np.abs(statistics) >= abs(np.dot(np.sign(few), ranks)))
    assert wilcoxon_p(few) == pytest.approx(by_hand)


def test_equal_methods_have_no_p_value():
    assert wilcoxon_p(np.zeros(8)) is None
    assert paired_difference(np.zeros(8), np.arange(8)) == (0, 0, 0, None, 8)


def test_frames_of_a_patient_count_once_and_undefined_pairs_not():
    differences = np.array([0.1, 0.3, np.nan, 0.4, np.nan])
    patients = np.array(["a", "a", "b", "b", "c"])
    found = paired_difference(differences, patients)
    assert found.count == 2 and found.mean == pytest.approx((0.2 + 0.4) / 2)
    assert found[1:4] == (None, None, None)
    six = paired_difference(np.tile(differences, 6), np.repeat(np.arange(6), 5))
    assert six.count == 6 and six.mean == six.low == six.high == pytest.approx(0.8 / 3) and six.p_value == 2 / 2**6
    assert paired_difference(np.array([np.nan]), np.array(["a"])) == (None, None, None, None, 0)
