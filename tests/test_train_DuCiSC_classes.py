"""DuCiSC's terms for any number of classes, against a slow and obvious computation voxel by voxel."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from networks import net_factory
from scripts.plain import plain_ducisc
from train_DuCiSC import compute_losses
from utils.losses import foreground_dice_loss
from utils.thresholds import ConfidenceThresholds

SIZES = (2, 4, 8, 16)  # of the four scales, coarse to fine


class Canned:
    """A network that answers its calls with what it was given, one after the other."""

    def __init__(self, answers):
        self.answers = list(answers)

    def __call__(self, _volume):
        return self.answers.pop(0)


def answer(rng, num_classes, sharpness=1.0):
    logits = [torch.tensor(sharpness * rng.standard_normal((2, num_classes, s, s)), requires_grad=True) for s in SIZES]
    feats = [torch.tensor(rng.standard_normal((2, 3, s, s)), requires_grad=True) for s in (*SIZES[::-1], 1)]
    return logits, feats  # fine to coarse; the last, as the fifth level of an encoder, has no logits


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def obvious_dice(prob, target, mask):
    """Mean over foreground classes, each pooled over the batch, voxel by voxel."""
    losses = []
    for c in range(1, prob.shape[1]):
        product = total = 0.0
        for b, i, j in np.ndindex(mask.shape):
            if mask[b, i, j]:
                product += prob[b, c, i, j] * target[b, c, i, j]
                total += prob[b, c, i, j] + target[b, c, i, j]
        losses.append(1 - (2 * product + 1e-8) / (total + 1e-8))
    return np.mean(losses)


def one_hot(label, num_classes):
    return np.stack([label == c for c in range(num_classes)], axis=1).astype(float)


def obvious_alignment(feats_a, masks_a, feats_b, masks_b, num_classes):
    scales = []
    for feat_a, mask_a, feat_b, mask_b in zip(feats_a, masks_a, feats_b, masks_b):
        errors = []
        for c in range(num_classes):
            protos, empty = [], False
            for feat, mask in ((feat_a, mask_a), (feat_b, mask_b)):
                means = []
                for b in range(2):
                    weight = mask[b, c].sum()
                    empty |= weight == 0
                    means.append((feat[b] * mask[b, c]).sum(axis=(1, 2)) / weight if weight else np.zeros(3))
                protos.append(np.mean(means, axis=0))
            errors.append(np.nan if empty else np.mean((protos[0] - protos[1]) ** 2))
        if num_classes == 2 and np.isnan(errors).any():
            continue
        if not np.isnan(errors).all():
            scales.append(np.nanmean(errors))
    return np.mean(scales) if scales else 0.0


@pytest.mark.parametrize("num_classes", [2, 4, 9])
def test_every_term(num_classes):
    rng = np.random.default_rng(num_classes)
    outputs = [answer(rng, num_classes) for _ in range(3)]  # labelled, unlabelled, fused
    teacher = answer(rng, num_classes, sharpness=1.5)
    label = torch.from_numpy(rng.integers(0, num_classes, (2, 16, 16)))
    if num_classes > 2:
        label[1][label[1] == num_classes - 1] = 0  # the last class is absent from the second image
    thresholds = ConfidenceThresholds(num_classes).double()
    thresholds.tau.fill_(0.6)
    before = thresholds.tau.numpy().copy()
    lam = torch.tensor([0.3, 0.7]).double()
    volume = torch.zeros(2, 1, 16, 16).double()
    loss, terms = compute_losses(Canned(outputs), Canned([teacher]), thresholds, volume, volume, label, lam, True)

    logits = [[scale.detach().numpy() for scale in logits] for logits, _ in outputs]
    feats = [[scale.detach().numpy() for scale in feats][3::-1] for _, feats in outputs]  # coarse to fine
    probs_t = [softmax(scale.detach().numpy()) for scale in teacher[0]]
    labels_l = [label.numpy()[:, :: 16 // s, :: 16 // s] for s in SIZES]  # nearest
    pseudo = [prob.argmax(axis=1) for prob in probs_t]
    certain = [np.zeros(p.shape, bool) for p in pseudo]
    for scale, prob in enumerate(probs_t):
        for b, i, j in np.ndindex(certain[scale].shape):
            certain[scale][b, i, j] = any(prob[b, c, i, j] > before[scale, c] for c in range(num_classes))
        assert terms[f"monitor/certain_share_scale{scale}"].item() == pytest.approx(certain[scale].mean())

    ce_l, dice_l, ce_u, dice_u, kl_f, dice_f = [], [], [], [], [], []
    soft = one_hot(label.numpy(), num_classes) * lam.numpy()[:, None, None, None]
    soft = soft + one_hot(pseudo[-1], num_classes) * (1 - lam.numpy())[:, None, None, None]
    masks_f = []
    for scale, size in enumerate(SIZES):
        prob_l, prob_u, prob_f = (softmax(out[scale]) for out in logits)
        places = list(np.ndindex(2, size, size))
        sure = [place for place in places if certain[scale][place]]
        assert sure
        ce_l.append(np.mean([-math.log(prob_l[b, labels_l[scale][b, i, j], i, j]) for b, i, j in places]))
        dice_l.append(obvious_dice(prob_l, one_hot(labels_l[scale], num_classes), np.ones((2, size, size))))
        ce_u.append(np.mean([-math.log(prob_u[b, pseudo[scale][b, i, j], i, j]) for b, i, j in sure]))
        dice_u.append(obvious_dice(prob_u, one_hot(pseudo[scale], num_classes), certain[scale]))
        mask_f = F.interpolate(torch.from_numpy(soft), size=(size, size), mode="bilinear").numpy()
        masks_f.append(mask_f)
        kl = sum(
            t * (math.log(t) - math.log(prob_f[b, c, i, j]))
            for b, i, j in sure
            for c in range(num_classes)
            for t in [mask_f[b, c, i, j]]
            if t > 0
        )
        kl_f.append(kl / (num_classes * len(sure)))
        dice_f.append(obvious_dice(prob_f, mask_f, certain[scale]))
    assert np.allclose(masks_f[-1].sum(axis=1), 1)
    masks_l = [one_hot(x, num_classes) for x in labels_l]
    expected = {
        "ce_labelled": np.mean(ce_l),
        "dice_labelled": np.mean(dice_l),
        "supervised": (np.mean(ce_l) + np.mean(dice_l)) / 2,
        "consistency": (np.mean(ce_u) + np.mean(dice_u)) / 2,
        "kl_fused": np.mean(kl_f),
        "fused": (np.mean(kl_f) + np.mean(dice_f)) / 2,
        "proto_labelled_unlabelled": obvious_alignment(
            feats[0], masks_l, feats[1], [one_hot(x, num_classes) for x in pseudo], num_classes
        ),
        "proto_labelled_fused": obvious_alignment(feats[0], masks_l, feats[2], masks_f, num_classes),
    }
    for name, value in expected.items():
        assert value > 0 and terms[f"monitor/{name}"].item() == pytest.approx(value, abs=1e-10), name
    weights = {
        "supervised": 1,
        "consistency": 0.3,
        "fused": 0.1,
        "proto_labelled_unlabelled": 0.1,
        "proto_labelled_fused": 0.1,
    }
    assert terms["monitor/weighted_sum"].item() == pytest.approx(sum(w * expected[name] for name, w in weights.items()))
    assert loss.item() == pytest.approx(sum(w for name, w in weights.items() if expected[name] > 0))

    for scale in range(4):  # thresholds follow the student's probability where the teacher says so, certain or not
        prob_u = softmax(logits[1][scale])
        for c in range(num_classes):
            values = [prob_u[b, c, i, j] for b, i, j in np.ndindex(pseudo[scale].shape) if pseudo[scale][b, i, j] == c]
            moved = np.clip(0.99 * before[scale, c] + 0.01 * np.mean(values), 0.5, 0.95) if values else before[scale, c]
            assert thresholds.tau[scale, c].item() == pytest.approx(moved, abs=1e-12)
    loss.backward()
    for logits_k, feats_k in outputs:
        assert all(x.grad is None or torch.isfinite(x.grad).all() for x in (*logits_k, *feats_k))


@pytest.mark.parametrize("source", ["encoder", "decoder"])
def test_two_classes_on_the_release_s_2d_network_are_the_two_class_form(source):
    torch.manual_seed(0)
    student, teacher = (net_factory("unet_ds", 1, 2).double().train() for _ in range(2))
    for module in (*student.modules(), *teacher.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    student.feature_source = source
    volume_l, volume_u = torch.rand(2, 2, 1, 64, 64).double()
    label, lam = (torch.rand(2, 64, 64) > 0.5).long(), torch.tensor([0.3, 0.7]).double()
    thresholds = ConfidenceThresholds(2).double()
    expected = plain_ducisc(student, teacher, thresholds.tau.clone(), volume_l, volume_u, label, lam)
    _, terms = compute_losses(student, teacher, thresholds, volume_l, volume_u, label, lam, True)
    names = "supervised", "consistency", "fused", "proto_labelled_unlabelled", "proto_labelled_fused"
    for name, value in zip(names, expected):
        assert terms[f"monitor/{name}"].item() == pytest.approx(value.item(), abs=1e-7), name
    assert terms["monitor/proto_labelled_unlabelled"] > 0


@pytest.mark.parametrize("num_classes", [4, 9])
def test_foreground_dice_by_hand(num_classes):
    # one pixel a class, 0.5 for its truth: each foreground class 1 - 2 * 0.5 / (0.5 + 1), the background uncounted
    prob = 0.5 * torch.eye(num_classes)[None].double()
    prob[0, 0] += 0.5 * (1 - torch.eye(num_classes)[0])
    target = torch.eye(num_classes)[None].double()
    assert foreground_dice_loss(prob, target).item() == pytest.approx(1 - 1 / 1.5, abs=1e-7)
    absent = target.clone()
    absent[0, 1] = 0
    expected = ((num_classes - 2) * (1 - 1 / 1.5) + 1) / (num_classes - 1)
    assert foreground_dice_loss(prob, absent).item() == pytest.approx(expected, abs=1e-7)
