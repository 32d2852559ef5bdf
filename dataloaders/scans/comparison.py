"""Compares two preparations of the same case."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional

import numpy as np

Arrays = Dict[str, np.ndarray]  # `image` and `label`, of one shape


class Difference(NamedTuple):
    """What differs between two files of one case."""

    image: float  # largest absolute difference
    labels: int  # voxels with another label
    shape: Optional[str] = None  # both shapes where they differ
    recropped: bool = False  # only the part that both crops hold was compared

    def line(self) -> str:
        """In words."""
        parts = [self.shape] if self.shape else []
        if self.recropped:
            parts.append("in the part that both hold:")
        if not self.shape or self.recropped:
            parts.append(f"image differs by up to {self.image:g}, {self.labels} voxels have another label")
        return " ".join(parts)


def compare_case(ours: Arrays, theirs: Arrays, cropped: bool) -> Difference:
    """Image and label of two files. `cropped`: the first two axes are cropped around the label with any margin."""
    shape = None
    if ours["image"].shape != theirs["image"].shape:
        shape = f"shape {ours['image'].shape}, there {theirs['image'].shape}"
        parts = shared_part(ours["label"], theirs["label"]) if cropped else None
        if parts is None:
            return Difference(float("nan"), 0, shape)
        ours, theirs = ({key: array[part] for key, array in case.items()} for case, part in zip((ours, theirs), parts))
    image = np.abs(ours["image"].astype(np.float64) - theirs["image"]).max()
    return Difference(float(image), int((ours["label"] != theirs["label"]).sum()), shape, shape is not None)


def shared_part(ours: np.ndarray, theirs: np.ndarray) -> Optional[tuple[tuple, tuple]]:
    """The same part of two crops of one label, found by its box in the first two axes; None if the boxes differ."""
    parts = [], []
    for axis in range(2):
        rest = tuple(other for other in range(ours.ndim) if other != axis)
        ends = []
        for label in (ours, theirs):
            inside = np.flatnonzero(label.any(axis=rest))
            if not len(inside):
                return None
            ends.append((int(inside[0]), int(inside[-1]) + 1, label.shape[axis]))
        (start, stop, size), (other_start, other_stop, other_size) = ends
        if stop - start != other_stop - other_start or ours.shape[2:] != theirs.shape[2:]:
            return None
        before, after = min(start, other_start), min(size - stop, other_size - other_stop)
        parts[0].append(slice(start - before, stop + after))
        parts[1].append(slice(other_start - before, other_stop + after))
    return tuple(parts[0]), tuple(parts[1])
