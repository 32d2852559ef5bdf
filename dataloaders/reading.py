"""Reading lists, h5 and npz files, with every check a file has to pass. All errors are InputError and name the file."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence
from zipfile import BadZipFile

import h5py
import numpy as np

from dataloaders.custom_datasets import DESCRIPTION
from dataloaders.files import InputError
from dataloaders.geometry import Geometry
from dataloaders.info import Preparation


def read_list(path: Path, root: Optional[Path] = None, templates: Sequence[str] = ()) -> list[str]:
    """The entries of a list file, one per line; blanks, empty lines and a trailing `.h5` are dropped.

    The file is UTF-8 or, where a byte-order mark says so, UTF-16. Entries that are paths to files in the folder `root`,
    absolute or with backslashes too, become the names by which the templates lead there; others stay as they are.
    """
    try:
        content = Path(path).read_bytes()
        utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        lines = content.decode("utf-16" if utf_16 else "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this list ({error})") from error
    entries = [line.strip()[:-3] if line.strip().endswith(".h5") else line.strip() for line in lines]
    entries = [entry if root is None else _name_of(root, templates, entry) for entry in entries if entry]
    if not entries:
        raise InputError(f"{path}: the list is empty; expected one case per line")
    return entries


def _name_of(root: Path, templates: Sequence[str], entry: str) -> str:
    """The name of an entry that is written as a path, where the path leads to a file of the templates."""
    if not re.search(r"[\\/]", entry) or resolve(root, templates, entry):
        return entry
    path = Path(root) / entry.replace("\\", "/")  # an absolute path replaces the root
    for whole in (os.path.abspath, os.path.realpath):  # as it is written, or where links lead
        try:
            inside = Path(whole(path)).relative_to(whole(root)).as_posix()
        except ValueError:
            continue
        for template in templates:
            before, after = template.split("{id}")
            for ending in (after, re.sub(r"\.\w+$", "", after), re.sub(r"(\.\w+)+$", "", after)):
                name = inside[len(before) : len(inside) - len(ending)]
                if inside == before + name + ending and "/" not in name and resolve(root, [template], name):
                    return name
    return entry


def missing_hint(entries: Sequence[str]) -> str:
    """What to add where entries have no file: that some are paths that lead out of the dataset's folder."""
    outside = [entry for entry in entries if re.match(r"[\\/]|[A-Za-z]:|\.\.[\\/]", entry)]
    return f"; {len(outside)} are paths out of this folder: list the cases' names instead" if outside else ""


def list_hash(entries: Sequence[str]) -> str:
    """SHA-256 of a list's entries: the same for the same cases in the same order."""
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def hash_case(digest, image: np.ndarray, label: Optional[np.ndarray]) -> None:
    """Feed a case as it was read, image float32 and label uint8 or None, with their shape, into a hashlib digest."""
    digest.update(f"{image.shape} {label is not None}".encode())
    for array in (image,) if label is None else (image, label):
        digest.update(np.ascontiguousarray(array))


def resolve(root: Path, templates: Sequence[str], entry: str) -> Optional[Path]:
    """The first of the templates' paths under `root` that exists for this entry, or None.

    An entry is a name and never leads elsewhere: predictions are written under it.
    """
    if os.path.isabs(entry) or ".." in Path(entry).parts:
        return None
    for template in templates:
        path = Path(root) / template.format(id=entry)
        if path.is_file():
            return path
    return None


def resolve_all(root: Path, templates: Sequence[str], entries: Sequence[str], source: Path) -> list[Path]:
    """The paths of all entries; raises InputError that counts those without a file and names the first five."""
    paths = [resolve(root, templates, entry) for entry in entries]
    missing = [entry for entry, path in zip(entries, paths) if path is None]
    if missing:
        raise InputError(
            f"{source}: {len(missing)} of {len(entries)} entries have no file under {root} "
            f"(as {' or '.join(templates)}): {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
            + missing_hint(missing)
        )
    return paths


def image_axes(path: Path, dims: int) -> int:
    """The number of axes of a file's image as `read_case` gives it, 0 if it has none that can be read."""
    try:
        return drop_leading_axis(read_arrays(path), dims)["image"].ndim
    except (InputError, KeyError):
        return 0


# What NumPy and h5py raise for a file that is damaged or of another kind.
DAMAGED = (AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError, BadZipFile, zlib.error)


def _open(path: Path):
    """An h5 or npz file, as a mapping from names to arrays."""
    return np.load(path, allow_pickle=False) if Path(path).suffix == ".npz" else h5py.File(path, "r")


def lacks_label(path: Path) -> bool:
    """Whether a file holds an image without a label; False for a damaged file, which `read_case` names."""
    try:
        with _open(path) as file:
            return "image" in file and "label" not in file
    except DAMAGED:
        return False


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What an h5 or npz file holds of `image` and `label`; raises InputError for a damaged file.

    Arrays of Python objects in an npz are refused, never unpickled.
    """
    try:
        with _open(path) as file:
            return {key: np.asarray(file[key][()]) for key in ("image", "label") if key in file}
    except DAMAGED as error:
        kind = "npz" if Path(path).suffix == ".npz" else "h5"
        raise InputError(f"{path}: not a readable {kind} file, copy or prepare it again ({error})") from error


def drop_leading_axis(arrays: dict[str, np.ndarray], dims: int) -> dict[str, np.ndarray]:
    """The arrays without a leading axis of one that is beyond `dims`, as (1, H, W) has it for a slice."""
    return {key: array[0] if array.ndim == dims + 1 and array.shape[0] == 1 else array for key, array in arrays.items()}


def read_spacing(path: Path) -> Optional[tuple[float, ...]]:
    """The voxel size in mm, in array axis order, that a file's attribute `spacing` states; None where it has none."""
    with h5py.File(path, "r") as file:
        spacing = file.attrs.get("spacing", file["image"].attrs.get("spacing"))
    try:
        return None if spacing is None else tuple(float(value) for value in spacing)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the attribute 'spacing' must hold the voxel size in mm along each axis") from error


