"""From a scan to the arrays that training reads, and back: the steps of each dataset in the order of docs/PROTOCOLS.md.

Only the crop around the ground truth (LA, Pancreas) needs a label, so that a new scan is prepared as the training scans
were.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np

from dataloaders.files import InputError
from dataloaders.geometry import Geometry, bounding_box
from dataloaders.info import Preparation, Range
from dataloaders.scans.files import resample
from dataloaders.scans.scan import Scan, check_same_grid, reorient
from dataloaders.seeding import generator


class Prepared(NamedTuple):
    """A scan after its preparation, and what leads back from it."""

    image: np.ndarray  # float32, in the preparation's axes
    label: Optional[np.ndarray]  # uint8, the same shape
    crop: tuple[Range, Range, Range]  # the part of the grid that the array is, along the array's axes
    grid: Geometry  # of the turned and resampled scan, before its axes were put in order and it was cropped
    scan: Geometry  # as it was read


def prepare(
    scan: Scan,
    preparation: Preparation,
    label: Optional[Scan] = None,
    margin: Optional[Sequence[Range]] = None,
    crop: Optional[Sequence[Range]] = None,
) -> Prepared:
    """Apply a preparation. `margin`: voxels (before, after) for each cropped axis, see `draw_margin`.

    crop: the part to keep, (start, stop) along each axis of the array, where there is no label to crop around. Without
    either nothing is cropped, and a z-score "of the crop" is that of the whole scan.
    Raises InputError for a label of another grid, with other values or, where it is to be cropped around, empty, and
    for a scan of a tilted gantry that would be resampled or turned.
    """
    read = scan.geometry
    if read.tilted and (preparation.spacing or preparation.orientation):
        step = "resamples it" if preparation.spacing else f"turns it to {preparation.orientation}"
        raise InputError(
            f"{scan.path}: its axes are {read.shear:.1f} degrees off the right angle (a tilted gantry), and the "
            f"preparation {step}; resample it and its label to a straight grid in a viewer first"
        )
    if label is not None:
        check_same_grid(scan, label)
        label = Scan(map_labels(label, preparation.label_values), scan.geometry, label.path)
    if preparation.orientation:
        scan = reorient(scan, preparation.orientation)
        label = label and reorient(label, preparation.orientation)
        if preparation.axes.startswith("z"):
            _check_slices(scan, preparation.orientation)
    scan = Scan(scale(scan, preparation), scan.geometry, scan.path)
    if preparation.spacing:
        grid = scan.geometry.resampled(preparation.spacing)
        scan = resample(Scan(scan.array.astype(np.float32), scan.geometry, scan.path), grid, "bspline")
        label = label and resample(label, grid, "nearest")
        if not preparation.z_score:  # the spline overshoots at edges, images in [0, 1] stay there
            scan = Scan(scan.array.clip(0, 1), scan.geometry, scan.path)
    image = to_axes(scan.array, preparation.axes)
    if preparation.z_score == "scan":
        image = z_score(image, scan.path)
    crop = tuple(crop or ((0, size) for size in image.shape))
    if margin is not None:
        cropped = to_axes(label.array, preparation.axes)
        crop = (*crop_box(cropped, preparation.least, margin, label.path), *crop[2:])
    part = tuple(slice(*ends) for ends in crop)
    image = image[part]
    if preparation.z_score == "crop":
        image = z_score(image, scan.path)
    return Prepared(
        np.ascontiguousarray(image, dtype=np.float32),
        None if label is None else np.ascontiguousarray(to_axes(label.array, preparation.axes)[part]),
        crop,
        scan.geometry,
        read,
    )


def _check_slices(scan: Scan, orientation: str) -> None:
    """Raise InputError where slices along z cut thick acquired slices across: their pixels are far from square."""
    x, y, _ = scan.geometry.spacing
    if max(x, y) > 2 * min(x, y):
        raise InputError(
            f"{scan.path}: reoriented to {orientation}, its slices have pixels of {x:g} x {y:g} mm, so it was acquired "
            "along another axis; leave all scans as they are stored (orientation null) or take this one away"
        )


def restore(
    array: np.ndarray, axes: str, crop: Sequence[Range], grid: Geometry, scan: Geometry, interpolation: str = "nearest"
) -> np.ndarray:
    """The way back: an array in a preparation's axes on the scan's own grid, (Z, Y, X), zero outside the crop."""
    full = np.zeros([grid.size["xyz".index(axis.lower())] for axis in axes], array.dtype)
    full[tuple(slice(*ends) for ends in crop)] = array
    full = from_axes(full, axes)
    return full if grid == scan else resample(Scan(full, grid, Path()), scan, interpolation).array


def attributes(prepared: Prepared, preparation: Preparation) -> dict:
    """What an h5 file records next to its arrays: sizes of voxels in mm in array axis order, and the way back."""
    return {
        "spacing": [prepared.grid.spacing["xyz".index(axis.lower())] for axis in preparation.axes],
        "axes": preparation.axes,
        "crop": np.array(prepared.crop),
        **prepared.grid.attributes("grid"),
        **prepared.scan.attributes("scan"),
        "preparation": preparation.to_json(),
    }


def map_labels(label: Scan, label_values: Sequence[tuple[int, int]]) -> np.ndarray:
    """The label as uint8 in our values; raises InputError for fractions and for a value that is not in the table."""
    array = label.array
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{label.path}: labels must be whole numbers, this file holds fractions ({array.dtype})")
    if array.dtype.kind == "f" or array.dtype.itemsize == 8:  # np.bincount takes no uint64 in NumPy 1
        array = array.astype(np.int64, copy=False)
    known = dict(label_values)
    low, high = int(array.min()), int(array.max())
    found = [low, high] if low < 0 or high > 255 else np.flatnonzero(np.bincount(array.ravel()))
    for value in found:
        if value not in known:
            names = ", ".join(str(name) for name in known)
            raise InputError(f"{label.path}: label {value} found, only {names} are allowed in this dataset")
    table = np.zeros(256, np.uint8)
    for value, ours in known.items():
        table[value] = ours
    return table[array]


def scale(scan: Scan, preparation: Preparation) -> np.ndarray:
    """The image in [0, 1] by the window or its own range, as float64; as it is where the preparation has neither."""
    if preparation.window:
        low, high = preparation.window
        return (np.clip(scan.array.astype(np.float64), low, high) - low) / (high - low)
    if preparation.min_max:
        low, high = float(scan.array.min()), float(scan.array.max())
        if low == high:
            raise InputError(f"{scan.path}: every voxel is {low:g}, the scan is empty")
        return (scan.array.astype(np.float64) - low) / (high - low)
    return scan.array


def z_score(image: np.ndarray, path: Path) -> np.ndarray:
    """Mean 0, deviation 1, as float32; the arithmetic is float64."""
    image = image.astype(np.float64)
    deviation = image.std()
    if deviation == 0:
        raise InputError(f"{path}: every voxel is the same, the scan is empty")
    return ((image - image.mean()) / deviation).astype(np.float32)


def to_axes(array: np.ndarray, axes: str) -> np.ndarray:
    """An array (Z, Y, X) in other axes, a view: "xyz" transposes, an upper-case letter flips."""
    array = array.transpose(["zyx".index(axis.lower()) for axis in axes])
    return np.flip(array, [index for index, axis in enumerate(axes) if axis.isupper()])


def from_axes(array: np.ndarray, axes: str) -> np.ndarray:
    """The way back from `to_axes`."""
    array = np.flip(array, [index for index, axis in enumerate(axes) if axis.isupper()])
    return np.ascontiguousarray(array.transpose([axes.lower().index(axis) for axis in "zyx"]))


def draw_margin(preparation: Preparation, seed: int, case: str) -> Optional[tuple[Range, Range]]:
    """The voxels by which a case's crop is widened on each side of both axes, from the seed and the case's name."""
    if preparation.margin is None:
        return None
    low, high = preparation.margin
    drawn = generator(seed, "margin", *case.encode()).integers(low, high, size=(2, 2), endpoint=True)
    return tuple(tuple(int(value) for value in pair) for pair in drawn)


def crop_box(label: np.ndarray, least: Sequence[int], margin: Sequence[Range], path: Path) -> tuple[Range, ...]:
    """(start, stop) in each of the first axes: the label's box, at least `least` voxels, widened, within the scan."""
    box = bounding_box(label)
    if box is None:
        raise InputError(f"{path}: the label is empty, there is nothing to crop around")
    crop = []
    for part, length, size, (before, after) in zip(box, label.shape, least, margin):
        lacking = max(size - (part.stop - part.start), 0)
        start, stop = part.start - lacking // 2 - before, part.stop + lacking - lacking // 2 + after
        crop.append((max(start, 0), min(stop, length)))
    return tuple(crop)


