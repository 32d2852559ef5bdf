"""Nearest-neighbour zoom, pixel for pixel what scipy.ndimage.zoom(order=0) gives, as an index map for each axis."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


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


def nearest_zoom(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Zoom the last two axes of (..., H, W) to `size`, order 0."""
    rows = nearest_indices(array.shape[-2], size[0])
    cols = nearest_indices(array.shape[-1], size[1])
    zoomed = array[..., rows[:, None], cols[None, :]]
    if rows[-1] < 0:
        zoomed[..., -1, :] = 0
    if cols[-1] < 0:
        zoomed[..., :, -1] = 0
    return zoomed
