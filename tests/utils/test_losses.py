import pytest
import torch

from utils.losses import dice_loss, mixed_loss


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


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("suffix", ["", "_per_image"])
def test_mixed_loss_reference_numbers(tensors, row, suffix):
    ref = tensors("dice_more")
    weight_image, weight_patch = ref["mixed_weights"][row].tolist()
    mask = ref["mask_per_image" if suffix else "mask"]
    loss_dice, loss_ce = mixed_loss(
        ref["mixed_logits"].double(),
        ref["mixed_label_image"],
        ref["mixed_label_patch"],
        mask,
        weight_image,
        weight_patch,
    )
    assert loss_dice.item() == pytest.approx(ref[f"mixed_loss_dice{suffix}"][row].item(), abs=1e-8)
    assert loss_ce.item() == pytest.approx(ref[f"mixed_loss_ce{suffix}"][row].item(), abs=1e-8)


def test_mixed_loss_equals_the_obvious_sum_over_both_parts():
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 4, 5).double(), (torch.rand(4, 5) > 0.4).double()
    image, patch = torch.randint(0, 3, (2, 4, 5)), torch.randint(0, 3, (2, 4, 5))
    _, loss_ce = mixed_loss(logits, image, patch, mask, 0.5, 2.0)
    log_prob = logits.log_softmax(dim=1)
    sums, counts = [0.0, 0.0], [0, 0]
    for b in range(2):
        for i in range(4):
            for j in range(5):
                part = 0 if mask[i, j] else 1
                label = (image, patch)[part][b, i, j]
                sums[part] -= log_prob[b, label, i, j].item()
                counts[part] += 1
    assert loss_ce.item() == pytest.approx(0.5 * sums[0] / counts[0] + 2.0 * sums[1] / counts[1], abs=1e-12)
