"""Finding the cases of the published lists in the official downloads, in all the ways they unpack.

Source: docs/PROTOCOLS.md, "The downloads as they unpack".
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, Optional

from dataloaders.files import InputError
from dataloaders.reading import read_list
from dataloaders.registry import case_of
from dataloaders.scans.dicom import is_dicom

LISTS = Path(__file__).resolve().parent.parent / "lists"
PATIENT_FRAMES = ("frame01", "frame02")  # ACDC's two annotated phases, in order of time
WITHDRAWN = ("image0025", "image0070")  # of NIH Pancreas-CT, in 2020: the same scan as image0002
EXPECTED = {
    "ACDC": "training/patient001/patient001_frame01.nii.gz and patient001_frame01_gt.nii.gz",
    "Synapse": "img/img0001.nii.gz and label/label0001.nii.gz",
    "LA": "<ID>/lgemri.nrrd and <ID>/laendo.nrrd",
    "Pancreas": "PANCREAS_0001/<study>/<series>/*.dcm (or image0001.nii.gz) and label0001.nii.gz",
}


class Source(NamedTuple):
    """Where one case's image and label are; the image may be a DICOM folder, a custom scan may lack a label."""

    image: Path
    label: Optional[Path]


def published_cases(name: str) -> dict[str, list[str]]:
    """role -> the volumes of each published list, in its order."""
    cases = {}
    for role in ("train", "val", "test"):
        if (LISTS / f"{name}_{role}.list").exists():
            cases[role] = read_list(LISTS / f"{name}_{role}.list")
        elif (LISTS / f"{name}_{role}_patients.list").exists():
            patients = read_list(LISTS / f"{name}_{role}_patients.list")
            cases[role] = [f"{patient}_{frame}" for patient in patients for frame in PATIENT_FRAMES]
    return cases


def _acdc(path: Path) -> Optional[tuple[str, str]]:
    match = re.match(r"(patient\d{3}_frame\d+)(_gt)?\.nii(\.gz)?$", path.name)
    return match and (match[1], "label" if match[2] else "image")


def _synapse(path: Path) -> Optional[tuple[str, str]]:
    match = re.match(r"(img|label)(\d{4})\.nii(\.gz)?$", path.name)
    return match and (f"case{match[2]}", "image" if match[1] == "img" else "label")


def _la(path: Path) -> Optional[tuple[str, str]]:
    kind = {"lgemri.nrrd": "image", "laendo.nrrd": "label"}.get(path.name)
    return kind and (path.parent.name, kind)


def _pancreas(path: Path) -> Optional[tuple[str, str]]:
    match = re.match(r"(image|label)(\d{4})\.nii(\.gz)?$", path.name)
    if match:
        return f"image{match[2]}", match[1]
    numbers = [match[1] for match in map(re.compile(r"PANCREAS_(\d{4})$").match, path.parts) if match]
    return (f"image{numbers[-1]}", "series") if numbers and is_dicom(path) else None


# A file's path -> (case, "image", "label" or "series": a slice in the image's DICOM folder), None for any other file.
KINDS = {"ACDC": _acdc, "Synapse": _synapse, "LA": _la, "Pancreas": _pancreas}


def find_cases(name: str, source: Path) -> tuple[dict[str, Source], dict[str, str]]:
    """The cases of a download: {case: source} of whole ones and {case or patient: what is wrong} of the others.

    Raises InputError where the folder is not there or holds no file of the dataset.
    """
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"--source {source}: no such folder")
    files = defaultdict(set)  # (case, kind) -> paths
    for folder, folders, names in os.walk(source):
        folders.sort()
        for file in sorted(names):
            path = Path(folder, file)
            found = KINDS[name](path)
            if found and found[1] == "series":
                files[found].add(path.parent)
                break  # the slices of one folder
            if found:
                files[found].add(path)
    if not files:
        raise InputError(f"--source {source}: nothing of {name} in it, expected {EXPECTED[name]} at some depth")
    return _acdc_frames(files) if name == "ACDC" else _pairs(files)


def _pairs(files) -> tuple[dict[str, Source], dict[str, str]]:
    """Image and label of each case, each of them once; a DICOM series goes before a converted copy."""
    whole, faults = {}, {}
    for case in sorted({case for case, _ in files}):
        images, labels = files.get((case, "series")) or files.get((case, "image")), files.get((case, "label"))
        if not images or not labels:
            there = next(iter(images or labels))
            faults[case] = f"{there}: no {'label' if images else 'image'} next to it for {case}"
            continue
        doubled = [paths for paths in (images, labels) if len(paths) > 1]
        if doubled:
            first, second = sorted(doubled[0])[:2]
            faults[case] = f"{first}: {case} exists twice, also as {second}; leave one of them"
            continue
        whole[case] = Source(next(iter(images)), next(iter(labels)))
    return whole, faults


def _acdc_frames(files) -> tuple[dict[str, Source], dict[str, str]]:
    """The download names frames by their number in the film; the annotated two become frame01 and frame02."""
    pairs, faults = _pairs({key: paths for key, paths in files.items() if (key[0], "label") in files})
    whole, by_patient = {}, defaultdict(list)
    for frame in sorted(pairs, key=lambda frame: (case_of(frame), int(frame.split("_frame")[1]))):
        by_patient[case_of(frame)].append(pairs[frame])
    patients = {case_of(case) for case, _ in files}
    faults = {case_of(frame): fault for frame, fault in faults.items()}
    for patient in sorted(patients - set(faults)):
        frames = by_patient[patient]
        if len(frames) == len(PATIENT_FRAMES):
            whole.update({f"{patient}_{frame}": source for frame, source in zip(PATIENT_FRAMES, frames)})
        else:
            names = ", ".join(source.label.name for source in frames) or "no _gt file"
            folder = next(path.parent for key in sorted(files) if case_of(key[0]) == patient for path in files[key])
            faults[patient] = f"{folder}: {len(frames)} of 2 annotated frames ({names})"
    return whole, faults
