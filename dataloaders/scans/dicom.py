"""What SimpleITK does not report about DICOM files: which hold slices, what is wrong, the positions of frames."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from dataloaders.files import InputError

POSITION, ORIENTATION, SPACING, FRAMES = "0020|0032", "0020|0037", "0028|0030", "0028|0008"
RESCALE = "0028|1052", "0028|1053"
PIXELS = b"\xe0\x7f\x10\x00"  # the tag of the pixel data
# SOP classes without pixels: DICOMDIR, then spectra, waveforms, presentation states, registrations, reports, documents,
# protocols, structure sets and plans.
_WITHOUT_PIXELS = re.compile(
    r"1\.2\.840\.10008\.(1\.3\.10|5\.1\.4\.1\.1\."
    r"(4\.2|9|11|66(?!\.4)|6[78]|7[89]|[89]\d|104|131|200|481\.([3-9]|1\d|2[0-2])))(\.|$)"
)


def elements(content: bytes, tag: str) -> list[str]:
    """The text values of all elements with a tag such as "0020|0032", in file order, those in sequences included.

    Only little-endian files are understood; almost all are.
    """
    mark = struct.pack("<2H", *(int(part, 16) for part in tag.split("|")))
    found = []
    for match in re.finditer(re.escape(mark) + rb"(?:[A-Z]{2}(..)|(....))", content, re.S):
        length = int.from_bytes(match[1] or match[2], "little")
        text = content[match.end() : match.end() + length]
        if re.fullmatch(rb"[\w.+\-\\ ]+\0?", text):
            found.append(text.decode().strip("\0 "))
    return found


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its name or its preamble."""
    return path.is_file() and (path.suffix.lower() == ".dcm" or _start(path, 132)[128:] == b"DICM")


def _start(path: Path, size: int = 2**16) -> bytes:
    """The first bytes of a file, empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def has_pixels(path: Path) -> bool:
    """Whether the SOP class of a DICOM file has pixels: False for plans, structure sets, reports and DICOMDIR."""
    kinds = elements(_start(path), "0002|0002") or elements(_start(path), "0008|0016")
    return not (kinds and _WITHOUT_PIXELS.match(kinds[0]))


def is_multi_frame(path: Path) -> bool:
    """Whether one DICOM file holds several slices."""
    return any(count.isdigit() and int(count) > 1 for count in elements(_start(path), FRAMES))


def is_cut(path: Path) -> bool:
    """Whether a file ends before its pixel data does, which SimpleITK 2.2 does not report."""
    content = _start(path, -1)
    tag = content.find(PIXELS)
    while tag >= 0:  # an icon has its own pixel data
        start = tag + (12 if content[tag + 4 : tag + 8] in (b"OW\0\0", b"OB\0\0") else 8)
        length = int.from_bytes(content[start - 4 : start], "little")
        if length == 2**32 - 1:  # unknown: compressed pixel data
            return False
        if start + length > len(content):
            return True
        tag = content.find(PIXELS, start + length)
    return False


def fault(path: Path) -> InputError:
    """The error for a DICOM file that SimpleITK cannot read."""
    if has_pixels(path):
        return InputError(f"{path}: not a readable DICOM slice, cut short or damaged; copy or download it again")
    return InputError(f"{path}: a DICOM object without pixels (plan, structure set, report, ...), not a scan")


def without_position(path: Path) -> InputError:
    """The error for an image that does not state where in the body it is."""
    return InputError(f"{path}: no image position (0020,0032), so a screenshot or secondary capture; remove it")


def series_slices(folder: Path) -> list[Path]:
    """The files with slices, in this folder or in the only one below it that has any, as archives export them.

    Objects without pixels are skipped. Raises InputError if there are no slices, or slices in several folders.
    """
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in sorted(names)]
    files = [path for path in files if is_dicom(path)]
    slices = [path for path in files if has_pixels(path)]
    found = sorted({path.parent for path in slices})
    if len(found) > 1:
        raise InputError(f"{folder}: {len(found)} folders in it hold DICOM slices ({found[0]}, {found[1]}); leave one")
    if not slices:
        raise fault(files[0]) if files else InputError(f"{folder}: no DICOM slice in this folder")
    return slices


def stack(
    path: Path, pixel: Sequence[float], orientation: str, positions: Sequence[str], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The 4x4 affine of a stack of slices in mm, and the order of the slices along their normal.

    pixel: size in x and y, mm; orientation, positions: as DICOM states them; names: of the slices. The third
    axis leads from slice to slice, oblique under a tilted gantry. Raises InputError if the distances vary.
    """
    row, column = np.reshape(numbers(orientation), (2, 3))
    points = np.array([numbers(position) for position in positions])
    order = np.argsort(points @ np.cross(row, column), kind="stable")
    steps = np.diff(points[order], axis=0)
    gaps = np.linalg.norm(steps, axis=1)
    if gaps.max() - gaps.min() > 0.1 * np.median(gaps) or not gaps.any():
        where = int(np.abs(gaps - np.median(gaps)).argmax())
        raise InputError(
            f"{path}: slices lie {gaps.min():g} to {gaps.max():g} mm apart, one is missing or doubled "
            f"after {names[order[where]]}"
        )
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * pixel[0], column * pixel[1], steps.mean(axis=0), points[order[0]]])
    return affine, order


def stack_frames(path: Path) -> Optional[tuple[np.ndarray, np.ndarray]]:
    """The affine and the order of the frames in a multi-frame file, None for a single-frame file.

    Raises InputError unless each frame has a position and all share one orientation, pixel size and rescale slope.
    """
    content = path.read_bytes()
    count = next((int(text) for text in elements(content, FRAMES) if text.isdigit()), 1)
    if count == 1:
        return None
    if PIXELS not in content:
        raise fault(path)
    positions, orientations, sizes = (elements(content, tag) for tag in (POSITION, ORIENTATION, SPACING))
    if not (len(positions) == count and orientations and sizes):
        raise InputError(
            f"{path}: {len(positions)} image positions (0020,0032) for {count} frames; "
            "export it as single slices, or as enhanced multi-frame"
        )
    if max(len({*texts}) for texts in (orientations, sizes, *(elements(content, tag) for tag in RESCALE))) > 1:
        raise InputError(
            f"{path}: its frames differ in orientation, pixel size or rescale slope; export one stack of slices"
        )
    return stack(
        path, numbers(sizes[0])[::-1], orientations[0], positions, [f"frame {index + 1}" for index in range(count)]
    )


def numbers(text: str) -> list[float]:
    """The values of a numeric element."""
    return [float(value) for value in text.split("\\")]
