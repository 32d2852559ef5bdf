"""Dice, Jaccard, 95HD and ASD with MedPy's definitions and values, on numpy and scipy.

Surfaces and distances are computed once for a class, on the crop that holds both objects.
95HD: MedPy takes the 95th percentile of both directions' distances pooled ("pooled", as in the papers); other libraries
take the larger of the two directions' 95th percentiles ("max"), which is never smaller and can be far larger.
Distances are in voxels with spacing None, else in the spacing's unit (mm). Empty masks: docs/PROTOCOLS.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

HD95 = ("pooled", "max")


class Metric(NamedTuple):
    """One column of results. To add a metric, add one of these to METRICS: tests, tables and pages pick it up."""

    title: str  # of its column; {unit} becomes the distances' unit
    is_distance: bool = False  # in voxels or mm, undefined (NaN) where a mask is empty; else a share, shown in per cent
    function: Optional[Callable] = None  # (pred, label, spacing) -> float, of two boolean masks, neither of them empty


METRICS = {
    "dice": Metric("DSC %"),
    "jaccard": Metric("Jaccard %"),
    "hd95": Metric("95HD ({unit})", is_distance=True),
    "asd": Metric("ASD ({unit})", is_distance=True),
}  # these four share their surfaces and are computed together, in binary_metrics


def case_metrics(
    pred: np.ndarray,
    label: np.ndarray,
    num_classes: int,
    spacing: Optional[Sequence[float]] = None,
    metrics: Optional[Sequence[str]] = None,
    hd95: str = HD95[0],
) -> dict[str, np.ndarray]:
    """The metrics of one case, all by default: for each name an array over the foreground classes 1 .. num_classes-1.

    pred, label: whole numbers of one shape. Where a mask is empty: both empty is 1 for a share (Dice, Jaccard), one
    empty is 0; distances are undefined there (NaN), never 0.
    """
    metrics = list(METRICS) if metrics is None else metrics
    if pred.shape != label.shape:
        raise ValueError(f"prediction {pred.shape} and label {label.shape} differ in shape")
    values = {name: np.full(num_classes - 1, np.nan) for name in metrics}
    boxes = zip(*(ndimage.find_objects(array, num_classes - 1) for array in (pred, label)))
    for index, pair in enumerate(boxes):
        if None in pair:  # a mask is empty
            for name in metrics:
                if not METRICS[name].is_distance:
                    values[name][index] = float(pair == (None, None))
            continue
        crop = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(*pair))
        masks = (array[crop] == index + 1 for array in (pred, label))
        for name, value in binary_metrics(*masks, spacing, metrics, hd95).items():
            values[name][index] = value
    return values


def binary_metrics(
    pred: np.ndarray,
    label: np.ndarray,
    spacing: Optional[Sequence[float]] = None,
    metrics: Optional[Sequence[str]] = None,
    hd95: str = HD95[0],
) -> dict[str, float]:
    """The metrics of two boolean masks, neither of them empty; all by default.

    asd is one-directional (prediction to label); hd95: one of HD95, see above.
    """
    metrics = list(METRICS) if metrics is None else metrics
    intersection, size = np.count_nonzero(pred & label), np.count_nonzero(pred) + np.count_nonzero(label)
    values = {"dice": 2 * intersection / size, "jaccard": intersection / (size - intersection)}
    if "hd95" in metrics or "asd" in metrics:
        pred_border, label_border = surface(pred), surface(label)
        to_label = surface_distances(pred_border, label_border, spacing)
        values["asd"] = to_label.mean()
        if "hd95" in metrics:
            to_pred = surface_distances(label_border, pred_border, spacing)
            directions = [to_label, to_pred] if hd95 == "max" else [np.concatenate([to_label, to_pred])]
            values["hd95"] = max(np.percentile(distances, 95) for distances in directions)
    functions = {name: METRICS[name].function for name in metrics}
    values.update({name: function(pred, label, spacing) for name, function in functions.items() if function})
    return {name: float(values[name]) for name in metrics}


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask with a face neighbour outside it; outside the array counts as outside the mask."""
    padded = np.pad(mask, 1)
    inside = (slice(1, -1),) * mask.ndim
    eroded = mask.copy()
    for axis in range(mask.ndim):
        for shifted in (slice(0, -2), slice(2, None)):
            eroded &= padded[inside[:axis] + (shifted,) + inside[axis + 1 :]]
    return mask & ~eroded


