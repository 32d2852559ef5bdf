#!/usr/bin/env python3
"""SPC on bidirectional copy-paste, "Ours (BCP)": pre-training on pasted labelled images, then self-training.

Papers: arXiv 2507.20729 (SPC), arXiv 2305.00673 (BCP). Definitions: docs/METHODS.md sections 1 and 3.

    export DATASET_HOME=/data                                              # holds ACDC/
    python train_Ours_BCP.py --name ACDC --labelnum 10                     # both stages, 7 of 70 patients labelled
    python train_Ours_BCP.py --name ACDC --labelnum 10 --preset baseline   # plain bidirectional copy-paste
    python train_Ours_BCP.py --name ACDC --labelnum 10 --pretrain_iterations 300 --max_iterations 900 \\
        --consistency_rampup 2 --patch_size 64 64 --batch_size 8 --labeled_bs 4    # minutes on a CPU

After an interruption, rerun the same command to resume, in either stage. Everything is written to
runs/<dataset>/Ours_BCP_<labelnum>/seed_<seed>/{pretrain,self}/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

import torch

from dataloaders.files import InputError
from dataloaders.seeding import generator
from dataloaders.training_data import load_training_data
from utils import prototype_memory, style_blending
from utils.cli import Parser, loss_weight, one_line_errors, positive
from utils.copy_paste import box_mask, draw_box, paste
from utils.ema import update_state
from utils.labels import hard_label
from utils.losses import dice_loss, mixed_loss
from utils.prototype_memory import add_contrast_flags, cross_contrast, make_memories
from utils.pseudo_labels import largest_component
from utils.ramps import add_ema_flag, add_ramp_flags, consistency_ramp, late_ramp
from utils.runs.device import set_seed
from utils.runs.folder import run_path
from utils.runs.stopping import stoppable
from utils.runs.weights import WeightsFile, load_what_fits
from utils.style_blending import add_blend_flag, blend_of_step, blend_styles
from utils.training.flags import add_data_flags, add_run_flags, add_training_flags, parse, preset_help
from utils.training.loop import Method, fit, start, student_and_teacher
from utils.training.speed import compiled, make_sgd

METHOD = "Ours_BCP"
PRESETS = {
    "supervised": {"stage": "pretrain", "paste": "off", "blend": "off"},
    "baseline": {"blend": "off", "contrast": "off"},
    **style_blending.ABLATIONS,
    **prototype_memory.ABLATIONS,
}
# The paper's setting, by the data's dimension.
DEFAULTS = {2: {"net": "unet_proj", "batch_size": 24, "labeled_bs": 12, "max_iterations": 30000}}


def parse_args(argv=None):
    parser = Parser(description=__doc__, epilog=preset_help(PRESETS))
    add_data_flags(parser, dims=(2,), labelnum=5)
    add_training_flags(parser, DEFAULTS)
    group = parser.add_argument_group("method")
    group.add_argument(
        "--stage", choices=("all", "pretrain", "self"), default="all",
        help="stages to run; self-training starts from the best weights of pre-training (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--pretrain_iterations", type=positive, default=10000,
        help="iterations of pre-training; --max_iterations is for self-training (default: %(default)s, the paper's)",
    )  # fmt: skip
    group.add_argument(
        "--pretrained", metavar="FILE",
        help="start self-training from these weights, without pre-training (default: the best ones of pre-training)",
    )  # fmt: skip
    add_ramp_flags(group)
    group.add_argument(
        "--u_weight", type=loss_weight, default=0.1,
        help="weight of the pseudo-labelled part of the pasted images (default: %(default)s)",
    )  # fmt: skip
    add_ema_flag(group, "the teacher's EMA factor")
    add_blend_flag(group)
    add_contrast_flags(group)
    group.add_argument(
        "--paste", choices=("on", "off"), default="on",
        help="off: pre-train on whole labelled images, without copy-paste (default: %(default)s)",
    )  # fmt: skip
    add_run_flags(parser, PRESETS)
    args = parse(parser, PRESETS, argv, DEFAULTS)
    if args.labeled_bs % 2 or args.batch_size != 2 * args.labeled_bs:
        parser.error(
            f"--batch_size {args.batch_size} --labeled_bs {args.labeled_bs}: copy-paste pairs quarters of the batch, "
            "so the batch must be a multiple of 4 and half of it labelled"
        )
    if args.pretrained and args.stage == "pretrain":
        parser.error("--pretrained starts self-training, --stage pretrain has none: leave one of them out")
    return args


def compute_pretrain_losses(student, image_w, label_l, lam: Optional[torch.Tensor], perm, mask: Optional[torch.Tensor]):
    """The objective of one pre-training step: (loss, terms).

    image_w (B, 1, H, W), labelled images first; label_l (L, H, W); lam, perm: the draws of style blending, lam None
    for none; mask M (H, W), ones with a box of zeros, None for no paste.
    """
    n = len(label_l)
    image_l = blend_styles(image_w, lam, perm)[:n]
    if mask is None:
        logits, _ = student(image_l)
        loss_dice = dice_loss(logits.softmax(dim=1), label_l)
        loss_ce = torch.nn.functional.cross_entropy(logits, label_l)
    else:
        image_a, image_b = image_l.chunk(2)
        label_a, label_b = label_l.chunk(2)
        logits, _ = student(paste(image_a, image_b, mask))  # a M + b (1 - M)
        loss_dice, loss_ce = mixed_loss(logits, label_a, label_b, mask)
    loss = (loss_dice + loss_ce) / 2  # L = 1/2 (Dice + CE)
    return loss, {"loss/supervised": loss, "monitor/dice": loss_dice, "monitor/ce": loss_ce}


def compute_losses(
    student, teacher, memory_w, memory_s, image_w, image_s, label_l, lam: Optional[torch.Tensor], perm, mask,
    ramp: float, u_weight: float = 0.1, contrast_weight: float = 1.0, contrast: str = "both",
):  # fmt: skip
    """The objective of one self-training step: (loss, terms). Updates the memories in place.

    image_w, image_s (B, 1, H, W), labelled images first; label_l (L, H, W), L = B / 2 even; lam, perm: the draws of
    style blending, lam None for none; mask M (H, W), ones with a box of zeros; ramp: r(step).
    """
    n, num_classes = len(label_l), memory_w.weights.shape[0]
    image_l = blend_styles(image_w, lam, perm)[:n]
    (a, b), (label_a, label_b) = image_l.chunk(2), label_l.chunk(2)
    (u_a, u_b), (s_a, s_b) = image_w[n:].chunk(2), image_s[n:].chunk(2)

    # 1. pseudo labels: the student's arg-max, of each class only the largest component
    logits_ua, feat_ua = student(u_a)
    logits_ub, feat_ub = student(u_b)
    pseudo_label_a, pseudo_label_b = (
        largest_component(hard_label(logits), num_classes) for logits in (logits_ua, logits_ub)
    )

    # 2. paste both ways, two forwards
    logits_u, feat_u = student(paste(s_a, a, mask))  # in_u = s_a M + a (1 - M)
    logits_l, feat_l = student(paste(b, s_b, mask))  # in_l = b M + s_b (1 - M)

    # 3. L_mix = 1/2 (all four Dice and CE terms); pseudo labels weigh 0.1 r
    dice_u, ce_u = mixed_loss(logits_u, pseudo_label_a, label_a, mask, u_weight * ramp, 1.0)
    dice_l, ce_l = mixed_loss(logits_l, label_b, pseudo_label_b, mask, 1.0, u_weight * ramp)
    loss_mix = (dice_u + ce_u + dice_l + ce_l) / 2
    terms = {"loss/mix": loss_mix, "monitor/dice_in_u": dice_u, "monitor/ce_in_u": ce_u}
    terms.update({"monitor/dice_in_l": dice_l, "monitor/ce_in_l": ce_l, "monitor/ramp": ramp})
    terms["label/student"] = torch.cat([pseudo_label_a, pseudo_label_b])

    # L_pc: each view against the other's prototypes, with the teacher's labels; the strong view is the pasted one
    term_pc = 0.0
    if contrast != "off":
        with torch.no_grad():
            label_w_t = torch.cat([hard_label(teacher(u_a)[0]), hard_label(teacher(u_b)[0])])
            label_s_t = paste(hard_label(teacher(s_a)[0]), hard_label(teacher(s_b)[0]), mask)
        z_w = student.proj_head(torch.cat([feat_ua, feat_ub]))
        z_s = student.proj_head(paste(feat_u, feat_l, mask))
        weak = torch.cat([logits_ua, logits_ub]).softmax(dim=1), z_w, label_w_t
        strong = paste(logits_u, logits_l, mask).softmax(dim=1), z_s, label_s_t
        loss_pc, halves = cross_contrast(memory_w, memory_s, weak, strong, contrast)
        term_pc = ramp * contrast_weight * loss_pc
        terms.update({"loss/contrast": term_pc, "label/teacher": label_w_t, **halves})

    return loss_mix + term_pc, terms  # 4. L = L_mix + r(step) L_pc


def run_stage(stage: str, args, data, device, start_from: Optional[Path]) -> int:
    """Run one stage in its own folder, self-training from the weights `start_from`; returns the script's exit code."""
    args = argparse.Namespace(**vars(args))
    if stage == "pretrain":
        args.max_iterations = args.pretrain_iterations
    data.train.strong = uses_strong = stage == "self" and bool(data.unlabelled)
    num_images = args.batch_size if args.blend != "off" or uses_strong else args.labeled_bs
    num_l = args.labeled_bs if data.unlabelled else num_images  # nothing unlabelled: both halves are labelled

    student, teacher = student_and_teacher(data, args, device)
    optimizer, loaded = make_sgd(student, args), ""
    if start_from is not None:
        weights = WeightsFile.read(start_from)
        complete, loaded = load_what_fits(student, weights.state, start_from)
        teacher.load_state_dict(student.state_dict())
        if complete and "opt" in weights.meta:
            optimizer.load_state_dict(weights.meta["opt"])
            loaded += ", with the optimiser's state"
    # before pre-training too: a network without a projection head is refused at once
    memories = make_memories(student, data.info.num_classes, args) if args.stage != "pretrain" else []
    losses, pretrain_losses = (compiled(f, args, device) for f in (compute_losses, compute_pretrain_losses))

    def objective(batch, step):
        lam, perm = blend_of_step(args, step, num_l, num_images, device)
        mask = None
        if args.paste == "on":
            box = draw_box(generator(args.seed, "paste", step), data.patch_size)
            mask = box_mask(box, data.patch_size, device)
        image_w, label_l = batch["image_w"], batch["label"][:num_l].long()
        if not uses_strong:
            return pretrain_losses(student, image_w, label_l, lam, perm, mask)
        return losses(
            student, teacher, *memories, image_w, batch["image_s"], label_l, lam, perm, mask,
            consistency_ramp(step, args.consistency_rampup),
            u_weight=args.u_weight, contrast_weight=args.contrast_weight, contrast=args.contrast,
        )  # fmt: skip

    method = Method(
        METHOD, student, optimizer, objective, unlabelled_bs=num_images - args.labeled_bs,
        keep_optimizer=stage == "pretrain",
        greetings=[f"pre-training: {args.max_iterations:,} iterations, --pretrain_iterations sets them"],
    )  # fmt: skip
    if stage == "self":
        late = late_ramp(args.consistency_rampup, args.max_iterations) if uses_strong else ""
        method.greetings = [f"self-training starts from {loaded}", late]
        method.after_step = lambda step: update_state(teacher, student, args.ema_decay)
        method.state = {"teacher": teacher, "memory_w": memories[0], "memory_s": memories[1]}
    return fit(method, data, args, run_path(args, METHOD) / stage)


@one_line_errors
@stoppable
def main(argv=None):
    args = parse_args(argv)
    device = start(args)
    start_from = Path(args.pretrained) if args.pretrained else run_path(args, METHOD) / "pretrain" / "best.pth"
    if args.pretrained and not start_from.is_file():
        raise InputError(f"--pretrained {start_from}: no such file")
    data = load_training_data(args)
    if args.stage != "self" and not args.pretrained:
        code = run_stage("pretrain", args, data, device, None)
        if code or args.stage == "pretrain":
            return code
    if not start_from.is_file():
        raise InputError(
            f"{start_from}: no such weights; run --stage pretrain first, or give a weights file with --pretrained"
        )
    set_seed(args.seed, args.deterministic)
    return run_stage("self", args, data, device, start_from)


if __name__ == "__main__":
    sys.exit(main())
