import pytest
import torch

from utils.region_prototypes import alignment_loss, region_prototypes


def test_region_prototypes_by_hand_with_an_absent_class():
    # two images of two pixels, three classes; class 2 is absent from the second image
    feat = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])  # (B, 1, 2)
    mask = torch.tensor([[[1.0, 0.5], [0.0, 0.25], [0.0, 0.25]], [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]])
    proto, whole = region_prototypes(feat, mask)
    assert whole.tolist() == [True, True, False]
    first, second = (1 * 1 + 3 * 0.5) / 1.5, 7.0
    assert proto[0].item() == pytest.approx((first + second) / 2)
    assert proto[1].item() == pytest.approx((3 + 5) / 2)


@pytest.mark.parametrize("num_classes, expected", [(2, 0.0), (3, (4.0 + 9.0) / 2)])
def test_a_class_absent_from_one_image_leaves_out_the_scale_or_itself(num_classes, expected):
    feat_a = torch.zeros(1, 2, num_classes, requires_grad=True)
    feat_b = torch.tensor([2.0, 3.0, 100.0])[:num_classes].expand(1, 2, -1).clone().requires_grad_()
    mask = torch.eye(num_classes)[None]  # pixel i is of class i
    lacking = mask.clone()
    lacking[0, -1] = 0  # the last class is absent
    loss = alignment_loss([region_prototypes(feat_a, mask)], [region_prototypes(feat_b, lacking)])
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert torch.isfinite(feat_a.grad).all() and torch.isfinite(feat_b.grad).all()
    assert (feat_b.grad.abs().sum() > 0) == (expected > 0)  # through both sides


def test_alignment_is_the_mean_over_the_scales_that_have_it():
    mask, empty = torch.eye(2)[None], torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    near, far = torch.zeros(1, 3, 2), torch.full((1, 3, 2), 2.0)
    here, there = region_prototypes(near, mask), region_prototypes(far, mask)
    assert alignment_loss([here, here], [there, here]).item() == pytest.approx(2.0)
    assert alignment_loss([here, here], [there, region_prototypes(near, empty)]).item() == pytest.approx(4.0)
