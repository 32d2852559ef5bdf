#!/usr/bin/env python3
"""SPC with a mean teacher, "Ours (MT)": style-aware blending and prototype-based cross-contrast consistency.

Paper: arXiv 2507.20729. What is computed, number by number: docs/METHODS.md sections 1 and 2.

    export DATASET_HOME=/data                                             # holds ACDC/
    python train_Ours_MT.py --name ACDC --labelnum 5                      # 3 of 70 patients labelled
    python train_Ours_MT.py --name ACDC --labelnum 5 --preset supervised  # the lower bound on the same split
    python train_Ours_MT.py --name ACDC --labelnum 5 --max_iterations 900 --consistency_rampup 2 \
        --patch_size 64 64 --batch_size 8 --labeled_bs 4                  # minutes on a CPU

The same command resumes a run that was stopped. Everything it writes lies in runs/<dataset>/Ours_MT_<labelnum>/.
"""

from __future__ import annotations

import sys
from typing import Optional

import torch
import torch.nn.functional as F

from dataloaders.seeding import generator
from dataloaders.training_data import load_training_data
from networks import net_factory
from utils.device import pick_device, set_seed
from utils.ema import update_parameters
from utils.evaluation import validator
from utils.inference import make_predictor
from utils.labels import hard_label
from utils.losses import dice_loss
from utils.options import (
    Parser,
    add_data_flags,
    add_ramp_flags,
    add_run_flags,
    add_training_flags,
    array_size,
    below_one,
    loss_weight,
    one_line_errors,
    parse,
    preset_help,
)
from utils.prototypes import PrototypeMemory, contrast_loss
from utils.ramps import consistency_ramp, ema_alpha
from utils.run_folder import open_run
from utils.speed import compiled, make_sgd, place, resolve_speed
from utils.stopping import stoppable
from utils.style_blending import BLEND_MODES, blend_styles, draw_blend
from utils.training import Trainer, two_stream_loader

METHOD = "Ours_MT"
PRESETS = {
    "supervised": {"unlabelled": "off", "blend": "off", "contrast": "off"},
    "baseline": {"blend": "off", "contrast": "off"},
    "no-blending": {"blend": "off"},
    "no-contrast": {"contrast": "off"},
    "weak-to-strong": {"contrast": "weak-to-strong"},
    "strong-to-weak": {"contrast": "strong-to-weak"},
    "memory-32": {"memory_size": 32},
    "memory-64": {"memory_size": 64},
    "memory-128": {"memory_size": 128},
    "memory-256": {"memory_size": 256},
    "mix-beta": {"blend": "beta"},
    "mix-binomial": {"blend": "binomial"},
}


# The paper's setting, by the data's dimension.
DEFAULTS = {2: {"batch_size": 24, "labeled_bs": 12, "max_iterations": 30000}}


