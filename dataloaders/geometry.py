"""The geometry of a scan: size, spacing, origin and direction of its voxel grid. NumPy only."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Mapping, Optional, Sequence, Tuple, Union

import numpy as np

Spacing = Union[float, Tuple[float, float, float]]  # of voxels along x, y, z in mm; one number: cubic
OPPOSITE = dict(zip("LPSRAI", "RAILPS"))  # directions: to the left, back, head, right, front, feet


@dataclass(frozen=True)
class Geometry:
    """Where a scan's voxels are, in ITK's order of axes (X, Y, Z) and its frame (mm to the left, back and head)."""

    size: tuple[int, int, int]  # voxels
    spacing: tuple[float, float, float]  # mm
    origin: tuple[float, float, float]  # mm, centre of the first voxel
    direction: tuple[float, ...]  # 3x3, row by row; column i is the direction of axis i, of length 1

    @classmethod
    def from_affine(cls, size: Sequence[int], affine: np.ndarray) -> Geometry:
        """From the 4x4 affine from voxel indices to mm; its columns need not be orthogonal."""
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        direction = affine[:3, :3] / np.where(spacing > 0, spacing, 1)
        values = (np.asarray(size), spacing, affine[:3, 3], direction.ravel())
        return cls(*(tuple(several.tolist()) for several in values))

    @property
    def affine(self) -> np.ndarray:
        """The 4x4 affine from voxel indices to mm."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        affine[:3, 3] = self.origin
        return affine

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in millilitres, also of a sheared grid."""
        return float(abs(np.linalg.det(self.affine))) / 1000

    @property
    def shear(self) -> float:
        """The largest deviation from a right angle between two axes, in degrees."""
        cosines = np.reshape(self.direction, (3, 3))
        return float(np.degrees(np.arcsin(min(1.0, np.abs(np.triu(cosines.T @ cosines, 1)).max()))))

    @property
    def tilted(self) -> bool:
        """Whether the grid is visibly sheared, as under a tilted gantry, and not just by rounding."""
        return self.shear > 1

    def attributes(self, prefix: str) -> dict:
        """As plain values for an h5 file's attributes: `<prefix>_size`, `_spacing`, `_origin`, `_direction`."""
        return {f"{prefix}_{key}": value for key, value in asdict(self).items()}

    @classmethod
    def from_attributes(cls, attributes: Mapping, prefix: str) -> Optional[Geometry]:
        """The geometry that `attributes` stated, None where they do not."""
        if f"{prefix}_size" not in attributes:
            return None
        size = tuple(int(value) for value in attributes[f"{prefix}_size"])
        rest = [
            tuple(float(value) for value in attributes[f"{prefix}_{key}"]) for key in ("spacing", "origin", "direction")
        ]
        return cls(size, *rest)

    def point(self, index) -> np.ndarray:
        """The place in mm of a (fractional) voxel index (x, y, z)."""
        return (self.affine @ [*index, 1])[:3]

    def distance(self, other: Geometry) -> float:
        """The largest distance in mm between the same corner of both grids."""
        corners = itertools.product(*((0, size - 1) for size in self.size))
        return max(float(np.linalg.norm(self.point(corner) - other.point(corner))) for corner in corners)

    @property
    def orientation(self) -> str:
        """The nearest directions of the axes x, y, z, letters as in `reorient`: LPS is towards left, back, head."""
        cosines = np.reshape(self.direction, (3, 3))
        orders = itertools.permutations(range(3))  # the body's axis nearest to each of the scan's, each of them once
        nearest = max(orders, key=lambda order: sum(abs(cosines[body, axis]) for axis, body in enumerate(order)))
        return "".join("LPS"[body] if cosines[body, axis] > 0 else "RAI"[body] for axis, body in enumerate(nearest))

    def flipped(self, axes: str) -> Geometry:
        """The grid of the same voxels stored the other way round along `axes`, such as "xy"."""
        signs = np.array([-1.0 if axis in axes else 1.0 for axis in "xyz"])
        origin = self.point([size - 1 if sign < 0 else 0 for size, sign in zip(self.size, signs)])
        direction = np.reshape(self.direction, (3, 3)) * signs
        return Geometry(self.size, self.spacing, tuple(map(float, origin)), tuple(map(float, direction.flat)))

    def turned(self, orientation: str) -> tuple[Geometry, tuple[int, ...], str]:
        """The same grid with its axes permuted and flipped to `orientation`, such as "LPS".

        Also returns, for each new axis, the old axis it was, and the new axes that were flipped ("xy").
        """
        own = self.orientation
        order = tuple(own.find(letter) if letter in own else own.find(OPPOSITE[letter]) for letter in orientation)
        direction = np.reshape(self.direction, (3, 3))[:, order]
        size, spacing = (tuple(values[axis] for axis in order) for values in (self.size, self.spacing))
        flips = "".join(axis for axis, letter in zip("xyz", orientation) if letter not in own)
        grid = Geometry(size, spacing, self.origin, tuple(map(float, direction.flat)))
        return grid.flipped(flips), order, flips

    def resampled(self, spacing: Spacing) -> Geometry:
        """The grid with voxels of this size over the same body: the outer faces of the first voxels agree."""
        new = tuple(float(value) for value in np.broadcast_to(spacing, 3))
        size = tuple(max(1, int(round(count * old / step))) for count, old, step in zip(self.size, self.spacing, new))
        first = self.point([step / old / 2 - 0.5 for old, step in zip(self.spacing, new)])
        return Geometry(size, new, tuple(float(value) for value in first), self.direction)


def bounding_box(mask: np.ndarray) -> Optional[tuple[slice, ...]]:
    """The smallest box that holds all of a mask or label that is not zero, None where it is empty."""
    box: tuple[slice, ...] = ()
    for axis in range(mask.ndim):
        planes = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if len(planes) == 0:
            return None
        box += (slice(int(planes[0]), int(planes[-1]) + 1),)
        mask = mask[(slice(None),) * axis + (box[-1],)]
    return box
