import math

import pytest
import torch

from utils.training.loop import mean_label_dice


def test_label_dice_is_the_mean_over_the_classes_that_are_there():
    pred = torch.tensor([[[0, 1], [1, 2]]])
    truth = torch.tensor([[[0, 1], [0, 0]]])
    assert mean_label_dice(pred, truth, 4) == pytest.approx((2 / 3 + 0) / 2)  # class 3 is nowhere
    assert math.isnan(mean_label_dice(truth * 0, truth * 0, 4))
    assert math.isnan(mean_label_dice(pred[:0], truth[:0], 4))
