"""From scores to label maps and back, in the layout that the losses read fastest."""

from __future__ import annotations

import torch


def hard_label(scores: torch.Tensor, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """The arg-max over the classes, the first of equals: (B, C, *size) -> (B, *size).

    On a CPU class by class, elementwise, which is many times as fast as argmax over an axis that is not the last.
    """
    scores = scores.detach()
    if scores.device.type != "cpu":
        return scores.max(dim=1).indices.to(dtype)
    best, label = scores[:, 0].clone(), torch.zeros_like(scores[:, 0], dtype=torch.uint8)
    for index in range(1, scores.shape[1]):
        label = torch.maximum(label, (scores[:, index] > best).to(torch.uint8).mul_(index))
        torch.maximum(best, scores[:, index], out=best)
    return label.to(dtype)


def one_hot(label: torch.Tensor, num_classes: int, dtype: torch.dtype) -> torch.Tensor:
    """(B, *size) whole numbers -> (B, C, *size) of 0 and 1, contiguous."""
    classes = torch.arange(num_classes, device=label.device).reshape(1, -1, *[1] * (label.ndim - 1))
    return (label[:, None] == classes).to(dtype)
