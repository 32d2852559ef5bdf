"""Prototype memory and cross-contrast (docs/METHODS.md section 1), prototype alignment (docs/METHODS.md section 4)."""

from __future__ import annotations

from typing import Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from utils.labels import hard_label, one_hot

EPSILON = 1e-8


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
        image_feat = torch.einsum("bcn,bkn->bck", prob, feat) / (prob.sum(dim=2, keepdim=True) + EPSILON)
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


def region_prototypes(feat: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """DuCiSC's prototypes: the masked mean of each image's features, then the mean over images.

    feat (B, K, *size); mask (B, C, *size), one-hot or soft. Returns (C, K), and for each class whether its mask is
    empty in no image. Source: docs/METHODS.md section 4.
    """
    feat, mask = feat.flatten(2), mask.flatten(2).to(feat.dtype)
    size = mask.sum(dim=2)  # tested before the division: 0 / 0 masked out later would still give NaN gradients
    proto = feat @ mask.transpose(1, 2) / torch.where(size > 0, size, torch.ones_like(size))[:, None]  # (B, K, C)
    return proto.mean(dim=0).T, (size > 0).all(dim=0)


Prototypes = Tuple[torch.Tensor, torch.Tensor]  # what region_prototypes returns


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
