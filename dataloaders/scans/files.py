"""Scan files: NIfTI through nibabel; NRRD, MetaImage and DICOM through SimpleITK, which also resamples.

Both are imported only when needed. What they accept silently is checked here: checksums of compressed files, NaN, DICOM
slices that were skipped because they cannot be read, gaps between slices. All errors are InputError and name the file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import sys
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from dataloaders.files import InputError, whole_file
from dataloaders.geometry import Geometry
from dataloaders.info import SUFFIXES
from dataloaders.reading import file_hash
from dataloaders.scans import dicom
from dataloaders.scans.scan import Scan

PAIR = (".hdr", ".img", ".hdr.gz", ".img.gz")
NIFTI = (".nii", ".nii.gz", *PAIR)
INTERPOLATIONS = {"nearest": "sitkNearestNeighbor", "linear": "sitkLinear", "bspline": "sitkBSpline"}
UNITS = {"meter": 1e3, "micron": 1e-3}  # in mm
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from NIfTI's frame (mm to the right, front and head) and back
GEOMETRY_FIELDS = (  # of a NIfTI header
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


def scan_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> str:
    """The suffix, as it is spelt, by which a file is one that `read_scan` reads; "" for any other."""
    name = Path(path).name
    return next((name[-len(suffix) :] for suffix in suffixes if name.lower().endswith(suffix)), "")


def scan_files(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The files in a folder that are scans, sorted: headers of pairs, of DICOM multi-frame files only."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        suffix = scan_suffix(path, suffixes).lower()
        if not suffix or not path.is_file() or path.name.startswith("."):
            continue
        if dicom.is_multi_frame(path) if suffix == ".dcm" else path == nifti_files(path)[0]:
            found.append(path)
    return found


def nifti_files(path: Path) -> tuple[Path, Path]:
    """The header file and the voxel file of a NIfTI scan: `path` twice, or the .hdr and .img that `path` is one of.

    If one of the pair is missing the other is returned for both.
    """
    own = scan_suffix(path, PAIR)
    if not own:
        return path, path
    halves = {own[:4].lower(): path}
    for other in path.parent.iterdir():
        suffix = scan_suffix(other, PAIR)
        if suffix and other.name[: -len(suffix)] == path.name[: -len(own)]:
            halves.setdefault(suffix[:4].lower(), other)
    return halves.get(".hdr", path), halves.get(".img", path)


def scan_hash(path: Path) -> str:
    """SHA-256 of what a scan is read from: a file, including the voxel file of its header, or all files in a folder."""
    path = Path(path)
    files = {path, *nifti_files(path)}
    if path.is_dir():
        files = {file for file in path.rglob("*") if file.is_file()}
    elif path.suffix.lower() == ".mhd":
        files = {file for file in path.parent.iterdir() if file.stem == path.stem}
    try:
        return hashlib.sha256("".join(map(file_hash, sorted(files))).encode()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_scan(path: Path) -> Scan:
    """Read one scan: a file, or a folder with the slices of one DICOM series and no other, at whatever depth.

    Raises InputError for a file that is missing, cut or damaged, without exactly three axes, with several values a
    voxel, with NaN among the voxels or in the geometry; for a folder that is empty, holds several series, a slice that
    cannot be read or a gap between slices.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir() or dicom.is_dicom(path):
        scan = _read_dicom(path)
    elif scan_suffix(path, NIFTI):
        scan = _read_nifti(path)
    elif scan_suffix(path):
        scan = _read_itk(path)
    else:
        raise InputError(f"{path}: not a scan by its name, {', '.join(SUFFIXES)} or a folder of DICOM slices is needed")
    geometry = scan.geometry
    sizes = () if scan.header is None else scan.header["pixdim"][1:4]
    numbers = (*geometry.spacing, *geometry.origin, *geometry.direction, *sizes)
    if not all(map(math.isfinite, numbers)) or not geometry.voxel_ml > 0:
        raise InputError(f"{path}: its geometry holds NaN or no size of a voxel, fix the header (spacing, affine)")
    if scan.array.dtype.kind == "f" and not np.isfinite(scan.array).all():
        count = int((~np.isfinite(scan.array)).sum())
        raise InputError(f"{path}: {count} voxels are NaN or infinite, fix or remove this scan")
    return scan


