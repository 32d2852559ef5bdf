"""A scan in memory: voxels and geometry; reoriented, flipped, compared. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataloaders.files import InputError
from dataloaders.geometry import Geometry


@dataclass(frozen=True)
class Scan:
    """The voxels of one scan in SimpleITK's array order (Z, Y, X), their geometry, and the file or folder read."""

    array: np.ndarray
    geometry: Geometry
    path: Path
    header: Any = None  # of a NIfTI file as nibabel read it


def reorient(scan: Scan, orientation: str) -> Scan:
    """The same scan with its axes turned and flipped to an orientation such as "LPS", DICOM's own for axial slices."""
    geometry, order, flips = scan.geometry.turned(orientation)
    array = scan.array.transpose([2 - order[2 - axis] for axis in range(3)])
    return Scan(flip_array(array, flips), geometry, scan.path)


def flip(scan: Scan, axes: str) -> Scan:
    """The same scan stored the other way round along `axes`, such as "xy"."""
    return Scan(flip_array(scan.array, axes), scan.geometry.flipped(axes), scan.path)


def flip_array(array: np.ndarray, axes: str) -> np.ndarray:
    """An array (..., Z, Y, X) the other way round along `axes`, such as "xy"; a view."""
    return np.flip(array, [-1 - "xyz".index(axis) for axis in axes])


def check_same_grid(image: Scan, label: Scan) -> None:
    """Raise InputError unless both have the same shape and the same place, to half a voxel at each corner."""
    if image.array.shape != label.array.shape:
        raise InputError(
            f"{label.path}: {label.geometry.size} voxels in x, y, z, its image {image.path.name} has "
            f"{image.geometry.size}: they are not of the same scan"
        )
    distance = image.geometry.distance(label.geometry)
    if distance > 0.5 * min(image.geometry.spacing):
        raise InputError(
            f"{label.path}: image and label lie up to {distance:.1f} mm apart by their headers; "
            "if the voxels do belong together, copy the image's geometry to the label"
        )
