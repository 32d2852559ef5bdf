"""Prototype memory and cross-contrast. Source: docs/METHODS.md section 1; arXiv 2507.20729."""

from __future__ import annotations

import argparse
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import nn

from dataloaders.files import InputError
from utils.cli import array_size, loss_weight
from utils.labels import hard_label, one_hot
from utils.pooling import sum_over_pixels

EPSILON = 1e-8
DIRECTIONS = ("both", "weak-to-strong", "strong-to-weak", "off")
ABLATIONS = {
    "no-contrast": {"contrast": "off"},
    "weak-to-strong": {"contrast": "weak-to-strong"},
    "strong-to-weak": {"contrast": "strong-to-weak"},
    **{f"memory-{size}": {"memory_size": size} for size in (32, 64, 128, 256)},
}


def add_contrast_flags(group: argparse._ArgumentGroup) -> None:
    """--contrast, --contrast_weight, --memory_size"""
    group.add_argument(
        "--contrast",
        choices=DIRECTIONS,
        default="both",
        help="which halves of the cross-contrast loss L_pc to use; a single half is not multiplied by 1/2 (default: "
        "%(default)s)",
    )
    group.add_argument("--contrast_weight", type=loss_weight, default=1.0, help="weight of L_pc (default: %(default)s)")
    group.add_argument(
        "--memory_size",
        type=array_size,
        default=128,
        help="entries per class in the prototype memory (default: %(default)s)",
    )


def make_memories(net: nn.Module, num_classes: int, args: argparse.Namespace) -> list[PrototypeMemory]:
    """The memories of the weak and of the strong view, on the network's device.

    A network's projected features have 16 channels unless its attribute `proj_channels` says otherwise. Raises
    InputError for a network without a projection head where --contrast needs one.
    """
    if args.contrast != "off" and not hasattr(net, "proj_head"):
        raise InputError(
            f"--net {args.net}: no proj_head in this network, which the cross-contrast needs; add one, or switch "
            "it off with --preset no-contrast"
        )
    device, channels = next(net.parameters()).device, getattr(net, "proj_channels", 16)
    return [PrototypeMemory(num_classes, args.memory_size, channels).to(device) for _ in range(2)]


class PrototypeMemory(nn.Module):
    """For each class a ring of `max_size` entries (a feature, a weight), all zero at first; saved with a checkpoint.

    Every enqueue writes one entry for every class, so the classes share one pointer.
    """

    def __init__(self, num_classes: int, max_size: int = 128, channels: int = 16):
        super().__init__()
        self.register_buffer("features", torch.zeros(num_classes, max_size, channels))
        self.register_buffer("weights", torch.zeros(num_classes, max_size))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, prob: torch.Tensor, feat: torch.Tensor) -> None:
        """Add a batch: prob (B, C, H, W), feat (B, channels, H, W).

        A class that no image's arg-max contains writes a zero entry of weight 0.
        """
        prob, feat = prob.flatten(2), feat.flatten(2)
        # per image and class: the probability-weighted mean of the features over the pixels
        image_feat = sum_over_pixels(prob, feat) / (prob.sum(dim=2, keepdim=True) + EPSILON)
        present = one_hot(hard_label(prob), prob.shape[1], prob.dtype).amax(dim=2)  # (B, C)
        # the mean over those images whose arg-max contains the class; the weight is a sum over all images
        entry = (present[:, :, None] * image_feat).sum(dim=0) / (present.sum(dim=0)[:, None] + EPSILON)
        weight = prob.mean(dim=2).sum(dim=0) * present.amax(dim=0)
        self.features.index_copy_(1, self.pointer, entry[:, None])
        self.weights.index_copy_(1, self.pointer, weight[:, None])
        self.pointer.copy_((self.pointer + 1) % self.weights.shape[1])

    def prototypes(self) -> torch.Tensor:
        """The weighted mean of each class's ring: (C, channels); zeros for a class never seen."""
        weighted = (self.weights[:, :, None] * self.features).sum(dim=1)
        return weighted / (self.weights.sum(dim=1, keepdim=True) + EPSILON)


def contrast_loss(z: torch.Tensor, proto: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """CE of the cosines of each pixel's feature with each class's prototype, no temperature; gradients through z only.

    z (B, channels, H, W), proto (C, channels), label (B, H, W).
    """
    scores = torch.einsum("bkhw,ck->bchw", F.normalize(z, dim=1), F.normalize(proto.detach(), dim=1))
    return F.cross_entropy(scores, label)


View = Tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # prob (B, C, H, W), z (B, channels, H, W), label (B, H, W)


def cross_contrast(
    memory_w: PrototypeMemory, memory_s: PrototypeMemory, weak: View, strong: View, contrast: str = "both"
) -> tuple[torch.Tensor, dict]:
    """L_pc = 1/2 [CE(z_w . P_s, y^xi_w) + CE(z_s . P_w, y^xi_s)]: each view against the other's prototypes.

    weak, strong: the student's probabilities and projected features of the two views, the teacher's labels. Updates
    the memories in place first. Returns L_pc and, for the record, both of its halves.
    """
    for memory, (prob, z, _) in ((memory_w, weak), (memory_s, strong)):
        memory.enqueue(prob, z)
    halves = {
        "weak-to-strong": contrast_loss(weak[1], memory_s.prototypes(), weak[2]),
        "strong-to-weak": contrast_loss(strong[1], memory_w.prototypes(), strong[2]),
    }
    loss_pc = halves[contrast] if contrast in halves else sum(halves.values()) / 2
    return loss_pc, {"monitor/contrast": loss_pc, **{f"monitor/{name}": half for name, half in halves.items()}}
