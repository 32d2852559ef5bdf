"""The objective of Ours-MT against the reference's steps, and its presets."""

import pytest
import torch

from networks import net_factory
from train_Ours_MT import PRESETS, compute_losses, parse_args
from utils.ema import update_parameters
from utils.prototype_memory import PrototypeMemory
from utils.ramps import consistency_ramp, ema_alpha

TERMS = {
    "loss_ce": "monitor/ce",
    "loss_dice": "monitor/dice",
    "loss_consistency": "monitor/consistency",
    "loss_weak_to_strong_prototype": "monitor/weak-to-strong",
    "loss_strong_to_weak_prototype": "monitor/strong-to-weak",
    "loss_contrast": "monitor/contrast",
}


def run_step(ref, n, student, teacher, memories, optimizer, dtype):
    step = int(ref[f"step_{n}"])
    image_w, image_s = ref[f"image_w_{n}"].to(dtype), ref[f"image_s_{n}"].to(dtype)
    label_l = ref[f"label_{n}"][:4].long()
    lam, perm = ref[f"lam_{n}"], ref[f"perm_{n}"]
    loss, terms = compute_losses(
        student, teacher, *memories, image_w, image_s, label_l, lam, perm, consistency_ramp(step)
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    update_parameters(teacher, student, ema_alpha(step))
    return loss, terms


def test_three_float32_steps(tensors, build, assert_weights):
    ref = tensors("mt_steps")
    student, teacher, memories, optimizer = build(ref, torch.float32)
    for n in range(3):
        loss, terms = run_step(ref, n, student, teacher, memories, optimizer, torch.float32)
        tolerance = 1e-5 if n == 0 else 1e-3
        assert loss.item() == pytest.approx(ref[f"loss_{n}"].item(), abs=tolerance)
        assert terms["monitor/ramp"] == pytest.approx(ref[f"ramp_weight_{n}"].item(), abs=1e-12)
        for name, term in TERMS.items():
            assert terms[term].item() == pytest.approx(ref[f"{name}_{n}"].item(), abs=tolerance), name
        logged = sum(value for name, value in terms.items() if name.startswith("loss/"))
        assert logged.item() == pytest.approx(loss.item(), abs=1e-6)  # what is logged is what is summed
    for who, net in (("student", student), ("teacher", teacher)):
        torch.testing.assert_close(
            net.decoder.out_conv.weight.detach(), ref[f"{who}_out_conv_weight_after"], rtol=0, atol=2e-6
        )


def test_three_double_precision_steps(tensors, build, assert_weights):
    ref = tensors("mt_steps_f64")
    student, teacher, memories, optimizer = build(ref, torch.float64)
    for n in range(3):
        loss, terms = run_step(ref, n, student, teacher, memories, optimizer, torch.float64)
        assert loss.item() == pytest.approx(ref[f"loss_{n}"].item(), abs=1e-8)
        for name, term in TERMS.items():
            assert terms[term].item() == pytest.approx(ref[f"{name}_{n}"].item(), abs=1e-8), name
        assert torch.equal(terms["label/student"], ref[f"student_label_w_{n}"].long())
        assert torch.equal(terms["label/teacher"], ref[f"teacher_label_w_{n}"].long())
        assert_weights(student, ref, "student_{}_after_" + str(n))
        assert_weights(teacher, ref, "teacher_{}_after_" + str(n))


def small_step(preset=None, unlabelled=True):
    """One step on random images with a preset's flags: (terms, memory)."""
    torch.manual_seed(0)
    args = parse_args(["--preset", preset] if preset else [])
    student, teacher = (net_factory("unet_proj", 1, 4).train() for _ in range(2))
    memory_w, memory_s = PrototypeMemory(4, args.memory_size), PrototypeMemory(4, args.memory_size)
    image = torch.rand(4, 1, 16, 16)
    image_w, image_s = (image, image.sqrt()) if unlabelled and args.unlabelled == "on" else (image[:2], None)
    lam, perm = (None, None) if args.blend == "off" else (torch.rand(4), torch.tensor([2, 3, 0, 1]))
    loss, terms = compute_losses(
        student,
        teacher,
        memory_w,
        memory_s,
        image_w,
        image_s,
        torch.randint(0, 4, (2, 16, 16)),
        lam,
        perm,
        1.0,
        args.consistency,
        args.contrast_weight,
        args.contrast,
    )
    loss.backward()
    return loss, terms, memory_w, student


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_each_preset_computes_its_terms(preset):
    loss, terms, memory, student = small_step(preset)
    summed = {name for name in terms if name.startswith("loss/")}
    expected = {"loss/supervised"}
    if preset != "supervised":
        expected.add("loss/consistency")
    if preset not in ("supervised", "baseline", "no-contrast"):
        expected.add("loss/contrast")
        if preset in ("weak-to-strong", "strong-to-weak"):  # one half alone goes without the 1/2
            assert terms["monitor/contrast"] is terms[f"monitor/{preset}"]
    assert summed == expected
    assert loss.item() == pytest.approx(sum(terms[name].item() for name in summed), abs=1e-6)
    assert memory.pointer.item() == (1 if "loss/contrast" in expected else 0)
    assert (student.proj_head[0].weight.grad is not None) == ("loss/contrast" in expected)
    if preset and preset.startswith("memory-"):
        assert memory.weights.shape[1] == int(preset.split("-")[1])


def test_a_preset_sets_its_flags():
    assert parse_args(["--preset", "memory-32"]).memory_size == 32
    assert parse_args(["--preset", "mix-beta"]).blend == "beta"


def test_unlabelled_labels_never_reach_the_objective():
    """The signature has no place for them: label_l counts the labelled images."""
    _, terms, _, _ = small_step()
    assert terms["label/student"].shape == (2, 16, 16)


def test_defaults_are_the_papers():
    args = parse_args([])
    assert (args.batch_size, args.labeled_bs, args.base_lr, args.max_iterations) == (24, 12, 0.01, 30000)
    assert (args.seed, args.consistency_rampup, args.memory_size, args.amp) == (1337, 200, 128, "off")
    assert (args.consistency, args.contrast_weight, args.ema_decay, args.val_interval) == (0.1, 1.0, 0.99, 200)
