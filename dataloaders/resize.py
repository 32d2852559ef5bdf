"""Nearest-neighbour zoom, pixel for pixel what scipy.ndimage.zoom(order=0) gives, as an index map for each axis."""

from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np
import torch


@lru_cache(maxsize=4096)
def nearest_indices(size: int, new_size: int) -> np.ndarray:
    """For each of `new_size` output positions the input position (0 .. size-1), or -1 for zero.

    The grid maps first to first and last to last. Where rounding puts the last position a hair beyond the input,
    scipy reads its fill value, zero, instead: for some sizes the last row is empty. Kept, since the papers' numbers
    were made with it.
    """
    if new_size == 1:
        return np.zeros(1, dtype=np.int64)
    position = np.arange(new_size) * ((size - 1) / (new_size - 1))
    index = np.floor(position + 0.5).astype(np.int64)
    index[position > size - 1] = -1
    return index


def nearest_zoom(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Zoom the last two axes of (..., H, W) to `size`, order 0, on the tensor's device."""
    for axis, new_size in ((-2, size[0]), (-1, size[1])):
        index = nearest_indices(values.shape[axis], new_size)
        values = values.index_select(axis, torch.from_numpy(index.clip(0)).to(values.device, non_blocking=True))
        if index[-1] < 0:
            values.select(axis, -1).zero_()
    return values
