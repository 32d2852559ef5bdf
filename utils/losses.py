"""Losses on probabilities and labels. Source: docs/METHODS.md section 1, "Dice loss", and section 3."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F

from utils.labels import one_hot

EPSILON = 1e-10


def dice_loss(prob: torch.Tensor, label: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Mean over all C classes, background too, of 1 - (2 sum(p t) + e) / (sum(p^2) + sum(t^2) + e).

    prob (B, C, H, W); label (B, H, W) whole numbers; mask (B, H, W) multiplies every term. Sums run over the batch.
    A class that is absent from the label is not left out.
    """
    target = one_hot(label, prob.shape[1], prob.dtype)
    terms = prob * target, prob.square(), target
    if mask is not None:
        terms = tuple(term * mask[:, None] for term in terms)
    dims = [0, *range(2, prob.ndim)]
    intersection, prob_sum, target_sum = (term.sum(dim=dims) for term in terms)
    return (1 - (2 * intersection + EPSILON) / (prob_sum + target_sum + EPSILON)).mean()


def mixed_loss(
    logits: torch.Tensor,
    label_image: torch.Tensor,
    label_patch: torch.Tensor,
    mask: torch.Tensor,
    weight_image: float = 1.0,
    weight_patch: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Dice and CE of a pasted image: against `label_image` where the mask is 1, against `label_patch` where it is 0.

    logits (B, C, H, W); labels (B, H, W); mask (H, W) or (B, H, W). CE is the mean over each part of the whole batch.
    """
    prob = logits.softmax(dim=1)
    mask = mask.to(prob.dtype).expand(label_image.shape)
    loss_dice, loss_ce = 0.0, 0.0
    for label, where, weight in ((label_image, mask, weight_image), (label_patch, 1 - mask, weight_patch)):
        loss_dice = loss_dice + weight * dice_loss(prob, label, where)
        ce = F.cross_entropy(logits, label.long(), reduction="none")
        loss_ce = loss_ce + weight * (ce * where).sum() / (where.sum() + 1e-16)
    return loss_dice, loss_ce


def foreground_dice_loss(prob: torch.Tensor, target: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Mean over the foreground classes of 1 - (2 sum(p t) + e) / (sum(p) + sum(t) + e), e = 1e-8.

    prob, target (B, C, *size), target one-hot or soft; mask (B, *size) multiplies both. Sums run over the batch.
    Source: docs/METHODS.md section 4.
    """
    if mask is not None:
        prob, target = prob * mask[:, None], target * mask[:, None]
    dims = [0, *range(2, prob.ndim)]
    intersection, total = (prob * target).sum(dim=dims)[1:], (prob + target).sum(dim=dims)[1:]
    return (1 - (2 * intersection + 1e-8) / (total + 1e-8)).mean()


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of `values` (B, *size) where `mask` is 1; 0, with finite gradients, where it is nowhere 1."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
