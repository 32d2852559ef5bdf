"""A look into a NIfTI file before ITK reads it, since ITK says nothing of what is wrong here.

It returns old memory for the part that a cut file lacks, puts 0 in place of NaN voxels and of a NaN origin, and 1 in
place of a NaN voxel size. Source of the header's places: the NIfTI-1 and NIfTI-2 standards.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from dataloaders.errors import InputError

_FIELDS = ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "qform_code", "sform_code", "qform", "sform")
_HEADERS = {  # size of the header, its first number -> formats and places of the fields
    348: ("8i2 i2 i2 8f4 f4 i2 i2 6f4 12f4", (40, 70, 72, 76, 108, 252, 254, 256, 280)),
    540: ("8i8 i2 i2 8f8 i8 i4 i4 6f8 12f8", (16, 12, 14, 104, 168, 344, 348, 352, 400)),
}
_FLOATS = {16: "f4", 64: "f8"}  # datatype -> voxels that may be NaN
_CHUNK = 1 << 22  # bytes, a multiple of every voxel's size


def check_nifti(path: Path) -> None:
    """Raise InputError for a NIfTI file that is cut short or holds NaN, among the voxels or in its geometry."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
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


def _header(start: bytes) -> Optional[np.void]:
    """The fields of a header in either order of bytes, None for what is not NIfTI."""
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