def write_scan(path: Path, array: np.ndarray, geometry: Geometry, header: Any = None) -> None:
    """Write an array (Z, Y, X) with its geometry as NIfTI, whole or not at all.

    header: of the NIfTI scan whose grid this is. Its geometry fields are copied as they are: a header may hold two
    affines, and viewers differ in which they use.
    """
    import nibabel

    affine, own = TO_LPS @ geometry.affine, nibabel.Nifti1Header()
    own.set_data_dtype(array.dtype)
    own.set_data_shape(array.shape[::-1])
    own.set_sform(affine, code=1)
    own.set_qform(affine, code=0 if geometry.tilted else 1)  # a qform cannot express a shear
    own.set_xyzt_units("mm")
    for field in GEOMETRY_FIELDS if header is not None else ():
        own[field] = header[field]
    with whole_file(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(array.T, None, own), temporary)


def write_label(path: Path, label: np.ndarray, geometry: Geometry, header: Any = None) -> None:
    """Write a label map (Z, Y, X) as uint8; `header` as in `write_scan`."""
    write_scan(path, label.astype(np.uint8), geometry, header)


def resample(scan: Scan, geometry: Geometry, interpolation: str) -> Scan:
    """The scan on another grid, by place in mm; beyond its edge the nearest voxel's value is repeated.

    interpolation: "nearest" for labels, "linear", "bspline" (cubic).
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(scan.array))
    image.SetSpacing(scan.geometry.spacing)
    image.SetOrigin(scan.geometry.origin)
    image.SetDirection(scan.geometry.direction)
    image = sitk.Resample(
        image,
        geometry.size,
        sitk.Transform(),
        getattr(sitk, INTERPOLATIONS[interpolation]),
        geometry.origin,
        geometry.spacing,
        geometry.direction,
        0.0,
        sitk.sitkUnknown,
        True,
    )
    return Scan(sitk.GetArrayFromImage(image), geometry, scan.path)


def _check_axes(path: Path, axes: Sequence[int], values: int) -> None:
    """Raise InputError for several values a voxel, or for other than three axes (x, y, z)."""
    if values != 1:
        raise InputError(f"{path}: {values} values per voxel (a colour image or a vector field), expected one")
    if len(axes) != 3:
        what = f"{len(axes)} axes of {tuple(map(int, axes))}"
        raise InputError(f"{path}: {what}, a scan has three; save one time point or channel of it")


def _read_nifti(path: Path) -> Scan:
    """NIfTI-1 or NIfTI-2, in one file or two, compressed or not whatever the suffix says."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    nibabel.imageglobals.logger.setLevel("CRITICAL")  # it prints
    header_file, voxel_file = nifti_files(path)
    kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    if scan_suffix(path, PAIR):
        kinds = (nibabel.Nifti1Pair, nibabel.Nifti2Pair)
        if header_file == voxel_file:
            raise InputError(f"{path}: half of a .hdr/.img pair; put the other file next to it")
    try:
        start, voxels = _unpacked(header_file), _unpacked(voxel_file)
        kind = next((kind for kind in kinds if kind.header_class.may_contain_header(start)), None)
        if kind is None:
            hint = " (an Analyze file states no orientation, convert it)" if header_file != voxel_file else ""
            raise InputError(f"{path}: not a NIfTI file{hint}, copy or download it again")
        holders = (nibabel.FileHolder(fileobj=io.BytesIO(content)) for content in (start, voxels))
        image = kind.from_file_map(dict(zip(("header", "image"), holders)))
        axes, stored = list(image.shape), image.get_data_dtype()
        while len(axes) > 3 and axes[-1] == 1:
            axes.pop()
        vector = axes[4] if len(axes) == 5 and axes[3] == 1 else 1
        _check_axes(path, axes, len(stored.names) if stored.names else vector)
        array = np.asanyarray(image.dataobj).T.reshape(axes[::-1])
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, HeaderDataError, ImageFileError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: damaged or cut short, copy or download it again ({reason})") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: voxels of type {array.dtype}, a scan has real numbers")
    scaled = array.dtype.kind != stored.kind
    array = array.astype(np.float32 if scaled else array.dtype.newbyteorder("="), copy=False)
    header = image.header
    stated = header["sform_code"] > 0 or header["qform_code"] > 0
    affine = TO_LPS @ image.affine if stated else np.diag([*header["pixdim"][1:4], 1.0])
    affine[:3] *= UNITS.get(header.get_xyzt_units()[0], 1)
    return Scan(array, Geometry.from_affine(axes, affine), path, header)


