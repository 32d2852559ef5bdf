import pytest
import torch

from utils.losses import dice_loss


def test_reference_numbers(tensors):
    ref = tensors("dice")
    assert dice_loss(ref["probs"], ref["target"]).item() == pytest.approx(ref["loss"].item(), abs=1e-6)
    masked = dice_loss(ref["probs"], ref["target"], ref["mask"])
    assert masked.item() == pytest.approx(ref["loss_masked"].item(), abs=1e-6)


@pytest.mark.parametrize(
    "loss, probs, target, mask",
    [
        ("loss_class_3_empty", "probs", "target_class_3_empty", None),
        ("loss_class_3_empty_and_probs_zero", "probs_class_3_zero", "target_class_3_empty", None),
        ("loss_class_3_empty_and_probs_tiny", "probs_class_3_tiny", "target_class_3_empty", None),
        ("loss_class_2_in_two_images", "probs", "target_class_2_in_two_images", None),
        ("loss_masked", "probs", "target_class_1_inside_only", "mask"),
        ("loss_masked_inverse", "probs", "target_class_1_inside_only", "inverse"),
        ("loss_masked_per_image", "probs", "target_class_2_in_two_images", "mask_per_image"),
        ("loss_mask_all_zero", "probs", "target_class_2_in_two_images", "zero"),
    ],
)
def test_reference_numbers_of_empty_and_masked_classes(tensors, loss, probs, target, mask):
    ref = tensors("dice_more")
    ref["inverse"], ref["zero"] = 1 - ref["mask"], torch.zeros_like(ref["mask"])
    value = dice_loss(ref[probs].double(), ref[target], None if mask is None else ref[mask])
    assert value.item() == pytest.approx(ref[loss].item(), abs=1e-8)


def test_by_hand():
    # one image of two pixels, two classes: p = (0.75, 0.5 | 0.25, 0.5), labels 0 and 1
    prob = torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]])
    label = torch.tensor([[[0, 1]]])
    class_0 = 1 - 2 * 0.75 / (0.75**2 + 0.5**2 + 1)
    class_1 = 1 - 2 * 0.5 / (0.25**2 + 0.5**2 + 1)
    assert dice_loss(prob, label).item() == pytest.approx((class_0 + class_1) / 2, abs=1e-7)
