"""A custom dataset, described by a `dataset.json` instead of code: its keys, checked, and what follows from them.

The keys: docs/DATA.md, "Your own dataset". nnU-Net's keys with the same meaning are accepted; its other keys are
ignored.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from dataloaders.files import InputError
from dataloaders.geometry import Spacing
from dataloaders.info import SUFFIXES, DatasetInfo, Preparation

DESCRIPTION = "dataset.json"
KEYS = {  # what each key must be, as errors say it
    "name": "a folder's name of letters, digits, '_', '-' and '.', by which --name finds the dataset",
    "dims": "2 (trained on slices) or 3 (on volumes)",
    "classes": 'the names of the foreground classes in label order, all different: ["RV", "Myo"]',
    "labels": 'nnU-Net\'s, whole numbers without a gap: {"background": 0, "RV": 1, "Myo": 2}',
    "patch_size": "the network's input in voxels, each divisible by 16: [H, W] in 2-D, [X, Y, Z] in 3-D",
    "intensity": '"min-max", a window in HU as [low, high] or {"window": [low, high]}, or in 3-D also "z-score"',
    "spacing": "the size in mm to resample to: one number, or [x, y, z]",
    "orientation": '"LPS", or null to leave the axes as they are stored',
    "stride": "3-D: the sliding window's in voxels, [x and y, z], at most the patch",
    "rot_flip": "3-D: true to turn and flip training patches in x and y",
    "patient": 'a regular expression with one group that finds the patient in a scan\'s name: "^(P\\\\d+)"',
    "kind": 'what the images are if they are no patients\', such as "phantoms"; tables and pages say so',
    "file_ending": f"nnU-Net's, one of {', '.join(SUFFIXES)}",
}
REQUIRED = ("name", "dims", "patch_size", "intensity")
CHANNELS = ("channel_names", "modality")  # nnU-Net's, now and formerly


@dataclass(frozen=True)
class CustomDatasetInfo(DatasetInfo):
    """A custom dataset, and what else its dataset.json says."""

    path: Path = Path()
    suffixes: tuple[str, ...] = SUFFIXES  # of the files that are scans
    notes: tuple[str, ...] = ()  # one line per thing ignored


def read_custom_dataset(path: Path) -> CustomDatasetInfo:
    """Read and check a dataset.json; raises InputError that names the file, the key and what it must be."""
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); fix it") from error
    if not isinstance(values, dict):
        raise InputError(f'{path}: not a JSON object, {{"name": ..., "dims": ...}} is needed')
    _check_keys(path, values)

    def get(key, parse, default=None):
        if key not in values:
            return default
        try:
            return parse(values[key])
        except (ValueError, TypeError, AttributeError, re.error) as error:
            raise InputError(f"{path}: '{key}' is {json.dumps(values[key])}; it must be {KEYS[key]}") from error

    dims = get("dims", _dims)
    by_label, by_order = get("labels", _labels), get("classes", _classes)
    if by_label and by_order and by_label != by_order:
        raise InputError(f"{path}: 'classes' and 'labels' name other classes or another order; leave one of them")
    classes = by_label or by_order
    patch_size = get("patch_size", lambda value: _patch_size(value, dims))
    quarter = (min(patch_size[:2]) // 4, patch_size[-1] // 4) if dims == 3 else (0, 0)
    name = get("name", _name)
    get("kind", _kind)
    preparation = Preparation(
        name,
        tuple((value, value) for value in range(len(classes) + 1)),
        orientation=get("orientation", _orientation, "LPS"),
        spacing=get("spacing", _spacing),
        axes="zyx" if dims == 2 else "xyz",
        **get("intensity", lambda value: _intensity(value, dims)),
    )
    return CustomDatasetInfo(
        name=name,
        dims=dims,
        classes=classes,
        patch_size=patch_size,
        folders=(name,),
        slice_paths=("data/slices/{id}.h5",) if dims == 2 else (),
        volume_paths=("data/{id}.h5",),
        train_lists=("train_slices.list",) if dims == 2 else ("train.list",),
        protocols={},
        labelnum_unit="",
        stride=get("stride", lambda value: _stride(value, dims, patch_size), quarter),
        rot_flip=get("rot_flip", lambda value: _rot_flip(value, dims), False),
        patient=get("patient", _patient),
        preparation=preparation,
        path=path,
        suffixes=get("file_ending", _file_ending, SUFFIXES),
        notes=_notes(path, values),
    )


def _check_keys(path: Path, values: dict) -> None:
    """Missing keys, misspelt ones, several channels. All other keys are nnU-Net's or the user's own business."""
    for key in values:
        close = difflib.get_close_matches(key.lower(), KEYS, n=1, cutoff=0.75)
        if key not in (*KEYS, *CHANNELS) and close:
            raise InputError(f"{path}: unknown key '{key}', is it '{close[0]}'? The keys are {', '.join(KEYS)}")
    for key in CHANNELS:
        if key in values and not (isinstance(values[key], dict) and len(values[key]) == 1):
            raise InputError(f"{path}: '{key}' must name one channel; only one-channel images are supported")
    for key in REQUIRED:
        if key not in values:
            hint = "; 'channel_names' does not choose it" if key == "intensity" and CHANNELS[0] in values else ""
            raise InputError(f"{path}: no '{key}', add it: {KEYS[key]}{hint}")
    if "classes" not in values and "labels" not in values:
        raise InputError(f"{path}: no 'classes', add them: {KEYS['classes']}; or nnU-Net's 'labels'")


def _notes(path: Path, values: dict) -> tuple[str, ...]:
    unknown = [key for key in values if key not in (*KEYS, *CHANNELS)]
    return (f"{path.name}: not used here: {', '.join(unknown)}",) if unknown else ()


def _must(condition: bool) -> None:
    """How the parsers below refuse a value; `read_custom_dataset` names the key and says what it must be."""
    if not condition:
        raise ValueError


def _name(value) -> str:
    _must(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value) is not None)
    return value


def _kind(value) -> None:
    _must(isinstance(value, str) and value.strip() == value != "" and value.isprintable())


def _dims(value) -> int:
    _must(type(value) is int and value in (2, 3))
    return value


def _classes(value) -> tuple[str, ...]:
    _must(isinstance(value, list) and 1 <= len(value) <= 255 and len(set(value)) == len(value))
    _must(all(isinstance(name, str) and name.strip() == name != "" and name.isprintable() for name in value))
    return tuple(value)


def _labels(value) -> tuple[str, ...]:
    if all(isinstance(name, str) for name in value.values()):  # nnU-Net's first version: {"0": "background"}
        value = {name: int(label) for label, name in value.items()}
    _must(all(type(label) is int for label in value.values()))
    names = sorted(value, key=value.get)
    _must([value[name] for name in names] == list(range(len(value))))
    return _classes(names[1:])


def _patch_size(value, dims: int) -> tuple[int, ...]:
    _must(len(value) == dims and all(type(size) is int and size > 0 and size % 16 == 0 for size in value))
    return tuple(value)


def _intensity(value, dims: int) -> dict:
    """The fields of a Preparation. In 3-D every scan is z-scored in the end, as the published datasets are."""
    z_score = {"z_score": "scan"} if dims == 3 else {}
    if value == "min-max":
        return {"min_max": True, **z_score}
    if value == "z-score":
        _must(dims == 3)
        return z_score
    if isinstance(value, dict):
        _must(list(value) == ["window"])
        value = value["window"]
    _must(isinstance(value, list))
    low, high = map(_number, value)
    _must(low < high)
    return {"window": (low, high), **z_score}


def _number(value) -> float:
    _must(type(value) in (int, float) and math.isfinite(value))
    return float(value)


def _spacing(value) -> Spacing:
    several = isinstance(value, list)
    sizes = tuple(map(_number, value if several else [value]))
    _must(min(sizes) > 0 and len(sizes) == (3 if several else 1))
    return sizes if several else sizes[0]


def _orientation(value) -> Optional[str]:
    _must(value in ("LPS", None))
    return value


def _stride(value, dims: int, patch_size: tuple[int, ...]) -> tuple[int, int]:
    _must(dims == 3 and len(value) == 2 and all(type(step) is int and step > 0 for step in value))
    _must(value[0] <= min(patch_size[:2]) and value[1] <= patch_size[2])
    return tuple(value)


def _rot_flip(value, dims: int) -> bool:
    _must(dims == 3 and type(value) is bool)
    return value


def _patient(value) -> str:
    _must(re.compile(value).groups == 1)
    return value


def _file_ending(value) -> tuple[str, ...]:
    _must(value in SUFFIXES)
    return (value,)