def parse_args(argv=None):
    parser = Parser(description=__doc__, epilog=preset_help(PRESETS))
    add_data_flags(parser, dims=(2,), labelnum=5)
    add_training_flags(parser, DEFAULTS)
    group = parser.add_argument_group("method")
    add_ramp_flags(group)
    group.add_argument("--consistency", type=loss_weight, default=0.1, help="weight of L_su (default: %(default)s)")
    group.add_argument("--contrast_weight", type=loss_weight, default=1.0, help="weight of L_pc (default: %(default)s)")
    group.add_argument(
        "--ema_decay",
        type=below_one,
        default=0.99,
        help="upper limit of the teacher's EMA factor (default: %(default)s)",
    )
    group.add_argument(
        "--memory_size",
        type=array_size,
        default=128,
        help="entries of each class's prototype ring (default: %(default)s)",
    )
    group.add_argument(
        "--blend", choices=(*BLEND_MODES, "off"), default="uniform",
        help="mixing coefficient of style blending: U(0,1), Beta(1/2,1/2), 0 or 1; off: none (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--contrast", choices=("both", "weak-to-strong", "strong-to-weak", "off"), default="both",
        help="halves of L_pc in use; one alone goes without the 1/2 (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--unlabelled", choices=("on", "off"), default="on",
        help="off: only labelled images go forward, the loss is L_l (default: %(default)s)",
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
    image_l = image_w[:n] if lam is None else blend_styles(image_w, lam, perm)[:n]
    logits_w, feat_w = student(torch.cat([image_l, image_w[n:]]))  # one forward: BN sees both
    prob_w = logits_w.softmax(dim=1)
    loss_ce = F.cross_entropy(logits_w[:n], label_l)
    loss_dice = dice_loss(prob_w[:n], label_l)
    loss = loss_l = (loss_ce + loss_dice) / 2
    terms = {"loss/supervised": loss_l, "monitor/ce": loss_ce, "monitor/dice": loss_dice}
    if n == len(image_w):
        return loss, {**terms, "label/student": hard_label(prob_w)}

    # L_su = Dice(p^s_u, y^w_u): the strong view learns from the student's own weak labels
    logits_s, feat_s = student(image_s)
    prob_s = logits_s.softmax(dim=1)
    pseudo_label_w = hard_label(prob_w[n:].detach())
    loss_su = dice_loss(prob_s[n:], pseudo_label_w)
    term_su = ramp * consistency * loss_su
    loss = loss + term_su
    terms.update({"loss/consistency": term_su, "monitor/consistency": loss_su, "monitor/ramp": ramp})
    terms["label/student"] = pseudo_label_w
    if contrast == "off":
        return loss, terms

    # L_pc = 1/2 [CE(z_w . P_s, y^xi_w) + CE(z_s . P_w, y^xi_s)]: each view against the other's prototypes
    with torch.no_grad():
        label_w_t = hard_label(teacher(image_w[n:])[0])
        label_s_t = hard_label(teacher(image_s[n:])[0])
    z_w, z_s = student.proj_head(feat_w[n:]), student.proj_head(feat_s[n:])
    memory_w.enqueue(prob_w[n:], z_w)
    memory_s.enqueue(prob_s[n:], z_s)
    halves = {
        "weak-to-strong": contrast_loss(z_w, memory_s.prototypes(), label_w_t),
        "strong-to-weak": contrast_loss(z_s, memory_w.prototypes(), label_s_t),
    }
    loss_pc = halves[contrast] if contrast in halves else sum(halves.values()) / 2
    term_pc = ramp * contrast_weight * loss_pc
    terms.update({"loss/contrast": term_pc, "monitor/contrast": loss_pc, "label/teacher": label_w_t})
    terms.update({f"monitor/{name}": half for name, half in halves.items()})
    return loss + term_pc, terms  # L = L_l + r(step) (0.1 L_su + L_pc)


@one_line_errors
@stoppable
def main(argv=None):
    args = parse_args(argv)
    device = pick_device(args.gpu, args.amp)
    resolve_speed(args, device)
    set_seed(args.seed, args.deterministic)
    use_unlabelled = args.unlabelled == "on"
    data = load_training_data(args, strong=use_unlabelled)
    num_images = args.batch_size if use_unlabelled else args.labeled_bs
    num_l = args.labeled_bs if data.unlabelled else num_images  # nothing unlabelled: both halves are labelled

    student, teacher = (place(net_factory("unet_proj", 1, data.info.num_classes), device, args) for _ in range(2))
    teacher.requires_grad_(False)
    memory_w, memory_s = (PrototypeMemory(data.info.num_classes, args.memory_size).to(device) for _ in range(2))
    optimizer = make_sgd(student, args)
    run, description = open_run(args, METHOD, "unet_proj", data, student, device)

    losses = compiled(compute_losses, args, device)

    def objective(batch, step):
        lam = perm = None
        if args.blend != "off":
            rng = generator(args.seed, "style", step)
            lam, perm = (draw.to(device, non_blocking=True) for draw in draw_blend(rng, num_l, num_images, args.blend))
        return losses(
            student, teacher, memory_w, memory_s, batch["image_w"], batch.get("image_s"), batch["label"][:num_l].long(),
            lam, perm, consistency_ramp(step, args.consistency_rampup),
            args.consistency, args.contrast_weight, args.contrast,
        )  # fmt: skip

    def update_teacher(step):
        update_parameters(teacher, student, ema_alpha(step, args.ema_decay))

    validate = validator(make_predictor(student, data.info, data.patch_size), data.selection)
    loader = two_stream_loader(data, args, num_images - args.labeled_bs, device)
    modules = {"student": student, "teacher": teacher, "memory_w": memory_w, "memory_s": memory_s}
    trainer = Trainer(
        run,
        args,
        modules,
        optimizer,
        objective,
        loader,
        validate,
        device,
        description,
        data.info.classes,
        update_teacher,
    )
    return trainer.fit()


if __name__ == "__main__":
    sys.exit(main())
