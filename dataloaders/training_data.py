"""What a training run reads: labelled and unlabelled training data, and the cases that select the best weights."""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

import torch
from torch.utils.data import Dataset

from dataloaders.datasets import PatchDataset, SliceDataset, VolumeDataset
from dataloaders.files import InputError
from dataloaders.info import Preparation
from dataloaders.reading import (
    hardly_shown,
    image_axes,
    lacks_label,
    list_hash,
    read_list,
    resolve,
    resolve_all,
    stated_kind,
    stated_orientation,
    stated_preparation,
)
from dataloaders.registry import (
    DATASETS,
    PREPARATIONS,
    DatasetInfo,
    case_of,
    find_root,
    get_dataset,
    labelled_cases,
    slice_number,
    volume_of,
)

NOT_CHOSEN = "not chosen: no validation, best.pth holds the last weights"


@dataclass
class TrainingData:
    """Everything a run trains and selects on. `selection_rule` says in words on what the best weights are chosen."""

    info: DatasetInfo
    root: Path
    patch_size: Sequence[int]
    train: Dataset
    labelled: list[int]
    unlabelled: list[int]
    labelled_names: list[str]  # cases, in the list's order
    selection: VolumeDataset  # empty where no weights are selected
    selection_rule: str
    lists: dict[str, str]  # role -> SHA-256 of the entries used
    hashes: dict[str, str]  # role -> SHA-256 of the images and labels as they were read
    summary: list[str]  # lines for the log
    preparation: Optional[Preparation]  # from a scan to these images, as the first training file states it
    orientation: Optional[str]  # of all training scans, where it is known and one
    kind: str = ""  # what the data are if they are not patients', "phantoms"


def find_list(info: DatasetInfo, root: Path, role: str, given: Optional[str]) -> Optional[Path]:
    """The list file of a role ("train", "val", "test"): the one given, else the dataset's own, or None."""
    if given is not None:
        if not Path(given).is_file():
            raise InputError(f"--{role}_list {given}: no such file")
        return Path(given)
    names = getattr(info, f"{role}_lists")
    return next((root / name for name in names if (root / name).is_file()), None)


def require_list(info: DatasetInfo, root: Path, role: str, given: Optional[str]) -> Path:
    """`find_list`, but a missing list is an InputError that names the fix."""
    path = find_list(info, root, role, given)
    if path is None:
        names = " or ".join(getattr(info, f"{role}_lists"))
        splits = "the splits: dataloaders/lists/" if info.name in DATASETS else "prepare.py --split makes one"
        raise InputError(f"{root}: no {names} here; name a list with --{role}_list ({splits})")
    return path


def open_volumes(info: DatasetInfo, root: Path, path: Path) -> VolumeDataset:
    """The volumes of a list; raises InputError for entries without a file."""
    entries = read_list(path, root, info.volume_paths)
    return VolumeDataset(info, entries, resolve_all(root, info.volume_paths, entries, path))


