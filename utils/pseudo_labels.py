"""Cleaning of pseudo labels. Source: docs/METHODS.md section 3, step 1."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

# 8-connected within a slice, slices of the stack apart
_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_NEIGHBOURS[1] = True


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
        box = (slice(None), *box[1:])
        components, count = ndimage.label(array[box] == index + 1, structure=_NEIGHBOURS)
        sizes = np.bincount(components.ravel(), minlength=count + 1)
        sizes[0] = 0
        # components are numbered in raster order, so those of one slice are neighbours in number
        winners = np.zeros(count + 1, dtype=bool)
        last = components.max(axis=(1, 2))
        start = 1
        for stop in last[last > 0]:
            winners[start + np.argmax(sizes[start : stop + 1])] = True
            start = stop + 1
        kept[box][winners[components]] = index + 1
    return torch.from_numpy(kept).to(label.device, label.dtype)
