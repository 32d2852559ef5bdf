"""Cleaning of pseudo labels. Source: docs/METHODS.md section 3, step 1."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def largest_component(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Keep of each foreground class only its largest 8-connected component, slice by slice: (N, H, W) -> (N, H, W).

    For any number of classes. Ties go to the component that comes first in raster order. What is dropped becomes
    background. Computed on the CPU, one pass a class over all slices, on the crop that holds the class.
    """
    array = label.to("cpu", torch.uint8).numpy()
    kept = np.zeros_like(array)
    for index, box in enumerate(ndimage.find_objects(array, num_classes - 1)):
        if box is None:
            continue
        _, rows, columns = box
        # all slices below each other as one picture, an empty row between them
        mask = np.pad(array[:, rows, columns] == index + 1, ((0, 0), (0, 1), (0, 0)))
        components, count = ndimage.label(mask.reshape(-1, mask.shape[2]), structure=EIGHT_CONNECTED)
        pixels = np.flatnonzero(mask)
        numbers = components.ravel()[pixels]
        sizes = np.bincount(numbers, minlength=count + 1)
        slice_of = np.zeros(count + 1, dtype=np.int64)
        slice_of[numbers] = pixels // mask[0].size
        # numbered in raster order: the components of one slice are neighbours in number, and argmax takes the first
        bounds = np.searchsorted(slice_of[1:], np.arange(len(mask) + 1)) + 1
        winners = [start + np.argmax(sizes[start:stop]) for start, stop in zip(bounds, bounds[1:]) if stop > start]
        won = np.zeros(count + 1, dtype=bool)
        won[winners] = True
        mask.ravel()[pixels] = won[numbers]
        kept[:, rows, columns][mask[:, :-1]] = index + 1
    return torch.from_numpy(kept).to(label.device, label.dtype)
