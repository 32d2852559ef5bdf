import pytest
import torch
import torch.nn.functional as F

from utils.thresholds import ConfidenceThresholds


def test_start_and_strictness():
    thresholds = ConfidenceThresholds(4, num_scales=2)
    assert torch.equal(thresholds.tau, torch.full((2, 4), 0.25))
    prob = torch.tensor([[0.25, 0.26], [0.25, 0.25], [0.25, 0.25], [0.25, 0.24]]).reshape(1, 4, 1, 2)
    assert thresholds.certain([prob, prob])[0].tolist() == [[[0.0, 1.0]]]  # strictly above, any class


def test_update_by_hand_absent_classes_and_both_ends():
    thresholds = ConfidenceThresholds(4, num_scales=1)
    thresholds.tau.copy_(torch.tensor([[0.6, 0.5, 0.9499, 0.25]]))
    prob = torch.zeros(1, 4, 1, 4)
    prob[0, 0, 0] = torch.tensor([0.8, 0.4, 0.9, 0.9])  # class 0, labelled by the teacher at the first two pixels
    prob[0, 1, 0, 2] = 0.1  # class 1 at the third
    prob[0, 2, 0, 3] = 1.0  # class 2 at the fourth
    thresholds.update([prob], [F.one_hot(torch.tensor([[[0, 0, 1, 2]]]), 4).movedim(-1, 1).float()])
    expected = [0.99 * 0.6 + 0.01 * 0.6, 0.5, 0.95, 0.25]  # moved; clipped below; clipped above; class 3 unchanged
    assert thresholds.tau[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_fixed_thresholds_do_not_move():
    thresholds = ConfidenceThresholds(2, fixed=0.5)
    thresholds.update([torch.full((1, 2, 2, 2), 0.9)] * 4, [torch.ones(1, 2, 2, 2)] * 4)
    assert torch.equal(thresholds.tau, torch.full((4, 2), 0.5))


def test_part_of_the_state():
    thresholds = ConfidenceThresholds(2)
    assert list(thresholds.state_dict()) == ["tau"]
