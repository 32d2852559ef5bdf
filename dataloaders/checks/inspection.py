"""What one file holds and all that is wrong in it: read once, described in a few numbers and hashes, and let go."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from dataloaders.datasets import slice_name
from dataloaders.files import InputError
from dataloaders.reading import case_problems, drop_leading_axis, read_arrays, read_spacing, scan_geometry
from dataloaders.registry import DatasetInfo


class Facts(NamedTuple):
    """One file. Numbers are None, and tuples empty, where the file does not give them."""

    problems: list[str]  # a phrase each
    shape: tuple[int, ...] = ()
    types: tuple[str, ...] = ()  # of image and label, where they are stored in another type than float32 and uint8
    low: Optional[float] = None  # of the image
    high: Optional[float] = None
    voxels: Optional[tuple[int, ...]] = None  # of each foreground class
    has_label: bool = True
    negative: bool = False  # some labels are below zero
    spacing: Optional[tuple[float, ...]] = None  # mm
    tilted: bool = False  # prepared from a scan of a tilted gantry
    hashes: tuple[bytes, ...] = ()  # of each slice of a 2-D dataset, of a whole 3-D volume; b"" for a constant image
    planes: tuple[tuple[str, np.ndarray, np.ndarray], ...] = ()  # to be drawn: name, image and label, both (H, W)


def inspect(path: Path, info: DatasetInfo, dims: int, label_required: bool, draw: bool) -> Facts:
    """Read one file and describe it; `dims` 2 for a slice, 3 for a volume. Raises nothing for a bad file.

    draw: keep planes for a picture: the slice itself, two middle slices of a 2-D dataset's volume, or the planes with
    the most foreground along the last and the first axis of a 3-D volume.
    """
    try:
        arrays = drop_leading_axis(read_arrays(path), dims)
    except InputError as error:
        return Facts([str(error)[len(f"{path}: ") :]])
    problems = list(case_problems(arrays, dims, info.num_classes, label_required, info.dims == 2))
    image, label = arrays.get("image"), arrays.get("label")
    spacing, spacing_problems = (None, []) if image is None or path.suffix == ".npz" else _spacing(path)
    facts = Facts(problems + spacing_problems, has_label=label is not None, spacing=spacing, tilted=_tilted(path))
    if label is not None and label.dtype.kind in "fiub" and label.size:
        voxels = tuple(int(np.count_nonzero(label == index)) for index in range(1, info.num_classes))
        facts = facts._replace(voxels=voxels, negative=bool(label.min() < 0))
    if image is None or image.size == 0 or image.dtype.kind not in "fiu":
        return facts
    types = tuple(str(array.dtype) for array in (image, label) if array is not None)
    facts = facts._replace(shape=image.shape, types=() if types in (("float32", "uint8"), ("float32",)) else types)
    image = image.astype(np.float32, copy=False)
    if not np.isfinite(image).all():
        return facts
    facts = facts._replace(low=float(image.min()), high=float(image.max()))
    problems = facts.problems + _value_problems(image, info.dims)
    parts = image if info.dims == 2 and image.ndim == 3 else image[None]
    facts = facts._replace(problems=problems, hashes=tuple(map(image_hash, parts)))
    if draw and image.ndim == dims:
        drawable = label is not None and label.shape == image.shape and label.dtype.kind in "fiub"
        label = np.nan_to_num(label) if drawable else np.zeros(image.shape)
        facts = facts._replace(planes=_planes(image, label, info.dims))
    return facts


def image_hash(image: np.ndarray) -> bytes:
    """Equal for images of equal shape and float32 values, whatever the file, its name or its compression."""
    if image.min() == image.max():
        return b""  # a constant image says nothing about where it came from
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image + np.float32(0)))  # -0 becomes 0
    return digest.digest()


def _spacing(path: Path) -> tuple[Optional[tuple[float, ...]], list[str]]:
    """The voxel size and what is wrong with it."""
    try:
        spacing = read_spacing(path)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError):
        spacing = (np.nan,)
    if spacing is None or all(np.isfinite(value) and value > 0 for value in spacing):
        return spacing, []
    return None, ["the attribute 'spacing' must hold the voxel size in mm along each axis; fix or delete it"]


def _tilted(path: Path) -> bool:
    """Whether the file states that its scan had sheared axes."""
    try:
        geometry = scan_geometry(path)
    except (KeyError, TypeError, ValueError):
        return False
    return geometry is not None and geometry.tilted


def _value_problems(image: np.ndarray, dims: int) -> list[str]:
    """Constant images; 3-D volumes that are not roughly z-scored (over the whole scan, before any crop)."""
    low, high = image.min() + 0, image.max() + 0  # -0 becomes 0
    if low == high:
        return [f"the image is constant, {low:g} everywhere; prepare it again"]
    if dims == 2:
        return []
    mean, deviation = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    if low < 0 < high and abs(mean) < 4 and 0.1 < deviation < 5:
        return []
    return [
        f"image values from {low:g} to {high:g}, mean {mean:.3g}, standard deviation {deviation:.3g}: not z-scored; "
        "subtract the scan's mean and divide by its standard deviation"
    ]


def middle_two(count: int) -> list[int]:
    """The positions at one and two thirds of `count`; one position where these are the same."""
    return sorted({count // 3, 2 * count // 3})


def _planes(image: np.ndarray, label: np.ndarray, dims: int) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    """The planes to draw; the name of a slice that is a file of its own is empty."""
    alone = image.ndim == 2
    if alone:
        image, label = image[None], label[None]
    if dims == 2:
        chosen = [(0, index) for index in middle_two(len(image))]
    else:
        counts = {axis: (label > 0).sum(axis=tuple({0, 1, 2} - {axis})) for axis in (2, 0)}
        chosen = [(axis, int(np.argmax(n)) if n.any() else len(n) // 2) for axis, n in counts.items()]
    return tuple(
        (
            "" if alone else slice_name(dims, axis, index, image.shape[axis]),
            np.take(image, index, axis),
            np.clip(np.take(label, index, axis), 0, 255).astype(np.uint8),
        )
        for axis, index in chosen
    )
