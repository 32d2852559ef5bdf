"""The scans of a custom dataset: found in their folders, grouped by patient, divided into training and test.

Source: docs/DATA.md, "Your own dataset".
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

from dataloaders.checks.patient_names import EACH_SCAN
from dataloaders.custom_datasets import CustomDatasetInfo
from dataloaders.files import InputError, csv_text
from dataloaders.registry import case_of, volume_of
from dataloaders.scans.files import scan_files, scan_suffix
from dataloaders.seeding import generator

# (images, labels, whether they are for the test alone); nnU-Net's folders, or plain ones
LAYOUTS = (
    (("imagesTr", "labelsTr", False), ("imagesTs", "labelsTs", True)),
    (("images", "labels", False),),
)


class CustomScan(NamedTuple):
    """One scan. `volume` is its name in the prepared dataset, from which `case_of` finds the patient."""

    volume: str
    patient: str
    image: Path
    label: Optional[Path]
    for_test: bool  # of a folder that is for the test alone


class Found(NamedTuple):
    """What a source folder holds: whole scans, one line per fault, and one line per thing skipped."""

    scans: list[CustomScan]
    faults: list[str]
    notes: list[str]


def find_scans(own: CustomDatasetInfo, source: Path) -> Found:
    """The scans in images/ and labels/, or in nnU-Net's folders. A scan is a file, or a folder of DICOM slices.

    Raises InputError if neither exists, both do, or no scan is in them.
    """
    layouts = [layout for layout in LAYOUTS if (Path(source) / layout[0][0]).is_dir()]
    if len(layouts) != 1:
        wrong = (
            "both images/ and imagesTr/ in it, leave one" if layouts else "no images/ (or nnU-Net's imagesTr/) in it"
        )
        raise InputError(f"--source {source}: {wrong}; labels/ holds a label of the same name for each labelled scan")
    found, faults, notes = [], [], []
    for images, labels, for_test in layouts[0]:
        pairs, wrong = _pairs(own, Path(source) / images, Path(source) / labels)
        faults += wrong
        bare = [name for name, (_, label) in pairs.items() if label is None and for_test]
        if bare:
            notes.append(f"{images}: {len(bare)} scans without a label are left out, a test needs one: {bare[0]}, ...")
        found += [(name, *pair, for_test) for name, pair in pairs.items() if name not in bare]
    if not found and not faults:
        raise InputError(
            f"--source {source}: no scan in {layouts[0][0][0]}/, {', '.join(own.suffixes)} or DICOM folders"
        )
    return _with_patients(own, found, faults, notes)


def _pairs(
    own: CustomDatasetInfo, images: Path, labels: Path
) -> tuple[dict[str, tuple[Path, Optional[Path]]], list[str]]:
    """Name -> image and label, None without a label; and one line per fault."""
    of_images, of_labels = _by_name(own, images, folders=True), _by_name(own, labels, folders=False)
    if images.name.startswith("imagesT"):
        of_images = _without_channel(of_images)
    pairs, faults = {}, []
    for name in sorted({*of_images, *of_labels}):
        twice = next((of_name[name] for of_name in (of_images, of_labels) if len(of_name.get(name, ())) > 1), None)
        if twice:
            faults.append(f"{twice[0]}: {name} exists twice, also as {twice[1]}; leave one of them")
        elif name not in of_images:
            faults.append(f"{of_labels[name][0]}: no image {name} in {images}; add it or remove the label")
        else:
            pairs[name] = of_images[name][0], of_labels.get(name, [None])[0]
    return pairs, faults


def _by_name(own: CustomDatasetInfo, folder: Path, folders: bool) -> dict[str, list[Path]]:
    """Name without suffix -> the scans of this name in a folder, sorted; hidden files are skipped."""
    paths = defaultdict(list)
    for path in scan_files(folder, own.suffixes) if folder.is_dir() else ():
        paths[path.name[: -len(scan_suffix(path, own.suffixes))]].append(path)
    for path in sorted(folder.glob("[!.]*")) if folders else ():
        if path.is_dir():
            paths[path.name].append(path)
    return paths


def _without_channel(paths: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """nnU-Net names a scan's only channel CASE_0000; raises InputError where a case has a second channel."""
    for name, (path, *_) in paths.items():
        if name.endswith("_0001") and name[: -len("_0001")] + "_0000" in paths:
            raise InputError(f"{path}: a second channel, only one-channel images are supported, keep only _0000")
    return {re.sub("_0000$", "", name): of_name for name, of_name in paths.items()}


