"""Outputs of a network at several scales. Source: docs/METHODS.md section 4."""

from __future__ import annotations

from typing import Iterable, Sequence

import torch
import torch.nn.functional as F


def resize_like(values: torch.Tensor, logits: Sequence[torch.Tensor], mode: str) -> list[torch.Tensor]:
    """values (B, K, *size) at each scale's size; mode "nearest" or "linear" (bi- or trilinear, align_corners=False)."""
    if mode == "linear":
        mode = {4: "bilinear", 5: "trilinear"}[values.ndim]
    return [
        values if scale.shape[2:] == values.shape[2:] else F.interpolate(values, size=scale.shape[2:], mode=mode)
        for scale in logits
    ]


def mean_over_scales(values: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(values)).mean()


def outputs(net, volume: torch.Tensor) -> tuple[list[torch.Tensor], Sequence[torch.Tensor]]:
    """The logits by scale, coarse to fine, and the features, fine to coarse."""
    logits, feats = net(volume)
    return (list(logits) if isinstance(logits, (list, tuple)) else [logits]), feats