def _unpacked(path: Path) -> bytes:
    """A file's content, decompressed to the checksum at its end if it is gzip."""
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


@contextmanager
def _quiet_itk() -> Iterator[list[str]]:
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


def _load(path: Path):
    """SimpleITK's image of one file; raises RuntimeError where it reads none."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _quiet_itk() as said:
        reader.ReadImageInformation()
        _check_axes(path, reader.GetSize(), reader.GetNumberOfComponents())
        image = reader.Execute()
    if any("not read completely" in line for line in said):  # before ITK 5.4 a cut MetaImage is no error
        raise RuntimeError("data not read completely")
    return image


def _scan(image, path: Path) -> Scan:
    """SimpleITK's image as a scan."""
    import SimpleITK as sitk

    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Scan(sitk.GetArrayFromImage(image), geometry, path)


def _read_itk(path: Path) -> Scan:
    try:
        return _scan(_load(path), path)
    except RuntimeError as error:
        raise InputError(f"{path}: not a readable scan, copy or download it again ({_reason(error)})") from error


def _read_dicom(path: Path) -> Scan:
    """The slices of the one DICOM series in a folder, or the frames of one file, in order of position."""
    slices = dicom.series_slices(path) if path.is_dir() else [path]
    for file in filter(dicom.is_cut, slices):
        raise dicom.fault(file)
    if len(slices) > 1:
        return _read_series(path, slices)
    try:
        frames = dicom.stack_frames(slices[0])
        image = _load(slices[0])
    except InputError:
        raise
    except (RuntimeError, OSError, ValueError) as error:
        raise dicom.fault(slices[0]) from error
    scan = _scan(image, path)
    if frames:
        affine, order = frames
        return Scan(scan.array[order], Geometry.from_affine(scan.geometry.size, affine), path)
    if image.GetDepth() > 1:
        raise InputError(f"{slices[0]}: multi-frame in an encoding that is not supported; export it as single slices")
    if path.is_file():
        raise InputError(f"{path}: a single DICOM slice; give the folder of its series")
    if not image.HasMetaDataKey(dicom.POSITION):
        raise dicom.without_position(slices[0])
    return scan


def _read_series(path: Path, slices: Sequence[Path]) -> Scan:
    import SimpleITK as sitk

    folder, reader = str(slices[0].parent), sitk.ImageSeriesReader()
    reader.MetaDataDictionaryArrayUpdateOn()
    reader.LoadPrivateTagsOff()
    try:
        with _quiet_itk():
            series = [reader.GetGDCMSeriesFileNames(folder, key) for key in reader.GetGDCMSeriesIDs(folder)]
        names = [Path(name).name for of_one in series for name in of_one]
        unread = [file for file in slices if file.name not in names]
        if unread:
            raise dicom.fault(unread[0])
        if len(series) > 1:
            raise InputError(f"{folder}: {len(series)} DICOM series in one folder, leave one of them")
        with _quiet_itk():
            reader.SetFileNames(series[0])
            image = reader.Execute()
        _check_axes(path, image.GetSize(), image.GetNumberOfComponentsPerPixel())
        for index, name in enumerate(names):
            if not reader.HasMetaDataKey(index, dicom.POSITION):
                raise dicom.without_position(Path(folder, name))
        positions = [reader.GetMetaData(index, dicom.POSITION) for index in range(len(names))]
        affine, order = dicom.stack(
            path, image.GetSpacing(), reader.GetMetaData(0, dicom.ORIENTATION), positions, names
        )
    except InputError:
        raise
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{folder}: not a readable DICOM series ({_reason(error)})") from error
    return Scan(sitk.GetArrayFromImage(image)[order], Geometry.from_affine(image.GetSize(), affine), path)
