#!/usr/bin/env python3
"""DuCiSC: dual cross-image semantic consistency with self-aware pseudo labels.

Paper: IEEE TMI 2025, arXiv 2507.21440. What is computed, number by number: docs/METHODS.md section 4.

    export DATASET_HOME=/data                                          # holds LA/, Pancreas/, ACDC/
    python train_DuCiSC.py --name LA --labelnum 8 --gpu 0              # 8 of 80 scans labelled, the paper's setting
    python train_DuCiSC.py --name Pancreas --labelnum 12 --gpu 0
    python train_DuCiSC.py --name ACDC --labelnum 5                    # 2-D: our reading of the paper
    python train_DuCiSC.py --name LA --labelnum 8 --max_iterations 1500 --warmup_iterations 1000 \
        --base_lr 0.03 --patch_size 48 48 32 --protocol holdout --val_stride 48 32    # a small run on a CPU

The same command resumes a run that was stopped. Everything it writes lies in runs/<dataset>/DuCiSC_<labelnum>/.
"""

from __future__ import annotations

import sys
from typing import Sequence

import torch
import torch.nn.functional as F

from dataloaders.datasets import get_dataset
from dataloaders.seeding import generator
from dataloaders.training_data import load_training_data
from networks import net_factory
from utils.device import pick_device, set_seed
from utils.ema import update_parameters
from utils.evaluation import validator
from utils.inference import check_stride, make_predictor
from utils.labels import hard_label, one_hot
from utils.losses import foreground_dice_loss, masked_mean
from utils.options import (
    Parser,
    add_data_flags,
    add_run_flags,
    add_training_flags,
    array_size,
    below_one,
    loss_weight,
    not_negative,
    one_line_errors,
    parse,
    positive,
    preset_help,
)
from utils.prototypes import alignment_loss, region_prototypes
from utils.ramps import ema_alpha
from utils.run_folder import open_run
from utils.speed import compiled, make_sgd, place, resolve_speed
from utils.stopping import stoppable
from utils.thresholds import ConfidenceThresholds
from utils.training import Trainer, two_stream_loader

METHOD = "DuCiSC"
PRESETS = {
    "supervised": {"unlabelled": "off"},
    "no-consistency": {"consistency": 0.0},
    "no-fusion": {"fused_weight": 0.0},
    "no-proto": {"proto_weight": 0.0, "fused_proto_weight": 0.0},
    "no-fused-proto": {"fused_proto_weight": 0.0},
    "fixed-threshold": {"threshold": 0.5},
    "num-proto-1": {"num_proto": 1},
    "num-proto-2": {"num_proto": 2},
    "num-proto-3": {"num_proto": 3},
    "num-proto-4": {"num_proto": 4},
}
# The paper's settings by the data's dimension.
DEFAULTS = {
    2: {"batch_size": 24, "labeled_bs": 12, "max_iterations": 30000, "val_start": 200, "net": "unet_ds"},
    3: {"batch_size": 4, "labeled_bs": 2, "max_iterations": 15000, "val_start": 800, "net": "ducisc"},
}


