"""Scans as challenges and hospitals hand them out: NIfTI, NRRD, MetaImage, a folder with the slices of a DICOM series.

SimpleITK reads and writes them and is imported only here, when it is needed. What it lets pass in silence is checked:
NIfTI files that are cut or hold NaN (nifti.py), DICOM slices that it cannot read and leaves out, gaps between slices, a
full disk. All errors are InputError and name the file.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import math
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from dataloaders.errors import InputError
from dataloaders.nifti import check_nifti, copy_geometry
from dataloaders.reading import file_hash
from dataloaders.writing import whole_file

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
INTERPOLATIONS = {"nearest": "sitkNearestNeighbor", "linear": "sitkLinear", "bspline": "sitkBSpline"}
Spacing = Union[float, Tuple[float, float, float]]  # of voxels along x, y, z in mm; one number: cubic


@dataclass(frozen=True)
class Geometry:
    """Where a scan's voxels lie, in ITK's order of axes (X, Y, Z) and its frame (mm to the left, back and head)."""

    size: Tuple[int, int, int]  # voxels
    spacing: Tuple[float, float, float]  # mm
    origin: Tuple[float, float, float]  # mm, centre of the first voxel
    direction: Tuple[float, ...]  # 3x3, row by row; column i is the direction of axis i

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
        return np.array(self.origin) + np.reshape(self.direction, (3, 3)) @ (np.array(self.spacing) * index)

    def distance(self, other: Geometry) -> float:
        """The largest distance in mm between the same corner of both grids."""
        corners = np.array(np.meshgrid(*([0, size - 1] for size in self.size))).reshape(3, -1).T
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

    def resampled(self, spacing: Spacing) -> Geometry:
        """The grid with voxels of this size over the same body: the outer faces of the first voxels agree."""
        new = tuple(float(value) for value in np.broadcast_to(spacing, 3))
        size = tuple(max(1, int(round(count * old / step))) for count, old, step in zip(self.size, self.spacing, new))
        first = self.point([step / old / 2 - 0.5 for old, step in zip(self.spacing, new)])
        return Geometry(size, new, tuple(float(value) for value in first), self.direction)


@dataclass(frozen=True)
class Scan:
    """The voxels of one scan in SimpleITK's array order (Z, Y, X), where they lie, and the file or folder read."""

    array: np.ndarray
    geometry: Geometry
    path: Path


def scan_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> str:
    """The suffix, as it is spelt, by which a file is one that `read_scan` reads; "" for any other."""
    name = Path(path).name
    return next((name[-len(suffix) :] for suffix in suffixes if name.lower().endswith(suffix)), "")


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return Path(path).name.lower().endswith((".nii", ".nii.gz"))


