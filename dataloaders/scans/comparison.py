"""Compares two preparations of the same case."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional

import numpy as np

from dataloaders.geometry import bounding_box

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
    boxes = bounding_box(ours), bounding_box(theirs)
    if None in boxes or ours.shape[2:] != theirs.shape[2:]:
        return None
    parts = [], []
    for axis, (own, other) in enumerate(zip(boxes[0][:2], boxes[1][:2])):
        if own.stop - own.start != other.stop - other.start:
            return None
        before = min(own.start, other.start)
        after = min(ours.shape[axis] - own.stop, theirs.shape[axis] - other.stop)
        for part, box in zip(parts, (own, other)):
            part.append(slice(box.start - before, box.stop + after))
    return tuple(parts[0]), tuple(parts[1])
