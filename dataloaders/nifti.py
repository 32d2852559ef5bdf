"""What ITK does not do for NIfTI files: it says nothing of what is wrong in one, and does not keep a header.

It returns old memory for the part that a cut file lacks, puts 0 in place of NaN voxels and of a NaN origin, and 1 in
place of a NaN voxel size. It writes the place of the grid rounded anew, and one form of it where a file had two. Source
of the header's places: the NIfTI-1 and NIfTI-2 standards.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from dataloaders.errors import InputError

_GEOMETRY = ("pixdim", "xyzt_units", "qform_code", "sform_code", "qform", "sform")
_FIELDS = ("dim", "datatype", "bitpix", "vox_offset", *_GEOMETRY)
_HEADERS = {  # size of the header, its first number -> formats and places of the fields
    348: ("8i2 i2 i2 f4 8f4 i1 i2 i2 6f4 12f4", (40, 70, 72, 108, 76, 123, 252, 254, 256, 280)),
    540: ("8i8 i2 i2 i8 8f8 i4 i4 i4 6f8 12f8", (16, 12, 14, 168, 104, 500, 344, 348, 352, 400)),
}
_FLOATS = {16: "f4", 64: "f8"}  # datatype -> voxels that may be NaN
_CHUNK = 1 << 22  # bytes, a multiple of every voxel's size


def check_nifti(path: Path) -> None:
    """Raise InputError for a NIfTI file that is cut short or holds NaN, among the voxels or in its geometry."""
    try:
        with _open(path) as file:
            start = file.read(540).ljust(540, b"\0")
            header = _header(start)
            if header is None:
                raise InputError(f"{path}: not a NIfTI file, copy or download it again")
            file.seek(int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else 0)
            length, bad = _read_voxels(file, _FLOATS.get(int(header["datatype"])), header.dtype["dim"].base.byteorder)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged or cut short, copy or download it again ({error})") from error
    axes = int(header["dim"][0])
    needed = int(np.prod(np.maximum(header["dim"][1 : axes + 1], 1), dtype=np.int64)) * int(header["bitpix"]) // 8
    if length < needed:
        raise InputError(f"{path}: cut short ({length} of {needed} bytes of voxels), copy or download it again")
    parts = [header["pixdim"][1:4], *(header[form] for form in ("qform", "sform") if header[f"{form}_code"] > 0)]
    if not np.isfinite(np.concatenate(parts)).all():
        raise InputError(f"{path}: its geometry holds NaN, mend the header (pixdim, qform, sform)")
    if bad:
        raise InputError(f"{path}: {bad} voxels are NaN or infinite, mend or leave out this scan")


def copy_geometry(source: Path, target: Path) -> None:
    """Give a packed NIfTI file the place and the voxel size of another one on the same grid, number by number."""
    with _open(source) as file:
        given = _header(file.read(540).ljust(540, b"\0"))
    content = bytearray(gzip.decompress(target.read_bytes()))
    own = _header(content)
    for field in _GEOMETRY:
        own[field] = given[field]
    target.write_bytes(gzip.compress(content, mtime=0))


def _open(path: Path) -> BinaryIO:
    """A file for reading, unpacked where it is packed, whatever its name says."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else open(path, "rb")


def _header(start: bytes) -> Optional[np.void]:
    """The fields of a header in either order of bytes, a view of it; None for what is not NIfTI."""
    for order in "<>":
        kind = int(np.frombuffer(start, order + "i4", 1)[0])
        if kind in _HEADERS:
            formats, offsets = _HEADERS[kind]
            formats = [f"({text[:-2]},){order}{text[-2:]}" if text[:-2] else order + text for text in formats.split()]
            fields = np.dtype({"names": _FIELDS, "formats": formats, "offsets": offsets, "itemsize": kind})
            return np.frombuffer(start, fields, 1)[0]
    return None


def _read_voxels(file: BinaryIO, kind: Optional[str], order: str) -> tuple[int, int]:
    """Bytes to the end of the file, where the checksum of a packed one is, and how many numbers are not finite."""
    length = bad = 0
    while True:
        chunk = file.read(_CHUNK)
        length += len(chunk)
        if kind:
            values = np.frombuffer(chunk, np.dtype(kind).newbyteorder(order), len(chunk) // int(kind[1]))
            bad += int((~np.isfinite(values)).sum())
        if not chunk:
            return length, bad
