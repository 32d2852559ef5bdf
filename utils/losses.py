"""Losses on probabilities and labels. Source: docs/METHODS.md section 1, "Dice loss"."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F

EPSILON = 1e-10


def dice_loss(prob: torch.Tensor, label: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Mean over all C classes, background too, of 1 - (2 sum(p t) + e) / (sum(p^2) + sum(t^2) + e).

    prob (B, C, H, W); label (B, H, W) whole numbers; mask (B, H, W) multiplies every term. Sums run over the batch.
    A class that is absent from the label is not left out.
    """
    target = F.one_hot(label.long(), prob.shape[1]).movedim(-1, 1).to(prob.dtype)
    terms = prob * target, prob.square(), target
    if mask is not None:
        terms = tuple(term * mask[:, None] for term in terms)
    dims = [0, *range(2, prob.ndim)]
    intersection, prob_sum, target_sum = (term.sum(dim=dims) for term in terms)
    return (1 - (2 * intersection + EPSILON) / (prob_sum + target_sum + EPSILON)).mean()