def scan_hash(path: Path) -> str:
    """SHA-256 of what a scan is read from: a file, of MetaImage with its raw data, or all files in a folder."""
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    elif path.suffix.lower() == ".mhd":
        files = sorted(path.parent.glob(glob.escape(path.stem) + ".*"))
    try:
        return hashlib.sha256("".join(map(file_hash, files)).encode()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_scan(path: Path) -> Scan:
    """Read one scan. A folder must hold the slices of one DICOM series and no other, at whatever depth.

    Raises InputError for a file that is missing, cut or damaged, without exactly three axes, with several values a
    voxel, with NaN among the voxels or in the geometry; for a folder that is empty, holds several series, a slice that
    cannot be read or a gap between slices.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        image = _read_series(series_folder(path))
    elif scan_suffix(path):
        image = _read_file(path)
    else:
        raise InputError(f"{path}: not a scan by its name, {', '.join(SUFFIXES)} or a folder of DICOM slices is needed")
    scan = _from_itk(image, path)
    geometry = scan.geometry
    numbers = (*geometry.spacing, *geometry.origin, *geometry.direction)
    if not all(map(math.isfinite, numbers)) or min(geometry.spacing) <= 0:
        raise InputError(f"{path}: its geometry holds NaN or no size of a voxel, mend the header (spacing, affine)")
    if scan.array.dtype.kind == "f" and not np.isfinite(scan.array).all():
        count = int((~np.isfinite(scan.array)).sum())
        raise InputError(f"{path}: {count} voxels are NaN or infinite, mend or leave out this scan")
    return scan


def write_scan(path: Path, array: np.ndarray, geometry: Geometry, like: Optional[Path] = None) -> None:
    """Write an array (Z, Y, X) with its geometry in the format of the path's suffix; whole or not at all.

    like: the scan on whose grid the array is. Where it is NIfTI, a .nii.gz gets its very geometry: a file may state
    two, and viewers choose.
    """
    import SimpleITK as sitk

    if not path.name.lower().endswith(SUFFIXES[:-1]):
        raise InputError(f"{path}: a scan is written as {', '.join(SUFFIXES[:-1])}, choose one of these suffixes")
    with whole_file(path) as temporary:
        with _quiet_itk():
            sitk.WriteImage(_to_itk(array, geometry), str(temporary), useCompression=True)
        try:
            _read_file(temporary)  # ITK may say nothing of a full disk
        except InputError as error:
            raise OSError(28, "the file was cut short, is the disk full?") from error
        if like is not None and like.is_file() and is_nifti(like) and path.name.lower().endswith(".nii.gz"):
            copy_geometry(like, temporary)


def write_label(path: Path, label: np.ndarray, geometry: Geometry, like: Optional[Path] = None) -> None:
    """Write a label map (Z, Y, X) as uint8; `like` as in `write_scan`."""
    write_scan(path, label.astype(np.uint8), geometry, like)


def reorient(scan: Scan, orientation: str) -> Scan:
    """The same scan with its axes turned and flipped to an orientation such as "LPS", DICOM's own for axial slices."""
    import SimpleITK as sitk

    return _from_itk(sitk.DICOMOrient(_to_itk(scan.array, scan.geometry), orientation), scan.path)


def flip(scan: Scan, axes: str) -> Scan:
    """The same scan stored the other way round along `axes`, such as "xy"."""
    return Scan(flip_array(scan.array, axes), scan.geometry.flipped(axes), scan.path)


def flip_array(array: np.ndarray, axes: str) -> np.ndarray:
    """An array (..., Z, Y, X) the other way round along `axes`, such as "xy"; a view."""
    return np.flip(array, [-1 - "xyz".index(axis) for axis in axes])


def resample(scan: Scan, geometry: Geometry, interpolation: str) -> Scan:
    """The scan on another grid, by place in mm; beyond its edge the nearest voxel's value is repeated.

    interpolation: "nearest" for labels, "linear", "bspline" (cubic).
    """
    import SimpleITK as sitk

    image = sitk.Resample(
        _to_itk(scan.array, scan.geometry), geometry.size, sitk.Transform(),
        getattr(sitk, INTERPOLATIONS[interpolation]), geometry.origin, geometry.spacing, geometry.direction,
        0.0, sitk.sitkUnknown, True,
    )  # fmt: skip
    return Scan(sitk.GetArrayFromImage(image), geometry, scan.path)


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


def _from_itk(image, path: Path) -> Scan:
    import SimpleITK as sitk

    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Scan(sitk.GetArrayFromImage(image), geometry, path)


def _to_itk(array: np.ndarray, geometry: Geometry):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


@contextmanager
def _quiet_itk() -> Iterator[List[str]]:
    """ITK's readers and writers print to the terminal, past Python. Here it goes into the list, when the block ends."""
    said = []
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as file:
        try:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
            yield said
        finally:
            for stream, copy in zip((1, 2), kept):
                os.dup2(copy, stream)
                os.close(copy)
            file.seek(0)
            said.extend(file.read().decode(errors="replace").splitlines())


def _reason(error: Exception) -> str:
    """The line of ITK's many that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason")]
    return lines[-1] if lines else type(error).__name__


def _read_file(path: Path):
    import SimpleITK as sitk

    if is_nifti(path):
        check_nifti(path)
    try:
        with _quiet_itk() as said:
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            size, components = reader.GetSize(), reader.GetNumberOfComponents()
            image = reader.Execute() if len(size) == 3 and components == 1 else None
        if any("not read completely" in line for line in said):  # before ITK 5.4 a cut MetaImage is no error
            raise RuntimeError("data not read completely")
    except RuntimeError as error:
        raise InputError(f"{path}: not a readable scan, copy or download it again ({_reason(error)})") from error
    if image is not None:
        return image
    if components != 1:
        raise InputError(f"{path}: {components} values a voxel (a colour picture or a field), a scan has one")
    raise InputError(f"{path}: {len(size)} axes of {size}, a scan has three; save one time point or channel of it")


def series_folder(folder: Path) -> Path:
    """The one folder, this or one at some depth in it, that holds DICOM slices; archives export them deep down.

    Raises InputError where there is none or several do.
    """
    found = [Path(place) for place, _, names in os.walk(folder) if any(is_dicom(Path(place, name)) for name in names)]
    if not found:
        raise InputError(f"{folder}: no DICOM slice in this folder")
    if len(found) > 1:
        first, second = sorted(found)[:2]
        raise InputError(f"{folder}: {len(found)} folders in it hold DICOM slices ({first}, {second}); leave one")
    return found[0]


def _read_series(folder: Path):
    """The slices of the one DICOM series in a folder, in order of their place."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.MetaDataDictionaryArrayUpdateOn()
    reader.LoadPrivateTagsOff()
    try:
        with _quiet_itk():
            series = reader.GetGDCMSeriesIDs(str(folder))
            names = reader.GetGDCMSeriesFileNames(str(folder), series[0]) if len(series) == 1 else ()
    except RuntimeError as error:
        raise InputError(f"{folder}: not a readable DICOM series ({_reason(error)})") from error
    if not series:
        raise InputError(f"{folder}: no DICOM slice in this folder")
    if len(series) > 1:
        raise InputError(f"{folder}: {len(series)} DICOM series in one folder, leave one of them")
    unread = sorted({path.name for path in folder.iterdir() if is_dicom(path)} - {Path(name).name for name in names})
    if unread:
        raise InputError(f"{folder / unread[0]}: not a readable DICOM slice, copy or download it again")
    try:
        with _quiet_itk():
            reader.SetFileNames(names)
            image = reader.Execute()
            places = [reader.GetMetaData(index, "0020|0032") for index in range(len(names))]
    except RuntimeError as error:
        raise InputError(f"{folder}: not a readable DICOM series ({_reason(error)})") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{folder}: not a series of slices with one value a voxel")
    points = np.array([[float(value) for value in place.split("\\")] for place in places])
    gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if len(gaps) and gaps.max() - gaps.min() > 0.1 * np.median(gaps):
        where = int(np.abs(gaps - np.median(gaps)).argmax())
        raise InputError(
            f"{folder}: slices lie {gaps.min():g} to {gaps.max():g} mm apart, one is missing or doubled "
            f"after {Path(names[where]).name}"
        )
    return image


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM one, by its name or its mark."""
    if path.suffix.lower() == ".dcm":
        return path.is_file()
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