# Where image and label come from different archives (Pancreas), their arrays may differ by these flips of (Z, Y, X):
# NIfTI writers turn DICOM's rows around, readers sort the slices one way or the other.
FLIPS = {"none": (), "y": (1,), "z": (0,), "yz": (0, 1)}
TISSUE = (0, 200)  # HU of soft tissue in portal-venous contrast; fat, gas and dense bone lie outside
TISSUE_SHARE = 0.7  # of the label that must lie on it
EVENNESS = 0.9  # where several flips do: deviation of HU inside the label, at most this part of the next flip's


def align_label(scan: Scan, label: Scan, flip: str = "auto") -> tuple[Scan, str]:
    """The label on the scan's grid, by the flip that lays it on soft tissue, and that flip's name.

    Where several do, the one is taken under which the label covers the most even tissue: an organ is of one kind. The
    headers' places are not used, they are known to disagree. Raises InputError where no flip or no single one fits.
    """
    if scan.array.shape != label.array.shape:
        check_same_grid(scan, label)
    if flip == "auto":
        inside = label.array > 0
        if not inside.any():
            raise InputError(f"{label.path}: the label is empty, there is nothing to crop around")
        covered = {name: scan.array[np.flip(inside, flips)].astype(np.float64) for name, flips in FLIPS.items()}
        share = {name: np.mean((hu >= TISSUE[0]) & (hu <= TISSUE[1])) for name, hu in covered.items()}
        spread = {name: hu.clip(-200, 300).std() for name, hu in covered.items()}
        fitting = sorted((name for name in FLIPS if share[name] >= TISSUE_SHARE), key=spread.get)
        if not fitting or (len(fitting) > 1 and spread[fitting[0]] >= EVENNESS * spread[fitting[1]]):
            facts = ", ".join(f"{name} {100 * share[name]:.0f} %, deviation {spread[name]:.0f} HU" for name in FLIPS)
            raise InputError(
                f"{label.path}: no flip puts it clearly on the soft tissue of {scan.path} ({facts}); "
                "look at both in a viewer, then name the flip with --label_flip or leave the case out"
            )
        flip = fitting[0]
    return Scan(np.flip(label.array, FLIPS[flip]), scan.geometry, label.path), flip