def load_training_data(args: argparse.Namespace, strong: bool = True, val_cases: Optional[int] = None) -> TrainingData:
    """Find, read and check all that a run needs. Writes nothing; raises InputError for whatever a user can fix.

    strong: whether batches of slices hold the strong view too; val_cases: select on the first so many cases only.
    Reads of `args`: name, root_path, train_list, val_list, test_list, labelnum, labeled_cases, protocol,
    holdout_cases, patch_size, seed. A protocol of None, a custom dataset's default, is replaced there by the one used.
    """
    info = get_dataset(args.name, args.root_path)
    root = find_root(info, args.root_path)
    train_list = require_list(info, root, "train", args.train_list)
    templates, what = (info.slice_paths, "slices") if info.dims == 2 else (info.volume_paths, "volumes")
    entries = read_list(train_list, root, (*templates, *info.volume_paths))
    first = resolve(root, templates, entries[0]) or resolve(root, info.volume_paths, entries[0])
    if first is not None and image_axes(first, info.dims) not in (0, info.dims):
        other = "volumes" if info.dims == 2 else "slices"
        raise InputError(f"{train_list}: lists {other} ({entries[0]}), training needs a list of {what}")
    names, rule = labelled_cases(info, entries, args.labelnum, args.labeled_cases)

    val_list = find_list(info, root, "val", args.val_list)
    selection, selection_rule, held_out = _selection(args, info, root, val_list, entries, names)
    if args.protocol is None:
        args.protocol = "paper"  # without effect: there is a validation list
    if val_cases is not None and val_cases < len(selection):
        selection = VolumeDataset(info, selection.names[:val_cases], selection.sources[:val_cases])
        selection_rule += f"; only its first {val_cases}"
    entries = [entry for entry in entries if case_of(entry) not in held_out]
    paths = resolve_all(root, templates, entries, train_list)
    labelled = [index for index, entry in enumerate(entries) if case_of(entry) in names]
    _check_labels(paths, entries, labelled, names)
    taken = set(labelled)
    unlabelled = [index for index in range(len(entries)) if index not in taken]
    selection_hash = selection.check()
    patch_size = tuple(args.patch_size or info.patch_size)
    if info.dims == 2:
        train = SliceDataset(paths, labelled, info, patch_size, args.seed, strong)
    else:
        train = PatchDataset(paths, labelled, info, patch_size, args.seed)

    first_of = {case_of(entry): path for entry, path in zip(reversed(entries), reversed(paths))}
    kind, cases = stated_kind(root, first_of.values()), len(first_of)
    expected = info.expected.get("train")
    counts = len(entries), len(labelled), len(unlabelled)
    total, some, rest = (f", {count} slices" if info.dims == 2 else "" for count in counts)
    summary = [
        f"data: {info.name}{f' ({kind})' if kind else ''} in {root}, classes {', '.join(info.classes)}",
        f"training list: {train_list.name}, {cases} cases{total}"
        + ("" if expected in (None, len(entries) + len(held_out)) else f" (the published list has {expected} {what})"),
        f"labelled: {len(names)} cases ({rule}){some} ({len(labelled) / len(entries):.1%}): " + ", ".join(names),
        f"unlabelled: {cases - len(names)} cases{rest}",
        f"selection of the best weights: {selection_rule}",
        *_protocol_warning(args, val_list),
        *_label_warnings(train, info, entries, labelled),
        *_overlap_warnings(info, root, args, val_list, entries, selection.names),
        *_nothing_unlabelled(args, unlabelled),
    ]
    lists = {"train": list_hash(entries), "selection": list_hash(selection.names)}
    hashes = {"train": train.sha256, "selection": selection_hash}
    return TrainingData(
        info=info,
        root=root,
        patch_size=patch_size,
        train=train,
        labelled=labelled,
        unlabelled=unlabelled,
        labelled_names=names,
        selection=selection,
        selection_rule=selection_rule,
        lists=lists,
        hashes=hashes,
        summary=summary,
        preparation=stated_preparation(paths[0]) or PREPARATIONS.get(info.name),
        orientation=stated_orientation(list(first_of.values())),
        kind=kind,
    )


def _check_labels(paths: Sequence[Path], entries: Sequence[str], labelled: Sequence[int], names: Sequence[str]):
    """Raise InputError if a case to be labelled has no label; it says how many cases before it have one."""
    bare = {case_of(entries[index]): paths[index] for index in reversed(labelled) if lacks_label(paths[index])}
    for number, case in enumerate(names):
        if case in bare:
            fix = (
                f"the {number} before it have: --labeled_cases 1..{number}" if number else "put one with a label first"
            )
            raise InputError(f"{bare[case]}: no 'label' in this file, but case {case} is to be labelled; {fix}")


def _nothing_unlabelled(args, unlabelled: Sequence[int]) -> list[str]:
    if unlabelled or getattr(args, "unlabelled", "on") == "off":
        return []
    return ["WARNING: no case is unlabelled: only the supervised loss is trained, as by --preset supervised"]


