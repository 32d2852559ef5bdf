#!/usr/bin/env python3
"""DuCiSC: dual cross-image semantic consistency with self-aware pseudo labels.

Paper: IEEE TMI 2025, arXiv 2507.21440. Definitions: docs/METHODS.md section 4.

    export DATASET_HOME=/data                                          # holds LA/, Pancreas/, ACDC/
    python train_DuCiSC.py --name LA --labelnum 8 --gpu 0              # 8 of 80 scans labelled, the paper's setting
    python train_DuCiSC.py --name Pancreas --labelnum 12 --gpu 0
    python train_DuCiSC.py --name ACDC --labelnum 5                    # 2-D: our reading of the paper
    python train_DuCiSC.py --name LA --labelnum 8 --max_iterations 1500 --warmup_iterations 1000 \\
        --base_lr 0.03 --patch_size 48 48 32 --protocol holdout --val_stride 48 32    # a small run on a CPU

After an interruption, rerun the same command to resume. Everything is written to runs/<dataset>/DuCiSC_<labelnum>/.
"""

from __future__ import annotations

import sys
from typing import Sequence

import torch
import torch.nn.functional as F

from dataloaders.registry import get_dataset
from dataloaders.seeding import generator
from dataloaders.training_data import load_training_data
from utils import region_prototypes as regions
from utils import thresholds as confidence
from utils.cli import Parser, array_size, loss_weight, not_negative, one_line_errors, positive
from utils.deep_supervision import mean_over_scales, outputs, resize_like
from utils.ema import update_parameters
from utils.evaluation.inference import check_stride
from utils.labels import hard_label, one_hot
from utils.losses import foreground_dice_loss, masked_mean
from utils.ramps import add_ema_flag, ema_alpha
from utils.region_prototypes import alignment_loss, prototypes_by_scale
from utils.runs.stopping import stoppable
from utils.thresholds import ConfidenceThresholds
from utils.training.flags import add_data_flags, add_run_flags, add_training_flags, parse, preset_help
from utils.training.loop import Method, fit, start, student_and_teacher
from utils.training.speed import compiled, make_sgd

METHOD = "DuCiSC"
PRESETS = {
    "supervised": {"unlabelled": "off"},
    "no-consistency": {"consistency": 0.0},
    "no-fusion": {"fused_weight": 0.0},
    **confidence.ABLATIONS,
    **regions.ABLATIONS,
}
# The paper's settings by the data's dimension.
DEFAULTS = {
    2: {"net": "unet_ds", "batch_size": 24, "labeled_bs": 12, "max_iterations": 30000, "val_start": 200},
    3: {"net": "ducisc", "batch_size": 4, "labeled_bs": 2, "max_iterations": 15000, "val_start": 800},
}


def note_2d(net: str, proto_features: str) -> str:
    """What every log and table says of a 2-D run."""
    origin = {
        "unet_ds": f"the release's compiled network (unet_ds), prototypes from {proto_features} features",
        "ducisc": "the V-Net with 2-D convolutions (ducisc), not the release's 2-D network",
    }.get(net, f"the network {net}")
    return (
        "DuCiSC in 2-D: no training script was released, the objective for several classes is our reading of the "
        f"paper; {origin} (docs/METHODS.md section 4)"
    )