def note_2d(net: str, proto_features: str) -> str:
    """What every log and table says of a 2-D run."""
    origin = {
        "unet_ds": f"the release's compiled network (unet_ds), prototypes from {proto_features} features",
        "ducisc": "the V-Net with 2-D convolutions (ducisc), not the release's 2-D network",
    }[net]
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
        "--net", choices=("unet_ds", "ducisc"),
        help="network: in 2-D unet_ds, the release's, or ducisc, a V-Net; in 3-D ducisc (default: unet_ds in 2-D)",
    )  # fmt: skip
    group.add_argument(
        "--proto_features", choices=("encoder", "decoder"), default="encoder",
        help="features of unet_ds that prototypes are taken from: the encoder's, as the released network hands them "
        "out, or the inputs of its four heads, as the paper's figure shows; our reading (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--warmup_iterations", type=not_negative, default=2000,
        help="iterations of supervised warm-up with frozen thresholds; use a small value for short runs "
        "(default: %(default)s, the paper's)",
    )  # fmt: skip
    group.add_argument(
        "--consistency", type=loss_weight, default=0.3, help="weight of consistency (default: %(default)s)"
    )
    group.add_argument("--fused_weight", type=loss_weight, default=0.1, help="weight of fusion (default: %(default)s)")
    group.add_argument(
        "--proto_weight", type=loss_weight, default=0.1,
        help="weight of labelled-unlabelled alignment (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--fused_proto_weight", type=loss_weight, default=0.1,
        help="weight of labelled-fused alignment (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--num_proto", type=int, choices=(1, 2, 3, 4), default=4,
        help="number of scales, from the coarsest, whose prototypes are aligned (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--threshold", type=below_one, default=0.0,
        help="a fixed confidence threshold; 0: moving ones, from 1/C, by scale and class (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--ema_decay",
        type=below_one,
        default=0.99,
        help="upper limit of the teacher's EMA factor (default: %(default)s)",
    )
    group.add_argument(
        "--unlabelled", choices=("on", "off"), default="on",
        help="off: only labelled images go forward, the loss is the supervised term (default: %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("cost of validation (3-D)")
    group.add_argument(
        "--val_stride", type=array_size, nargs=2, metavar=("XY", "Z"),
        help="stride of the sliding window in voxels (default: the dataset's, as in the test: LA 18 4, Pancreas 16 16)",
    )  # fmt: skip
    group.add_argument("--val_cases", type=positive, metavar="N", help="validate on the first N cases (default: all)")
    add_run_flags(parser, PRESETS, val_start=True)
    args = parse(parser, PRESETS, argv, DEFAULTS)
    info = get_dataset(args.name, args.root_path)
    if info.dims == 3:
        check_stride("--val_stride", args.val_stride or info.stride, args.patch_size or info.patch_size)
    if args.net == "unet_ds" and info.dims == 3:
        parser.error("--net unet_ds: a 2-D network; in 3-D leave --net out")
    if args.net == "ducisc" and args.proto_features != "encoder":
        parser.error("--proto_features decoder: only for --net unet_ds; ducisc hands out its summed-skip features")
    return args


def resize_like(values: torch.Tensor, logits: Sequence[torch.Tensor], mode: str) -> list[torch.Tensor]:
    """values (B, K, *size) at each scale's size; mode "nearest" or "linear" (bi- or trilinear, align_corners=False)."""
    if mode == "linear":
        mode = {4: "bilinear", 5: "trilinear"}[values.ndim]
    return [
        values if scale.shape[2:] == values.shape[2:] else F.interpolate(values, size=scale.shape[2:], mode=mode)
        for scale in logits
    ]


def mean_over_scales(values: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(values)).mean()


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
    # supervised: 1/2 (CE + Dice) at every scale against the nearest-resized labels
    logits_l, feats_l = student(volume_l)
    num_classes, dtype = logits_l[0].shape[1], logits_l[0].dtype
    labels_l = [label[:, 0].long() for label in resize_like(label_l[:, None].to(dtype), logits_l, "nearest")]
    masks_l = [one_hot(label, num_classes, dtype) for label in labels_l]
    ce_l = mean_over_scales([F.cross_entropy(logits, label) for logits, label in zip(logits_l, labels_l)])
    dice_l = mean_over_scales(
        [foreground_dice_loss(logits.softmax(dim=1), mask) for logits, mask in zip(logits_l, masks_l)]
    )
    loss_sup = (ce_l + dice_l) / 2
    terms = {"monitor/supervised": loss_sup, "monitor/ce_labelled": ce_l, "monitor/dice_labelled": dice_l}
    if volume_u is None:
        terms["loss/supervised"] = loss = loss_sup / loss_sup.detach()
        return loss, {**terms, "label/student": hard_label(logits_l[-1])}

    # self-aware confidence: a voxel is certain if some p^c of the teacher exceeds tau^c of its scale
    logits_u, feats_u = student(volume_u)
    probs_u = [logits.softmax(dim=1) for logits in logits_u]
    with torch.no_grad():
        probs_t = [logits.softmax(dim=1) for logits in teacher(volume_u)[0]]
    pseudo_labels = [hard_label(prob) for prob in probs_t]
    masks_u = [one_hot(label, num_classes, dtype) for label in pseudo_labels]
    certain = thresholds.certain(probs_t)
    all_scales_certain = torch.stack([mask.any() for mask in certain]).all()

    # consistency on the certain voxels
    ce_u = mean_over_scales(
        [
            masked_mean(F.cross_entropy(logits, label, reduction="none"), mask)
            for logits, label, mask in zip(logits_u, pseudo_labels, certain)
        ]
    )
    dice_u = mean_over_scales([foreground_dice_loss(*args) for args in zip(probs_u, masks_u, certain)])
    loss_cons = (ce_u + dice_u) / 2

    # fusion: v_i = lambda_i x^l_i + (1 - lambda_i) x^u_i, the soft label the same mix
    weight = fuse_weight.to(dtype).reshape(-1, *[1] * (volume_l.ndim - 1))
    logits_f, feats_f = student(weight * volume_l + (1 - weight) * volume_u)
    soft_label = weight * masks_l[-1] + (1 - weight) * masks_u[-1]
    masks_f = resize_like(soft_label, logits_f, "linear")
    kl_f = mean_over_scales(
        [
            masked_mean((torch.xlogy(target, target) - target * logits.log_softmax(dim=1)).mean(dim=1), mask)
            for logits, target, mask in zip(logits_f, masks_f, certain)
        ]
    )
    dice_f = mean_over_scales(
        [foreground_dice_loss(logits.softmax(dim=1), *args) for logits, *args in zip(logits_f, masks_f, certain)]
    )
    loss_fused = (kl_f + dice_f) / 2

    # prototypes of the labelled region aligned with those of the unlabelled and of the fused one
    def prototypes(feats, masks):
        feats = feats[: len(masks)][::-1]  # those of the scales that have logits, coarse to fine
        return [region_prototypes(feat, mask) for feat, mask in zip(feats[:num_proto], masks)]

    protos_l = prototypes(feats_l, masks_l)
    loss_proto_lu = alignment_loss(protos_l, prototypes(feats_u, masks_u))
    loss_proto_lf = alignment_loss(protos_l, prototypes(feats_f, masks_f))

    if active:
        thresholds.update([prob.detach() for prob in probs_u], masks_u)

    # every term divided by its own value, then weighted; a term without certain voxels at one scale, or an alignment
    # without any prototype (zero), is left out whole and logged as NaN
    weighted = {
        "supervised": (1.0, loss_sup, loss_sup > 0),
        "consistency": (consistency, loss_cons, all_scales_certain),
        "fused": (fused_weight, loss_fused, all_scales_certain),
        "proto_labelled_unlabelled": (proto_weight, loss_proto_lu, loss_proto_lu > 0),
        "proto_labelled_fused": (fused_proto_weight, loss_proto_lf, loss_proto_lf > 0),
    }
    loss, undivided_sum = 0.0, 0.0
    for name, (factor, value, valid) in weighted.items():
        kept = torch.where(valid, value, torch.zeros_like(value))
        undivided_sum = undivided_sum + factor * kept.detach()
        terms[f"monitor/{name}"] = torch.where(valid, value, torch.full_like(value, torch.nan))
        if name == "supervised" or (active and factor > 0):
            terms[f"loss/{name}"] = factor * kept / torch.where(valid, value, torch.ones_like(value)).detach()
            loss = loss + terms[f"loss/{name}"]
    terms.update({"monitor/ce_pseudo": ce_u, "monitor/dice_pseudo": dice_u, "monitor/kl_fused": kl_f})
    terms.update({"monitor/dice_fused": dice_f, "monitor/weighted_sum": undivided_sum})
    for scale, (mask, tau) in enumerate(zip(certain, thresholds.tau)):
        terms[f"monitor/certain_share_scale{scale}"] = mask.mean()
        terms.update({f"monitor/threshold_scale{scale}_class{c}": value.clone() for c, value in enumerate(tau)})
    return loss, {**terms, "label/student": hard_label(probs_u[-1]), "label/teacher": pseudo_labels[-1]}


def draw_fuse_weight(rng, count: int) -> torch.Tensor:
    """lambda (count,) ~ U(0.25, 0.75)."""
    return torch.from_numpy(rng.uniform(0.25, 0.75, count))


@one_line_errors
@stoppable
def main(argv=None):
    args = parse_args(argv)
    device = pick_device(args.gpu, args.amp)
    resolve_speed(args, device)
    set_seed(args.seed, args.deterministic)
    data = load_training_data(args, strong=False, val_cases=args.val_cases)
    use_unlabelled = args.unlabelled == "on"
    num_images = args.batch_size if use_unlabelled else args.labeled_bs
    num_l = args.labeled_bs if data.unlabelled else num_images  # nothing unlabelled: both halves are labelled

    student, teacher = (
        place(net_factory(args.net, 1, data.info.num_classes, data.info.dims), device, args) for _ in range(2)
    )
    if args.net == "unet_ds":
        student.feature_source = args.proto_features
    teacher.requires_grad_(False)
    thresholds = ConfidenceThresholds(data.info.num_classes, fixed=args.threshold).to(device)
    optimizer = make_sgd(student, args)
    run, description = open_run(args, METHOD, args.net, data, student, device)
    if data.info.dims == 2:
        description["note"] = note_2d(args.net, args.proto_features)
        run.say(description["note"])

    losses = compiled(compute_losses, args, device)

    def objective(batch, step):
        volume_l, volume_u = batch["image_w"][:num_l], batch["image_w"][num_l:]
        fuse_weight = draw_fuse_weight(generator(args.seed, "fusion", step), num_l).to(device, non_blocking=True)
        return losses(
            student, teacher, thresholds, volume_l, volume_u if len(volume_u) else None, batch["label"][:num_l].long(),
            fuse_weight, step >= args.warmup_iterations, args.consistency, args.fused_weight, args.proto_weight,
            args.fused_proto_weight, args.num_proto,
        )  # fmt: skip

    def update_teacher(step):
        update_parameters(teacher, student, ema_alpha(step, args.ema_decay))

    validate = validator(make_predictor(student, data.info, data.patch_size, args.val_stride), data.selection)
    loader = two_stream_loader(data, args, num_images - args.labeled_bs, device)
    modules = {"student": student, "teacher": teacher, "thresholds": thresholds}
    trainer = Trainer(
        run, args, modules, optimizer, objective, loader, validate, device, description, data.info.classes,
        update_teacher, args.val_start,
    )  # fmt: skip
    return trainer.fit()


if __name__ == "__main__":
    sys.exit(main())
