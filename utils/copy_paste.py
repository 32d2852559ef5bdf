"""Bidirectional copy-paste. Source: docs/METHODS.md section 3; arXiv 2305.00673."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch

BOX_RATIO = 2 / 3


def draw_box(rng: np.random.Generator, size: Sequence[int]) -> tuple[int, int, int, int]:
    """A box (row, column, height, width) of 2/3 of the image's height and width, anywhere inside: one for a batch."""
    height, width = (int(BOX_RATIO * length) for length in size)
    row, column = int(rng.integers(size[0] - height)), int(rng.integers(size[1] - width))
    return row, column, height, width


def box_mask(box: Sequence[int], size: Sequence[int], device=None, dtype=torch.float32) -> torch.Tensor:
    """M (H, W): ones with the box's zeros."""
    row, column, height, width = box
    mask = torch.ones(*size, device=device, dtype=dtype)
    mask[row : row + height, column : column + width] = 0
    return mask


def paste(image: torch.Tensor, patch: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """image where the mask is 1, patch where it is 0; whole numbers stay whole."""
    mask = mask.to(image.dtype)
    return image * mask + patch * (1 - mask)