def parse_args(argv=None):
    parser = Parser(description=__doc__, epilog=preset_help(PRESETS))
    add_data_flags(parser, dims=(3, 2), labelnum=8)
    add_training_flags(parser, DEFAULTS)
    group = parser.add_argument_group("method")
    group.add_argument(
        "--proto_features", choices=("encoder", "decoder"), default="encoder",
        help="features of unet_ds that prototypes are computed from: the encoder's, which the released network "
        "returns, or the inputs of its four heads, as in the paper's figure; our reading (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--warmup_iterations", type=not_negative, default=2000,
        help="iterations of supervised warm-up with frozen thresholds; use a small value for short runs "
        "(default: %(default)s, the paper's)",
    )  # fmt: skip
    group.add_argument(
        "--consistency", type=loss_weight, default=0.3, help="weight of the consistency loss (default: %(default)s)"
    )
    group.add_argument(
        "--fused_weight", type=loss_weight, default=0.1,
        help="weight of the loss on fused images (default: %(default)s)",
    )  # fmt: skip
    regions.add_alignment_flags(group)
    confidence.add_threshold_flag(group)
    add_ema_flag(group, "upper limit of the teacher's EMA factor")
    group.add_argument(
        "--unlabelled", choices=("on", "off"), default="on",
        help="off: train on labelled images only, with the supervised loss (default: %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("cost of validation (3-D)")
    group.add_argument(
        "--val_stride", type=array_size, nargs=2, metavar=("XY", "Z"),
        help="stride of the sliding window in voxels (default: the dataset's, as in testing: LA 18 4, Pancreas 16 16)",
    )  # fmt: skip
    group.add_argument("--val_cases", type=positive, metavar="N", help="validate on the first N cases (default: all)")
    add_run_flags(parser, PRESETS, val_start=True)
    args = parse(parser, PRESETS, argv, DEFAULTS)
    info = get_dataset(args.name, args.root_path)
    if info.dims == 3:
        check_stride("--val_stride", args.val_stride or info.stride, args.patch_size or info.patch_size)
    if args.net != "unet_ds" and args.proto_features != "encoder":
        parser.error(f"--proto_features decoder: only --net unet_ds offers the choice, not {args.net}")
    return args


def supervised_loss(logits: Sequence[torch.Tensor], label: torch.Tensor) -> tuple[torch.Tensor, list, dict]:
    """L_sup = 1/2 (CE + Dice) against the nearest-resized labels; also their one-hot masks by scale, and terms."""
    num_classes, dtype = logits[0].shape[1], logits[0].dtype
    labels = [resized[:, 0].long() for resized in resize_like(label[:, None].to(dtype), logits, "nearest")]
    masks = [one_hot(resized, num_classes, dtype) for resized in labels]
    ce = mean_over_scales(F.cross_entropy(scale, resized) for scale, resized in zip(logits, labels))
    dice = mean_over_scales(foreground_dice_loss(scale.softmax(dim=1), mask) for scale, mask in zip(logits, masks))
    return (ce + dice) / 2, masks, {"monitor/ce_labelled": ce, "monitor/dice_labelled": dice}


def consistency_loss(logits, probs, pseudo_labels, masks, certain) -> tuple[torch.Tensor, dict]:
    """L_cons = 1/2 (CE + Dice) of the unlabelled outputs against the teacher's labels, on certain voxels; and terms."""
    voxels = (F.cross_entropy(scale, label, reduction="none") for scale, label in zip(logits, pseudo_labels))
    ce = mean_over_scales(masked_mean(values, mask) for values, mask in zip(voxels, certain))
    dice = mean_over_scales(foreground_dice_loss(*scale) for scale in zip(probs, masks, certain))
    return (ce + dice) / 2, {"monitor/ce_pseudo": ce, "monitor/dice_pseudo": dice}


def fused_loss(logits, masks, certain) -> tuple[torch.Tensor, dict]:
    """L_fus = 1/2 (KL + Dice) of the fused outputs against the soft labels `masks`, on certain voxels; and terms."""
    voxels = (
        (torch.xlogy(target, target) - target * scale.log_softmax(dim=1)).mean(dim=1)
        for scale, target in zip(logits, masks)
    )
    kl = mean_over_scales(masked_mean(values, mask) for values, mask in zip(voxels, certain))
    dice = mean_over_scales(
        foreground_dice_loss(scale.softmax(dim=1), target, mask) for scale, target, mask in zip(logits, masks, certain)
    )
    return (kl + dice) / 2, {"monitor/kl_fused": kl, "monitor/dice_fused": dice}


def compute_losses(
    student, teacher, thresholds, volume_l, volume_u, label_l, fuse_weight, active: bool,
    consistency: float = 0.3, fused_weight: float = 0.1, proto_weight: float = 0.1, fused_proto_weight: float = 0.1,
    num_proto: int = 4,
):  # fmt: skip
    """The objective of one step, for any number of classes: (loss, terms). Updates the thresholds in place.

    volume_l, volume_u (L, 1, *size): image i of one is fused with image i of the other; volume_u None for the
    supervised term alone; label_l (L, *size); fuse_weight (L,): lambda; active: step >= warm-up. Lists run over the
    four scales, coarse to fine.
    """
    logits_l, feats_l = outputs(student, volume_l)
    loss_sup, masks_l, terms = supervised_loss(logits_l, label_l)
    if volume_u is None:
        loss = loss_sup / loss_sup.detach()
        terms.update(
            {"monitor/supervised": loss_sup, "loss/supervised": loss, "label/student": hard_label(logits_l[-1])}
        )
        return loss, terms

    # self-aware confidence: a voxel is certain if some p^c of the teacher exceeds tau^c of its scale
    logits_u, feats_u = outputs(student, volume_u)
    probs_u = [logits.softmax(dim=1) for logits in logits_u]
    with torch.no_grad():
        probs_t = [logits.softmax(dim=1) for logits in outputs(teacher, volume_u)[0]]
    pseudo_labels = [hard_label(prob) for prob in probs_t]
    masks_u = [one_hot(label, prob.shape[1], prob.dtype) for label, prob in zip(pseudo_labels, probs_u)]
    certain = thresholds.certain(probs_t)
    loss_cons, cons_terms = consistency_loss(logits_u, probs_u, pseudo_labels, masks_u, certain)

    # fusion: v_i = lambda_i x^l_i + (1 - lambda_i) x^u_i, the soft label the same mix
    weight = fuse_weight.to(probs_u[0].dtype).reshape(-1, *[1] * (volume_l.ndim - 1))
    logits_f, feats_f = outputs(student, weight * volume_l + (1 - weight) * volume_u)
    masks_f = resize_like(weight * masks_l[-1] + (1 - weight) * masks_u[-1], logits_f, "linear")
    loss_fused, fused_terms = fused_loss(logits_f, masks_f, certain)

    # prototypes of the labelled regions aligned with those of the unlabelled and of the fused ones
    protos_l, protos_u, protos_f = (
        prototypes_by_scale(feats, masks, num_proto)
        for feats, masks in ((feats_l, masks_l), (feats_u, masks_u), (feats_f, masks_f))
    )
    loss_lu, loss_lf = alignment_loss(protos_l, protos_u), alignment_loss(protos_l, protos_f)

    if active:
        thresholds.update([prob.detach() for prob in probs_u], masks_u)

    # a term without certain voxels at one scale, or an alignment without any prototype (zero), is left out whole
    some_certain = torch.stack([mask.any() for mask in certain]).all()
    weighted = {
        "supervised": (1.0, loss_sup, loss_sup > 0),
        "consistency": (consistency, loss_cons, some_certain),
        "fused": (fused_weight, loss_fused, some_certain),
        "proto_labelled_unlabelled": (proto_weight, loss_lu, loss_lu > 0),
        "proto_labelled_fused": (fused_proto_weight, loss_lf, loss_lf > 0),
    }
    chosen = [name for name, (factor, *_) in weighted.items() if name == "supervised" or (active and factor > 0)]
    shares = {name: own_share(*weighted[name]) for name in chosen}
    # L = |L_sup| + [step >= warm-up] (0.3 |L_cons| + 0.1 |L_fus| + 0.1 |L_lu| + 0.1 |L_lf|), |x| = x / its own value
    loss = sum(shares.values())

    terms.update({f"loss/{name}": share for name, share in shares.items()})
    terms.update({**undivided(weighted), **cons_terms, **fused_terms, **thresholds.terms(certain)})
    return loss, {**terms, "label/student": hard_label(probs_u[-1]), "label/teacher": pseudo_labels[-1]}


def own_share(factor: float, value: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """factor * value / its own detached value; 0 without a gradient where it is not valid."""
    kept = torch.where(valid, value, torch.zeros_like(value))
    return factor * kept / torch.where(valid, value, torch.ones_like(value)).detach()


def undivided(weighted: dict) -> dict:
    """For the record: the terms before they are divided, NaN where left out, and their weighted sum, from step 0 on."""
    terms, total = {}, 0.0
    for name, (factor, value, valid) in weighted.items():
        terms[f"monitor/{name}"] = torch.where(valid, value, torch.full_like(value, torch.nan))
        total = total + factor * torch.where(valid, value, torch.zeros_like(value)).detach()
    return {**terms, "monitor/weighted_sum": total}


def draw_fuse_weight(rng, count: int) -> torch.Tensor:
    """lambda (count,) ~ U(0.25, 0.75)."""
    return torch.from_numpy(rng.uniform(0.25, 0.75, count))


@one_line_errors
@stoppable
def main(argv=None):
    args = parse_args(argv)
    device = start(args)
    data = load_training_data(args, strong=False, val_cases=args.val_cases)
    use_unlabelled = args.unlabelled == "on"
    num_images = args.batch_size if use_unlabelled else args.labeled_bs
    num_l = args.labeled_bs if data.unlabelled else num_images  # nothing unlabelled: both halves are labelled

    student, teacher = student_and_teacher(data, args, device, scales=4 if use_unlabelled else 1)
    student.feature_source = args.proto_features  # read by unet_ds
    thresholds = ConfidenceThresholds(data.info.num_classes, fixed=args.threshold).to(device)
    losses = compiled(compute_losses, args, device)

    def objective(batch, step):
        volume_l, volume_u = batch["image_w"][:num_l], batch["image_w"][num_l:]
        fuse_weight = draw_fuse_weight(generator(args.seed, "fusion", step), num_l).to(device, non_blocking=True)
        return losses(
            student, teacher, thresholds, volume_l, volume_u if len(volume_u) else None, batch["label"][:num_l].long(),
            fuse_weight, step >= args.warmup_iterations, consistency=args.consistency, fused_weight=args.fused_weight,
            proto_weight=args.proto_weight, fused_proto_weight=args.fused_proto_weight, num_proto=args.num_proto,
        )  # fmt: skip

    late = f"WARNING: the supervised warm-up takes the whole run: --warmup_iterations {args.warmup_iterations}"
    method = Method(
        METHOD, student, make_sgd(student, args), objective, unlabelled_bs=num_images - args.labeled_bs,
        after_step=lambda step: update_parameters(teacher, student, ema_alpha(step, args.ema_decay)),
        state={"teacher": teacher, "thresholds": thresholds},
        note=note_2d(args.net, args.proto_features) if data.info.dims == 2 else "",
        greetings=[late] if num_l < num_images and args.warmup_iterations >= args.max_iterations else [],
    )  # fmt: skip
    return fit(method, data, args)


if __name__ == "__main__":
    sys.exit(main())
