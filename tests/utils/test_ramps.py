import math

import pytest

from utils.ramps import consistency_ramp, ema_alpha, late_ramp


@pytest.mark.parametrize("name", ["ramp", "ramp_more"])
def test_reference_numbers(numbers, name):
    ref = numbers(name)
    for step, weight in zip(ref["steps"], ref["weight"]):
        assert consistency_ramp(int(step)) == pytest.approx(weight, abs=1e-12)


def test_a_fraction_moves_every_150_iterations_and_a_whole_number_is_what_it_was():
    for step in (0, 149, 150, 299, 300, 30000):
        for length in (1, 3, 7, 200):
            phase = 1 - min(step // 150, length) / length
            assert (
                consistency_ramp(step, length) == consistency_ramp(step, float(length)) == math.exp(-5 * phase * phase)
            )
    assert [consistency_ramp(step, 0.44) for step in (0, 149, 150)] == [math.exp(-5), math.exp(-5), 1.0]
    assert consistency_ramp(299, 1.5) == pytest.approx(math.exp(-5 / 9)) and consistency_ramp(300, 1.5) == 1.0
    assert [consistency_ramp(step, 0) for step in (0, 150)] == [1.0, 1.0]


def test_ema_reference_numbers(numbers):
    ref = numbers("ramp_more")
    for step, alpha in zip(ref["ema_steps"], ref["ema_alpha"]):
        assert ema_alpha(int(step)) == pytest.approx(alpha, abs=1e-12)


def test_integer_division_and_ends():
    assert consistency_ramp(149, 2) == consistency_ramp(0, 2) < consistency_ramp(150, 2)
    assert consistency_ramp(300, 2) == 1.0
    assert consistency_ramp(0, 0) == 1.0


@pytest.mark.parametrize("rampup, iterations", [(200, 30000), (7, 3000), (0, 20), (1, 160), (0.44, 200)])
def test_a_ramp_that_the_run_reaches_is_not_warned_of(rampup, iterations):
    assert late_ramp(rampup, iterations) == ""


@pytest.mark.parametrize(
    "rampup, iterations, reached, full",
    [(200, 3000, "1.7%", 30000), (20 / 150, 60, "0.7%", 150), (1, 150, "0.7%", 150)],
)
def test_a_ramp_that_ends_after_the_run_is_warned_of(rampup, iterations, reached, full):
    said = late_ramp(rampup, iterations)
    assert f"reach only {reached} of their weight by the end of this run (all of it at iteration {full})" in said
