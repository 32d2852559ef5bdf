"""The two objectives of Ours-BCP against the reference's steps; each correction of the released program by name."""

import pytest
import torch

from train_Ours_BCP import compute_losses, compute_pretrain_losses
from utils.copy_paste import box_mask
from utils.ema import update_state
from utils.ramps import consistency_ramp

TERMS = {
    "loss_dice_unlabeled": "monitor/dice_in_u",
    "loss_ce_unlabeled": "monitor/ce_in_u",
    "loss_dice_labeled": "monitor/dice_in_l",
    "loss_ce_labeled": "monitor/ce_in_l",
    "loss_mix": "loss/mix",
    "loss_weak_to_strong_prototype": "monitor/weak-to-strong",
    "loss_strong_to_weak_prototype": "monitor/strong-to-weak",
    "loss_contrast": "monitor/contrast",
}


def pretrain_step(ref, student, optimizer, dtype):
    image, label = ref["pre_image"].to(dtype), ref["pre_label"][:4].long()
    mask = box_mask(ref["pre_box"].tolist(), image.shape[2:], dtype=dtype)
    loss, terms = compute_pretrain_losses(student, image, label, ref["pre_lam"], ref["pre_perm"], mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, terms


def self_step(ref, n, student, teacher, memories, optimizer, dtype):
    step = int(ref[f"step_{n}"])
    image_w, image_s = ref[f"image_w_{n}"].to(dtype), ref[f"image_s_{n}"].to(dtype)
    mask = box_mask(ref[f"box_{n}"].tolist(), image_w.shape[2:], dtype=dtype)
    label_l = ref[f"label_{n}"][:4].long()
    loss, terms = compute_losses(
        student,
        teacher,
        *memories,
        image_w,
        image_s,
        label_l,
        ref[f"lam_{n}"],
        ref[f"perm_{n}"],
        mask,
        consistency_ramp(step),
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    update_state(teacher, student, 0.99)
    return loss, terms


def assert_terms(loss, terms, ref, pattern, tolerance):
    assert loss.item() == pytest.approx(ref[pattern.format("loss")].item(), abs=tolerance)
    for name, term in TERMS.items():
        assert terms[term].item() == pytest.approx(ref[pattern.format(name)].item(), abs=tolerance), name
    logged = sum(value for name, value in terms.items() if name.startswith("loss/"))
    assert logged.item() == pytest.approx(loss.item(), abs=1e-6)  # what is logged is what is summed


@pytest.mark.parametrize("name, dtype, tolerance", [("bcp_steps", "float32", 1e-5), ("bcp_steps_f64", "float64", 1e-8)])
def test_pretraining_step(tensors, build, assert_weights, name, dtype, tolerance):
    ref, dtype = tensors(name), getattr(torch, dtype)
    student, _, _, optimizer = build(ref, dtype)
    loss, terms = pretrain_step(ref, student, optimizer, dtype)
    assert loss.item() == pytest.approx(ref["pre_loss"].item(), abs=tolerance)
    assert terms["monitor/dice"].item() == pytest.approx(ref["pre_loss_dice"].item(), abs=tolerance)
    assert terms["monitor/ce"].item() == pytest.approx(ref["pre_loss_ce"].item(), abs=tolerance)
    if dtype == torch.float64:
        assert_weights(student, ref, "pre_student_{}_after")  # the head has no gradient and keeps its weights


def test_three_float32_self_training_steps(tensors, build):
    ref = tensors("bcp_steps")
    student, teacher, memories, optimizer = build(ref, torch.float32)
    for n in range(3):
        loss, terms = self_step(ref, n, student, teacher, memories, optimizer, torch.float32)
        assert_terms(loss, terms, ref, "{}_" + str(n), 1e-5 if n == 0 else 1e-3)
        assert terms["monitor/ramp"] == pytest.approx(ref[f"ramp_weight_{n}"].item(), abs=1e-12)
    state = teacher.state_dict()
    torch.testing.assert_close(
        state["decoder.out_conv.weight"], ref["teacher_out_conv_weight_after"], rtol=0, atol=2e-6
    )
    key = "encoder.in_conv.conv_conv.1.running_mean"
    torch.testing.assert_close(state[key], ref["teacher_running_mean_after"], rtol=0, atol=2e-6)


def test_three_double_precision_self_training_steps(tensors, build, assert_weights):
    ref = tensors("bcp_steps_f64")
    student, teacher, memories, optimizer = build(ref, torch.float64)
    for n in range(3):
        loss, terms = self_step(ref, n, student, teacher, memories, optimizer, torch.float64)
        assert_terms(loss, terms, ref, "{}_" + str(n), 1e-8)
        pseudo = torch.cat([ref[f"pseudo_label_a_{n}"], ref[f"pseudo_label_b_{n}"]])
        assert torch.equal(terms["label/student"], pseudo.long())
        # correction: the teacher's weak label of the second half comes from its own logits, not from u_a's
        assert torch.equal(terms["label/teacher"], ref[f"teacher_label_w_{n}"].long())
        assert not torch.equal(terms["label/teacher"][:2], terms["label/teacher"][2:])
        assert_weights(student, ref, "student_{}_after_" + str(n))
        assert_weights(teacher, ref, "teacher_{}_after_" + str(n))


def test_step_begun_as_training_begins_it(tensors, build, assert_weights):
    """Student and teacher with the weights after pre-training, the optimiser with its momentum, empty memories."""
    ref = tensors("bcp_steps_f64")
    student, teacher, memories, optimizer = build(ref, torch.float64)
    pretrain_step(ref, student, optimizer, torch.float64)
    teacher.load_state_dict(student.state_dict())
    loss, terms = self_step(ref, 0, student, teacher, memories, optimizer, torch.float64)
    assert_terms(loss, terms, ref, "carried_{}", 1e-8)
    assert torch.equal(terms["label/teacher"], ref["carried_teacher_label_w"].long())
    assert_weights(student, ref, "carried_student_{}_after")
    assert_weights(teacher, ref, "carried_teacher_{}_after")
