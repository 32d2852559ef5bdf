"""Sums over an image's pixels."""

from __future__ import annotations

import torch

PARTS = 256


def sum_over_pixels(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The sums over n of a (B, M, N) times b (B, K, N): (B, M, K).

    On a GPU in parts, which are added up: as one product, small with a long sum, it leaves nearly all of the GPU idle.
    """
    parts = 1 if a.device.type == "cpu" else min(a.shape[2] & -a.shape[2], PARTS)
    if parts > 1:
        a, b = (values.unflatten(2, (parts, -1)).transpose(1, 2) for values in (a, b))
    product = a @ b.transpose(-1, -2)
    return product if parts == 1 else product.sum(dim=1)
