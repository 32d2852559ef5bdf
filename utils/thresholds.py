"""Self-aware confidence: moving thresholds by scale and class. Source: docs/METHODS.md section 4."""

from __future__ import annotations

import argparse
from typing import Sequence

import torch
from torch import nn

from utils.cli import below_one

DECAY, LOWEST, HIGHEST = 0.99, 0.5, 0.95
ABLATIONS = {"fixed-threshold": {"threshold": 0.5}}


def add_threshold_flag(group: argparse._ArgumentGroup) -> None:
    """--threshold"""
    group.add_argument(
        "--threshold",
        type=below_one,
        default=0.0,
        help="a fixed confidence threshold; 0: adaptive thresholds per scale and class that start at 1/C (default: "
        "%(default)s)",
    )


class ConfidenceThresholds(nn.Module):
    """tau (scales, C), coarse to fine, begun at 1/C; part of a checkpoint. `fixed` is a value that never moves."""

    def __init__(self, num_classes: int, num_scales: int = 4, fixed: float = 0.0):
        super().__init__()
        self.fixed = fixed
        self.register_buffer("tau", torch.full((num_scales, num_classes), fixed or 1 / num_classes))

    def certain(self, probs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """For each scale's probabilities (B, C, *size) a mask (B, *size) of 0 and 1: any class above its threshold."""
        return [
            (prob > tau.to(prob.dtype).reshape(1, -1, *[1] * (prob.ndim - 2))).any(dim=1).to(prob.dtype)
            for prob, tau in zip(probs, self.tau)
        ]

    @torch.no_grad()
    def update(self, probs: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> None:
        """Follow the mean student probability of each class over all voxels that the teacher labels so.

        probs: the student's, masks: the teacher's labels as one-hot, (B, C, *size) by scale. Unchanged for a class
        without such voxels.
        """
        if self.fixed:
            return
        for tau, prob, mask in zip(self.tau, probs, masks):
            dims = [0, *range(2, prob.ndim)]
            count = mask.sum(dim=dims).to(tau.dtype)
            mean = (prob * mask).sum(dim=dims).to(tau.dtype) / count.clamp(min=1)
            moved = (DECAY * tau + (1 - DECAY) * mean).clamp(LOWEST, HIGHEST)
            tau.copy_(torch.where(count > 0, moved, tau))

    def terms(self, certain: Sequence[torch.Tensor]) -> dict:
        """For the record: tau by scale and class, and the share of certain voxels by scale."""
        found = {}
        for scale, (mask, tau) in enumerate(zip(certain, self.tau)):
            found[f"monitor/certain_share_scale{scale}"] = mask.mean()
            found.update({f"monitor/threshold_scale{scale}_class{c}": value.clone() for c, value in enumerate(tau)})
        return found
