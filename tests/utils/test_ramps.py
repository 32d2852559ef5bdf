import pytest

from utils.ramps import consistency_ramp, ema_alpha


@pytest.mark.parametrize("name", ["ramp", "ramp_more"])
def test_reference_numbers(numbers, name):
    ref = numbers(name)
    for step, weight in zip(ref["steps"], ref["weight"]):
        assert consistency_ramp(int(step)) == pytest.approx(weight, abs=1e-12)


def test_ema_reference_numbers(numbers):
    ref = numbers("ramp_more")
    for step, alpha in zip(ref["ema_steps"], ref["ema_alpha"]):
        assert ema_alpha(int(step)) == pytest.approx(alpha, abs=1e-12)


def test_integer_division_and_ends():
    assert consistency_ramp(149, 2) == consistency_ramp(0, 2) < consistency_ramp(150, 2)
    assert consistency_ramp(300, 2) == 1.0
    assert consistency_ramp(0, 0) == 1.0
