#!/usr/bin/env python3
"""SPC with a mean teacher, "Ours (MT)": style-aware blending and prototype-based cross-contrast consistency.

Paper: arXiv 2507.20729. Definitions: docs/METHODS.md sections 1 and 2.

    export DATASET_HOME=/data                                             # holds ACDC/
    python train_Ours_MT.py --name ACDC --labelnum 5                      # 3 of 70 patients labelled
    python train_Ours_MT.py --name ACDC --labelnum 5 --preset supervised  # the lower bound on the same split
    python train_Ours_MT.py --name ACDC --labelnum 5 --max_iterations 900 --consistency_rampup 2 \\
        --patch_size 64 64 --batch_size 8 --labeled_bs 4                  # minutes on a CPU

After an interruption, rerun the same command to resume. Everything is written to runs/<dataset>/Ours_MT_<labelnum>/.
"""

from __future__ import annotations

import sys
from typing import Optional

import torch
import torch.nn.functional as F

from dataloaders.training_data import load_training_data
from utils import prototype_memory, style_blending
from utils.cli import Parser, loss_weight, one_line_errors
from utils.ema import update_parameters
from utils.labels import hard_label
from utils.losses import dice_loss
from utils.prototype_memory import add_contrast_flags, cross_contrast, make_memories
from utils.ramps import add_ema_flag, add_ramp_flags, consistency_ramp, ema_alpha, late_ramp
from utils.runs.stopping import stoppable
from utils.style_blending import add_blend_flag, blend_of_step, blend_styles
from utils.training.flags import add_data_flags, add_run_flags, add_training_flags, parse, preset_help
from utils.training.loop import Method, fit, start, student_and_teacher
from utils.training.speed import compiled, make_sgd

METHOD = "Ours_MT"
PRESETS = {
    "supervised": {"unlabelled": "off", "blend": "off", "contrast": "off"},
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
    add_ramp_flags(group)
    group.add_argument(
        "--consistency", type=loss_weight, default=0.1,
        help="weight of the consistency loss L_su (default: %(default)s)",
    )  # fmt: skip
    add_ema_flag(group, "upper limit of the teacher's EMA factor")
    add_blend_flag(group)
    add_contrast_flags(group)
    group.add_argument(
        "--unlabelled", choices=("on", "off"), default="on",
        help="off: train on labelled images only, with the supervised loss L_l (default: %(default)s)",
    )  # fmt: skip
    add_run_flags(parser, PRESETS)
    return parse(parser, PRESETS, argv, DEFAULTS)


def compute_losses(
    student, teacher, memory_w, memory_s, image_w, image_s, label_l, lam: Optional[torch.Tensor], perm, ramp: float,
    consistency: float = 0.1, contrast_weight: float = 1.0, contrast: str = "both",
):  # fmt: skip
    """The objective of one step: (loss, terms). Updates the memories in place.

    image_w, image_s (B, 1, H, W), labelled images first; label_l (L, H, W) for the first L of them. lam, perm: the
    draws of style blending, lam None for none; ramp: r(step). With L == B, L = L_l alone.
    """
    n = len(label_l)
    # L_l = 1/2 (CE + Dice) on the labelled images, their styles blended across the streams
    image_l = blend_styles(image_w, lam, perm)[:n]
    logits_w, feat_w = student(torch.cat([image_l, image_w[n:]]))  # one forward: BN sees both
    prob_w = logits_w.softmax(dim=1)
    loss_ce = F.cross_entropy(logits_w[:n], label_l)
    loss_dice = dice_loss(prob_w[:n], label_l)
    loss_l = (loss_ce + loss_dice) / 2
    terms = {"loss/supervised": loss_l, "monitor/ce": loss_ce, "monitor/dice": loss_dice}
    if n == len(image_w):
        return loss_l, {**terms, "label/student": hard_label(prob_w)}

    # L_su = Dice(p^s_u, y^w_u): the strong view learns from the student's own weak labels
    logits_s, feat_s = student(image_s)
    prob_s = logits_s.softmax(dim=1)
    pseudo_label_w = hard_label(prob_w[n:])
    loss_su = dice_loss(prob_s[n:], pseudo_label_w)
    term_su, term_pc = ramp * consistency * loss_su, 0.0
    terms.update({"loss/consistency": term_su, "monitor/consistency": loss_su, "monitor/ramp": ramp})
    terms["label/student"] = pseudo_label_w

    # L_pc: each view against the other's prototypes, with the teacher's labels
    if contrast != "off":
        with torch.no_grad():
            label_w_t = hard_label(teacher(image_w[n:])[0])
            label_s_t = hard_label(teacher(image_s[n:])[0])
        z_w, z_s = student.proj_head(feat_w[n:]), student.proj_head(feat_s[n:])
        weak, strong = (prob_w[n:], z_w, label_w_t), (prob_s[n:], z_s, label_s_t)
        loss_pc, halves = cross_contrast(memory_w, memory_s, weak, strong, contrast)
        term_pc = ramp * contrast_weight * loss_pc
        terms.update({"loss/contrast": term_pc, "label/teacher": label_w_t, **halves})

    return loss_l + term_su + term_pc, terms  # L = L_l + r(step) (0.1 L_su + L_pc)


@one_line_errors
@stoppable
def main(argv=None):
    args = parse_args(argv)
    device = start(args)
    use_unlabelled = args.unlabelled == "on"
    data = load_training_data(args, strong=use_unlabelled)
    num_images = args.batch_size if use_unlabelled else args.labeled_bs
    num_l = args.labeled_bs if data.unlabelled else num_images  # nothing unlabelled: both halves are labelled

    student, teacher = student_and_teacher(data, args, device)
    memory_w, memory_s = make_memories(student, data.info.num_classes, args)
    losses = compiled(compute_losses, args, device)

    def objective(batch, step):
        lam, perm = blend_of_step(args, step, num_l, num_images, device)
        return losses(
            student, teacher, memory_w, memory_s, batch["image_w"], batch.get("image_s"), batch["label"][:num_l].long(),
            lam, perm, consistency_ramp(step, args.consistency_rampup),
            consistency=args.consistency, contrast_weight=args.contrast_weight, contrast=args.contrast,
        )  # fmt: skip

    method = Method(
        METHOD, student, make_sgd(student, args), objective, unlabelled_bs=num_images - args.labeled_bs,
        after_step=lambda step: update_parameters(teacher, student, ema_alpha(step, args.ema_decay)),
        state={"teacher": teacher, "memory_w": memory_w, "memory_s": memory_s},
        greetings=[late_ramp(args.consistency_rampup, args.max_iterations)] if num_l < num_images else [],
    )  # fmt: skip
    return fit(method, data, args)


if __name__ == "__main__":
    sys.exit(main())