def _selection(
    args, info: DatasetInfo, root: Path, val_list: Optional[Path], entries: Sequence[str], labelled: Sequence[str]
):
    """The volumes that select the best weights, the rule in words, and the cases it takes out of training."""
    if val_list is not None:
        volumes = open_volumes(info, root, val_list)
        return volumes, f"mean Dice on {val_list.name} ({len(volumes)} volumes)", set()
    if args.protocol == "paper":
        test_list = require_list(info, root, "test", args.test_list)
        volumes = open_volumes(info, root, test_list)
        released = ", as in the released programs" if info.name in DATASETS else ""
        rule = (
            f"mean Dice on the TEST list {test_list.name} ({len(volumes)} volumes){released}: {info.name} has no "
            "validation list; --protocol holdout selects on training cases"
        )
        return volumes, rule, set()
    if args.protocol == "last":
        return VolumeDataset(info, [], []), f"{NOT_CHOSEN} (--protocol last)", set()
    spare = [case for case in dict.fromkeys(map(case_of, entries)) if case not in labelled]
    held_out = _last_with_labels(info, root, entries, spare, args.holdout_cases)
    if len(held_out) < args.holdout_cases or len(spare) <= args.holdout_cases:
        takes = f"takes {args.holdout_cases} unlabelled cases out of training, the list has {len(spare)}"
        takes += f", {len(held_out)} of them with labels"
        if args.protocol is None:
            args.protocol = "last"
            return VolumeDataset(info, [], []), f"{NOT_CHOSEN} (--protocol holdout {takes})", set()
        raise InputError(
            f"--protocol holdout {takes}: lower --holdout_cases or the number of labelled cases, name a --val_list, "
            "or keep the last weights with --protocol last"
        )
    args.protocol = "holdout"
    rule = f"mean Dice on {len(held_out)} unlabelled training cases held out of training: {', '.join(held_out)}"
    return _held_out_volumes(info, root, entries, held_out), rule, set(held_out)


def _files_of(info: DatasetInfo, root: Path, entries: Sequence[str]) -> list[Path]:
    """The training files of these entries."""
    return resolve_all(root, info.slice_paths if info.dims == 2 else info.volume_paths, entries, root)


def _last_with_labels(
    info: DatasetInfo, root: Path, entries: Sequence[str], cases: Sequence[str], count: int
) -> list[str]:
    """The last `count` of these cases of which every file has a label, or as many as there are."""
    of_case = defaultdict(list)
    for entry in entries:
        of_case[case_of(entry)].append(entry)
    found: list[str] = []
    for case in reversed(cases):
        if len(found) < count and not any(map(lacks_label, _files_of(info, root, of_case[case]))):
            found.append(case)
    return found[::-1]


def _held_out_volumes(info: DatasetInfo, root: Path, entries: Sequence[str], cases: Sequence[str]) -> VolumeDataset:
    """The volumes of these cases; 2-D ones are stacked from their slices in numeric order."""
    volumes = defaultdict(list)
    for entry in entries:
        if case_of(entry) in cases:
            volumes[volume_of(entry) if info.dims == 2 else entry].append(entry)
    if info.dims == 3:
        return VolumeDataset(info, list(volumes), _files_of(info, root, list(volumes)))
    slices = [_files_of(info, root, sorted(of_volume, key=slice_number)) for of_volume in volumes.values()]
    return VolumeDataset(info, list(volumes), slices)


def _protocol_warning(args, val_list: Optional[Path]) -> list[str]:
    if args.protocol == "paper" or val_list is None:
        return []
    return [f"WARNING: --protocol {args.protocol} has no effect, {val_list.name} is a validation list"]


def _label_warnings(train, info: DatasetInfo, entries: Sequence[str], labelled: Sequence[int]) -> list[str]:
    """A line for labelled cases without foreground, and one for each class that labelled images hardly show."""
    voxels: dict[str, torch.Tensor] = {}
    for index in labelled:
        counts = torch.bincount(train.labels[train.place(index)], minlength=info.num_classes)
        voxels[case_of(entries[index])] = voxels.get(case_of(entries[index]), 0) + counts
    empty = [case for case, counts in voxels.items() if not counts[1:].any()]
    lines = [f"the labels of {len(empty)} labelled cases are all background: {', '.join(empty)}"] if empty else []
    lines += hardly_shown([counts.tolist() for counts in voxels.values()], ("background", *info.classes))
    return [f"WARNING: {line}" for line in lines]


def _overlap_warnings(
    info: DatasetInfo, root: Path, args, val_list: Optional[Path], entries: Sequence[str], selection: Sequence[str]
) -> list[str]:
    """A line for each pair of lists that share cases though they should not."""
    pairs = [("train and select", entries, selection)]
    test_list = find_list(info, root, "test", args.test_list)
    on_test = args.protocol == "paper" and val_list is None
    if test_list is not None and not on_test:
        tested = read_list(test_list, root, info.volume_paths)
        pairs.append(("train and are in the test list", entries, tested))
        pairs.append(("are in the validation and the test list", selection, tested))
    warnings = []
    for what, some, others in pairs:
        shared = sorted(set(map(case_of, some)) & set(map(case_of, others)))
        if shared:
            warnings.append(f"WARNING: {len(shared)} cases {what}: {', '.join(shared[:5])}")
    return warnings