def surface_distances(source: np.ndarray, target: np.ndarray, spacing: Optional[Sequence[float]] = None) -> np.ndarray:
    """The Euclidean distance from each voxel of the surface `source` to the nearest voxel of the surface `target`.

    Most voxels of a sensible prediction have a near neighbour, which is looked up shell by shell. The rest is left to
    a KD-tree on the target's voxels, or to a distance transform of the whole crop, whichever costs less.
    """
    scale = np.ones(source.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    points, num_target = np.flatnonzero(source), np.count_nonzero(target)
    if len(points) > source.size / 16:
        return _transform_distances(points, target, scale)
    distances, far = _near_distances(points, target, scale)
    # measured, in microseconds: a query 1, a point of the tree 0.1, a voxel of the transform 0.04
    if len(far) + 0.1 * num_target > 0.04 * source.size:
        return _transform_distances(points, target, scale)
    if len(far):
        targets, queries = (
            np.stack(np.unravel_index(flat, source.shape), axis=1) * scale
            for flat in (np.flatnonzero(target), points[far])
        )
        # large leaves and no balancing: two to three times as fast as the default on surfaces
        tree = cKDTree(targets, leafsize=40, balanced_tree=False, compact_nodes=False)
        distances[far] = tree.query(queries)[0]
    return distances


def _transform_distances(points: np.ndarray, target: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Distances of those points (flat indices), from each voxel's nearest target voxel as scipy's transform finds it.

    The transform's own distances would be computed for every voxel.
    """
    nearest = ndimage.distance_transform_edt(~target, sampling=scale, return_distances=False, return_indices=True)
    offsets = nearest.reshape(target.ndim, -1)[:, points] - np.stack(np.unravel_index(points, target.shape))
    return np.sqrt(((offsets * scale[:, None]) ** 2).sum(axis=0))


def _near_distances(points: np.ndarray, target: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of those points (flat indices) that have a target voxel in a ball of about 260, and which have none.

    Where a sample shows that most have none, the search ends early, and some that have one are among the latter.
    """
    shells, reach = _shells(tuple(scale))
    padded = np.pad(target, [(r, r) for r in reach])
    strides = np.array(padded.strides) // padded.itemsize
    padded = padded.ravel()
    position = sum(
        (axis + r) * stride for axis, r, stride in zip(np.unravel_index(points, target.shape), reach, strides)
    )
    far = np.arange(len(points))  # those still without a neighbour
    distances = np.zeros(len(points))
    for number, (length, offsets) in enumerate(shells):
        if number == len(shells) // 4 and len(far) > len(points) / 2:
            sample = position[:: 1 + len(far) // 256, None]
            if padded[sample + np.concatenate([rest for _, rest in shells]) @ strides].any(axis=1).mean() < 0.25:
                break
        found = padded[position[:, None] + offsets @ strides].any(axis=1)
        distances[far[found]] = length
        position, far = position[~found], far[~found]
        if len(far) == 0:
            break
    return distances, far


@lru_cache(maxsize=64)
def _shells(scale: tuple[float, ...]) -> tuple[list, np.ndarray]:
    """The voxel offsets in a ball of about 260 voxels, grouped by length, short to long; the ball's reach by axis."""
    radius = (65 * np.prod(scale)) ** (1 / len(scale))
    reach = np.floor(radius / np.array(scale)).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(
        -1, len(scale)
    )
    lengths = np.sqrt(((offsets * scale) ** 2).sum(axis=1))
    return [(length, offsets[lengths == length]) for length in np.unique(lengths[lengths <= radius])], reach
