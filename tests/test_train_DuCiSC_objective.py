"""The objective of DuCiSC against the reference's steps and edge cases, and by hand for more classes."""

import numpy as np
import pytest
import torch

from networks import net_factory
from train_DuCiSC import compute_losses
from utils.ema import update_parameters
from utils.ramps import ema_alpha
from utils.thresholds import ConfidenceThresholds

TERMS = {
    "loss_ce_labeled": "monitor/ce_labelled",
    "loss_dice_labeled": "monitor/dice_labelled",
    "loss_supervised": "monitor/supervised",
    "loss_ce_pseudo": "monitor/ce_pseudo",
    "loss_dice_pseudo": "monitor/dice_pseudo",
    "loss_consistency": "monitor/consistency",
    "loss_proto_labeled_unlabeled": "monitor/proto_labelled_unlabelled",
    "loss_ce_fused": "monitor/kl_fused",
    "loss_dice_fused": "monitor/dice_fused",
    "loss_fused": "monitor/fused",
    "loss_proto_labeled_fused": "monitor/proto_labelled_fused",
    "loss_weighted_sum": "monitor/weighted_sum",
}
EDGES = ("no_foreground", "no_certain", "no_pseudo_foreground", "num_proto_2", "tiny_foreground")


def build_ducisc(ref, fill, dtype):
    student, teacher = (
        fill(net_factory("ducisc", 1, 2, 3), int(ref[f"{who}_weights_seed"])).to(dtype).train()
        for who in ("student", "teacher")
    )
    teacher.requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return student, teacher, ConfidenceThresholds(2).to(dtype), optimizer


def run_step(ref, suffix, step, student, teacher, thresholds, optimizer, dtype, **kwargs):
    volume = ref[f"volume_{suffix}"].to(dtype)
    loss, terms = compute_losses(
        student,
        teacher,
        thresholds,
        volume[:2],
        volume[2:],
        ref[f"label_{suffix}"][:2].long(),
        ref[f"fuse_weight_{suffix}"].to(dtype),
        step >= 2000,
        **kwargs,
    )
    optimizer.zero_grad()
    loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())
    optimizer.step()
    update_parameters(teacher, student, ema_alpha(step))
    return loss, terms


def set_thresholds(thresholds, ref, suffix):
    before = torch.stack([ref[f"threshold_{what}_before_{suffix}"] for what in ("bg", "fg")], dim=1)
    thresholds.tau.copy_(before)


def assert_step(loss, terms, thresholds, ref, suffix, tolerance, voxels):
    assert loss.item() == pytest.approx(ref[f"loss_optimized_{suffix}"].item(), abs=max(tolerance, 1e-6))
    for name, term in TERMS.items():
        expected = ref[f"{name}_{suffix}"].item()
        if np.isnan(
            expected
        ):  # the release's value: ours logs a term that is left out as NaN, its parts and the sum as numbers
            assert name in ("loss_ce_pseudo", "loss_ce_fused", "loss_weighted_sum") or np.isnan(terms[term].item()), (
                name
            )
            continue
        if name.startswith("loss_proto") and expected == 0:  # left out whole: logged as NaN
            assert np.isnan(terms[term].item()), name
            continue
        assert terms[term].item() == pytest.approx(expected, abs=tolerance), name
    after = torch.stack([ref[f"threshold_{what}_after_{suffix}"] for what in ("bg", "fg")], dim=1)
    torch.testing.assert_close(thresholds.tau, after.to(thresholds.tau.dtype), rtol=0, atol=tolerance)
    uncertain = ref[f"uncertain_voxels_{suffix}"]
    for scale in range(4):
        size = 2 * np.prod([side // 2 ** (3 - scale) for side in voxels])
        share = terms[f"monitor/certain_share_scale{scale}"].item()
        assert round((1 - share) * size) == pytest.approx(uncertain[scale].item(), abs=0 if tolerance < 1e-6 else 20)


def test_three_float32_steps(tensors, fill):
    ref = tensors("ducisc_steps")
    student, teacher, thresholds, optimizer = build_ducisc(ref, fill, torch.float32)
    for n in range(3):
        if n == 1:
            set_thresholds(thresholds, ref, n)
        loss, terms = run_step(ref, n, int(ref[f"step_{n}"]), student, teacher, thresholds, optimizer, torch.float32)
        assert_step(loss, terms, thresholds, ref, n, 1e-5 if n == 0 else 1e-4, (32, 32, 32))
    for who, net in (("student", student), ("teacher", teacher)):
        expected = ref[f"{who}_out_conv_weight_after"]
        torch.testing.assert_close(net.out_conv.weight.detach(), expected, rtol=0, atol=2e-6)


def assert_state(net, ref, who, suffix):
    checked = 0
    for name, value in net.state_dict().items():
        key = f"{who}_{name.replace('.', '_')}_after_{suffix}"
        if key in ref:
            torch.testing.assert_close(value, ref[key], rtol=0, atol=1e-8)
            checked += 1
    assert checked >= 4


def test_four_double_precision_steps(tensors, fill):
    ref = tensors("ducisc_steps_f64")
    student, teacher, thresholds, optimizer = build_ducisc(ref, fill, torch.float64)
    set_thresholds(thresholds, ref, 0)
    for n in range(4):
        step = int(ref[f"step_{n}"])
        loss, terms = run_step(ref, n, step, student, teacher, thresholds, optimizer, torch.float64)
        assert_step(loss, terms, thresholds, ref, n, 1e-8, (32, 32, 16))
        assert_state(student, ref, "student", n)
        assert_state(teacher, ref, "teacher", n)
        summed = sum(value for name, value in terms.items() if name.startswith("loss/"))
        assert summed.item() == pytest.approx(loss.item(), abs=1e-12)  # what is logged is what is summed
        active = {name for name in terms if name.startswith("loss/")}
        assert len(active) == (5 if step >= 2000 else 1)


@pytest.mark.parametrize("case", EDGES)
def test_edge_cases_in_double_precision(tensors, fill, case):
    ref = tensors("ducisc_edges_f64")
    student, teacher, thresholds, optimizer = build_ducisc(ref, fill, torch.float64)
    set_thresholds(thresholds, ref, case)
    if case == "no_pseudo_foreground":
        teacher.out_conv_4.bias.copy_(ref["teacher_out_conv_4_bias_no_pseudo_foreground"])
    kwargs = {"num_proto": 2} if case == "num_proto_2" else {}
    loss, terms = run_step(ref, case, 2500, student, teacher, thresholds, optimizer, torch.float64, **kwargs)
    assert_step(loss, terms, thresholds, ref, case, 1e-8, (32, 32, 16))
    assert torch.isfinite(terms["monitor/weighted_sum"])
    for name, value in student.state_dict().items():
        assert torch.isfinite(value).all()
        key = f"student_{name.replace('.', '_')}_after_{case}"
        if key in ref:
            torch.testing.assert_close(value, ref[key], rtol=0, atol=1e-8)
