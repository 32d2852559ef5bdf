"""Cleaning of pseudo labels. Source: docs/METHODS.md section 3, step 1."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
# Rounds of merging on a GPU. Spirals, combs and percolating noise of 256x256 need at most 6; more costs time alone.
ROUNDS, JUMPS = 10, 3


def largest_component(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Keep of each foreground class only its largest 8-connected component, slice by slice: (N, H, W) -> (N, H, W).

    For any number of classes. Ties go to the component that comes first in raster order. What is dropped becomes
    background.
    """
    compiling = hasattr(torch, "compiler") and torch.compiler.is_compiling()  # since PyTorch 2.1
    find = _on_device if compiling or label.device.type != "cpu" else _on_cpu
    return find(label, num_classes)


def _on_cpu(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """One pass a class over all slices, on the crop that holds the class."""
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


def _on_device(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The same as tensor operations without a host round trip, by merging trees of pixels.

    Each pixel points to an earlier pixel of its component, in the end to the first in raster order, its root.
    """
    slices, height, width = label.shape
    pixels = height * width
    place = torch.arange(slices * pixels, device=label.device)
    begins = torch.ones_like(label, dtype=torch.bool)
    begins[:, :, 1:] = label[:, :, 1:] != label[:, :, :-1]
    root = (place.view_as(label) * begins).cummax(dim=2).values.flatten()  # the first pixel of a run in a row
    for _ in range(ROUNDS):
        planes = root.view_as(label)
        lowest = planes.clone()  # the lowest root among a pixel's neighbours in the rows above and below
        for shift in (-1, 0, 1):
            lower = (slice(None), slice(1, None), slice(max(shift, 0), width + min(shift, 0)))
            upper = (slice(None), slice(None, -1), slice(max(-shift, 0), width + min(-shift, 0)))
            joined = torch.minimum(planes[lower], planes[upper])
            same = label[lower] == label[upper]
            for rows in (lower, upper):
                lowest[rows] = torch.where(same, torch.minimum(lowest[rows], joined), lowest[rows])
        root = root.scatter_reduce(0, root, lowest.flatten(), "amin")  # a tree joins the lowest that it touches
        for _ in range(JUMPS):
            root = root[root]
    size = torch.zeros_like(root).scatter_add(0, root, torch.ones_like(root))
    score = size[root] * pixels + (pixels - 1 - root % pixels)  # the larger, then the first in raster order
    group = place // pixels * num_classes + label.flatten()
    best = torch.zeros(slices * num_classes, dtype=root.dtype, device=label.device)
    best = best.scatter_reduce(0, group, score, "amax")
    return label * (score == best[group]).view_as(label)
