"""Prototypes of regions and their alignment across images. Source: docs/METHODS.md section 4; arXiv 2507.21440."""

from __future__ import annotations

import argparse
from typing import Sequence, Tuple

import torch

from utils.cli import loss_weight
from utils.pooling import sum_over_pixels

SCALES = (1, 2, 3, 4)
ABLATIONS = {
    "no-proto": {"proto_weight": 0.0, "fused_proto_weight": 0.0},
    "no-fused-proto": {"fused_proto_weight": 0.0},
    **{f"num-proto-{count}": {"num_proto": count} for count in SCALES},
}


def add_alignment_flags(group: argparse._ArgumentGroup) -> None:
    """--proto_weight, --fused_proto_weight, --num_proto"""
    group.add_argument(
        "--proto_weight",
        type=loss_weight,
        default=0.1,
        help="weight of the alignment of labelled and unlabelled prototypes (default: %(default)s)",
    )
    group.add_argument(
        "--fused_proto_weight",
        type=loss_weight,
        default=0.1,
        help="weight of the alignment of labelled and fused prototypes (default: %(default)s)",
    )
    group.add_argument(
        "--num_proto",
        type=int,
        choices=SCALES,
        default=4,
        help="number of scales whose prototypes are aligned, starting with the coarsest (default: %(default)s)",
    )


def region_prototypes(feat: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """DuCiSC's prototypes: the masked mean of each image's features, then the mean over images.

    feat (B, K, *size); mask (B, C, *size), one-hot or soft. Returns (C, K), and for each class whether its mask is
    empty in no image.
    """
    feat, mask = feat.flatten(2), mask.flatten(2).to(feat.dtype)
    size = mask.sum(dim=2)  # tested before the division: 0 / 0 masked out later would still give NaN gradients
    proto = sum_over_pixels(feat, mask) / torch.where(size > 0, size, torch.ones_like(size))[:, None]  # (B, K, C)
    return proto.mean(dim=0).T, (size > 0).all(dim=0)


Prototypes = Tuple[torch.Tensor, torch.Tensor]  # what region_prototypes returns


def prototypes_by_scale(
    feats: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], num_proto: int
) -> list[Prototypes]:
    """The prototypes at the `num_proto` coarsest scales. feats: fine to coarse; masks: coarse to fine.

    Features coarser than every mask (the fifth level of an encoder) are left out.
    """
    feats = feats[: len(masks)][::-1]
    return [region_prototypes(feat, mask) for feat, mask in zip(feats[:num_proto], masks)]


def alignment_loss(protos_a: Sequence[Prototypes], protos_b: Sequence[Prototypes]) -> torch.Tensor:
    """MSE between the prototypes of two regions, the mean over those scales that have them; 0 where none has.

    A scale with a class that is empty in an image is left out; with more than two classes that class alone is.
    Gradients flow through both sides.
    """
    total, scales = 0.0, 0.0
    for (proto_a, whole_a), (proto_b, whole_b) in zip(protos_a, protos_b):
        valid = whole_a & whole_b
        if len(valid) == 2:
            valid = valid.all().expand(2)
        valid = valid.to(proto_a.dtype)
        error = (proto_a - proto_b).square().mean(dim=1)
        total = total + (error * valid).sum() / valid.sum().clamp(min=1)
        scales = scales + valid.amax()
    return total / scales.clamp(min=1)