def _with_patients(own: CustomDatasetInfo, found: Sequence[tuple], faults: list[str], notes: list[str]) -> Found:
    """Give each scan its patient and its name in the prepared dataset."""
    scans: list[CustomScan] = []
    seen: dict[str, CustomScan] = {}
    count = defaultdict(int)
    for name, image, label, for_test in sorted(found):
        match = re.search(own.patient, name) if own.patient else None
        if own.patient and not (match and match[1]):
            faults.append(f"{image}: 'patient' of {own.path.name}, {own.patient}, finds none in {name}; correct it")
            continue
        patient = match[1] if match else case_of(name)
        count[patient] += 1
        kept = not match or own.patient == EACH_SCAN and case_of(name) == name  # nothing is to be prepared again
        volume = name if kept else f"{patient}_frame{count[patient]:02d}"
        scan = CustomScan(volume, patient, image, label, for_test)
        other = seen.setdefault(patient, scan)
        if volume_of(volume) != volume or volume != volume.strip():
            faults.append(f"{image}: its name ends like that of a slice, or with a blank; rename it and its label")
        elif other.for_test != for_test:
            faults.append(
                f"{image}: patient {patient} is in {other.image.parent.name} too; a patient must be in only one of them"
            )
        else:
            scans.append(scan)
    labelled, whole = {scan.patient for scan in scans if scan.label}, labelled_patients(scans)
    partly = [patient for patient in labelled if patient not in whole]
    if partly:
        notes.append(
            f"{len(partly)} patients have labels for some scans only and count as unlabelled: {min(partly)}, ..."
        )
    return Found(scans, faults, notes)


def labelled_patients(scans: Sequence[CustomScan]) -> list[str]:
    """The patients of whose scans all have labels, in order."""
    bare = {scan.patient for scan in scans if scan.label is None}
    return [patient for patient in dict.fromkeys(scan.patient for scan in scans) if patient not in bare]


def split_scans(scans: Sequence[CustomScan], shares: Sequence[int], seed: int) -> dict[str, list[CustomScan]]:
    """Role ("train", "val", "test") -> its scans, patient by patient in an order drawn from the seed and their names.

    shares: of the labelled patients in training, validation and test. A patient is labelled if all scans are; the
    others follow behind the labelled ones in training. Scans that are for the test alone are the test, and the rest is
    divided by the first two shares. Raises InputError where patients are too few.
    """
    of_patient = defaultdict(list)
    for scan in scans:
        of_patient[scan.patient].append(scan)
    order = sorted(of_patient, key=lambda patient: generator(seed, "split", *patient.encode()).random())
    given = [patient for patient in order if of_patient[patient][0].for_test]
    whole = {*labelled_patients(scans)} - {*given}
    labelled = [patient for patient in order if patient in whole]
    parts = (*shares[:2], 0) if given else shares
    least = 1 + sum(part > 0 for part in parts[1:])
    if len(labelled) < least:
        raise InputError(
            f"{len(labelled)} patients have labels, too few for training, validation and test: label {least} at least, "
            "or give another --split"
        )
    val, test = (max(1, round(len(labelled) * part / sum(parts))) if part else 0 for part in parts[1:])
    test = min(test, len(labelled) - 1 - min(val, 1))
    val = min(val, len(labelled) - 1 - test)
    train = len(labelled) - val - test
    roles = {
        "train": labelled[:train] + [patient for patient in order if patient not in (*labelled, *given)],
        "val": labelled[train : train + val],
        "test": labelled[train + val :] + given,
    }
    return {role: [scan for patient in names for scan in of_patient[patient]] for role, names in roles.items()}


def scan_table(scans: dict[str, list[CustomScan]]) -> str:
    """As CSV: the name and list of each scan in the prepared dataset, its patient, and the files it came from."""
    rows = [
        [scan.volume, scan.patient, role, scan.image.name, scan.label.name if scan.label else ""]
        for role, of_role in scans.items()
        for scan in of_role
    ]
    return csv_text([["scan", "patient", "list", "image", "label"], *rows])