def h5_attributes(path: Path) -> dict:
    """The attributes of an h5 file, none of an npz file."""
    if Path(path).suffix != ".h5":
        return {}
    with h5py.File(path, "r") as file:
        return dict(file.attrs)


def stated_kind(root: Path, files: Iterable[Path]) -> str:
    """What the data are if they are not patients', "phantoms": `kind` in an h5 file's attributes or in dataset.json.

    "" where nothing states it; values other than text are ignored.
    """
    stated = [h5_attributes(path).get("kind") for path in files]
    with suppress(OSError, ValueError, AttributeError):
        stated.append(json.loads((root / DESCRIPTION).read_text(encoding="utf-8-sig")).get("kind"))
    return next((kind for kind in stated if isinstance(kind, str) and kind), "")


def stated_preparation(path: Path) -> Optional[Preparation]:
    """How scans became the array in this file, where it states it; raises InputError where that cannot be read."""
    stated = h5_attributes(path).get("preparation")
    if stated is None:
        return None
    try:
        return Preparation.from_json(stated)
    except InputError as error:
        raise InputError(f"{path}: its attribute 'preparation' is {error}; prepare it again") from error


def stated_orientation(paths: Sequence[Path]) -> Optional[str]:
    """How the scans of these training files lay in their own files, "LPS", where all state it and all lay alike."""
    found = {geometry and geometry.orientation for geometry in map(scan_geometry, paths)}
    return found.pop() if len(found) == 1 else None


def scan_geometry(path: Path) -> Optional[Geometry]:
    """The geometry of the scan that this file was prepared from, if it states one."""
    return Geometry.from_attributes(h5_attributes(path), "scan")


def read_case(
    path: Path, dims: int, num_classes: int, label_required: bool = True, unit_range: bool = False
) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """Image (float32) and label (uint8) of one h5 or npz file, both with `dims` axes; label None where it has none.

    A leading axis of one is dropped. Negative labels count as background. `unit_range`: the image must lie in [0, 1].
    Raises InputError for a file that is damaged, of another shape or type, or holds NaN or labels >= num_classes.
    """
    arrays = drop_leading_axis(read_arrays(path), dims)
    for problem in case_problems(arrays, dims, num_classes, label_required, unit_range):
        raise InputError(f"{path}: {problem}")
    label = arrays.get("label")
    if label is not None:
        label = np.where(label < 0, 0, label).astype(np.uint8)
    return arrays["image"].astype(np.float32, copy=False), label


def case_problems(arrays: dict, dims: int, num_classes: int, label_required: bool, unit_range: bool) -> Iterator[str]:
    """All that is wrong with what a file held, a phrase each; looked for one after the other, as they are asked for."""
    for key in ("image", "label") if label_required else ("image",):
        if key not in arrays:
            yield f"no '{key}' in this file, it holds {sorted(arrays) or 'neither image nor label'}"
    image, label = arrays.get("image"), arrays.get("label")
    if image is not None:
        yield from _image_problems(image, dims, unit_range)
    if label is not None:
        if image is not None and label.shape != image.shape:
            yield f"image {image.shape} and label {label.shape} differ in shape"
        yield from _label_problems(label, num_classes)


def _image_problems(image: np.ndarray, dims: int, unit_range: bool) -> Iterator[str]:
    if image.ndim != dims:
        kind = {2: "a slice (H, W)", 3: "a volume with three axes"}[dims]
        yield f"expected {kind}, got an image of shape {image.shape}; check the list"
    if image.size == 0 or image.dtype.kind not in "fiu":
        yield f"an image of numbers is needed, got {image.dtype} of shape {image.shape}"
        return
    image = image.astype(np.float32, copy=False)
    if not np.isfinite(image).all():
        yield "the image holds NaN or infinite values, prepare it again"
    elif unit_range and not (-1e-3 <= image.min() and image.max() <= 1 + 1e-3):
        yield (
            f"image values from {image.min():g} to {image.max():g}, expected [0, 1]; "
            "scale the whole volume by its minimum and maximum"
        )


def _label_problems(label: np.ndarray, num_classes: int) -> Iterator[str]:
    if label.dtype.kind not in "fiub" or (label.dtype.kind == "f" and not np.array_equal(label, np.rint(label))):
        yield f"labels must be whole numbers, got {label.dtype}"
    elif label.size and label.max() >= num_classes:
        yield f"label {label.max():g} found, this dataset has the classes 0 to {num_classes - 1}"


FEW_VOXELS = 5  # of a class for each labelled case, below which it is hardly shown


def hardly_shown(voxels: Sequence[Sequence[int]], classes: Sequence[str]) -> list[str]:
    """A phrase for each class of which labelled images have no voxels, or next to none; a row of counts per case."""
    phrases = []
    for name, count in zip(classes, map(sum, zip(*voxels))):
        if count == 0:
            phrases.append(f"no labelled image shows {name}")
        elif count < FEW_VOXELS * len(voxels):
            phrases.append(f"all labelled images together show only {count} voxels of {name}")
    return phrases
