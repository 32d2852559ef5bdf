"""The table of datasets: classes, patch, layouts on disk, label protocols. The only place that knows them.

A dataset of one's own needs no entry: its folder holds a dataset.json (own_datasets.py), and `get_dataset` finds it.
Sources: docs/DATA.md and docs/PROTOCOLS.md.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple, Union

from dataloaders.errors import InputError
from dataloaders.own_datasets import DESCRIPTION, OwnDataset, read_own_dataset
from dataloaders.preparation import Preparation

# What one value of --labelnum stands for: a number of cases at the list's head, their names, or None for all.
Protocol = Union[int, Tuple[str, ...], None]


@dataclass(frozen=True)
class DatasetInfo:
    """One dataset. Templates are relative to the dataset's folder, tried in order; `{id}` is a list's entry."""

    name: str
    dims: int  # 2: trained on slices, tested on volumes (Z, H, W); 3: volumes throughout
    classes: Tuple[str, ...]  # foreground, in label order: classes[0] is label 1
    patch_size: Tuple[int, ...]  # voxels, in array axis order
    folders: Tuple[str, ...]  # spellings of the dataset's folder under DATASET_HOME
    volume_paths: Tuple[str, ...]
    protocols: Mapping[int, Protocol]  # --labelnum -> labelled cases
    labelnum_unit: str  # what --labelnum counts: "per cent" or "volumes"; "" where there is none
    slice_paths: Tuple[str, ...] = ()
    stride: Tuple[int, int] = (0, 0)  # of the sliding window, in the first two axes and in the last; 3-D
    rot_flip: bool = False  # training patches are turned and flipped in the first two axes; 3-D
    any_labelnum: bool = False  # other numbers are accepted as so many volumes at the list's head
    train_lists: Tuple[str, ...] = ("train.list",)
    val_lists: Tuple[str, ...] = ("val.list",)
    test_lists: Tuple[str, ...] = ("test.list",)
    expected: Mapping[str, int] = field(default_factory=dict)  # entries of the published lists
    labelled_slices: Mapping[int, int] = field(default_factory=dict)  # --labelnum -> slices in the published list; 2-D
    known_copies: Tuple[Tuple[str, ...], ...] = ()  # cases whose images are the same in the published data
    preparation: Optional[Preparation] = None  # of an own dataset's scans; of the published ones: preparation.py
    patient: Optional[str] = None  # the expression by which a custom dataset tells patients apart, if it has one

    @property
    def num_classes(self) -> int:
        """Classes with the background."""
        return len(self.classes) + 1


_SLICE_PATHS = ("data/slices/{id}.h5", "data/{id}.h5", "slices/{id}.h5")
_SLICE_LISTS = ("train_slices.list", "train.list")
_SYNAPSE_5 = ("case0030",)
_SYNAPSE_10 = _SYNAPSE_5 + ("case0023",)
_SYNAPSE_20 = _SYNAPSE_10 + ("case0005", "case0033")

DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            name="ACDC",
            dims=2,
            classes=("RV", "Myo", "LV"),
            patch_size=(256, 256),
            folders=("ACDC",),
            slice_paths=_SLICE_PATHS,
            volume_paths=("data/{id}.h5", "volumes/{id}.h5"),
            train_lists=_SLICE_LISTS,
            labelnum_unit="per cent",
            protocols={1: 1, 5: 3, 10: 7, 20: 14, 30: 21, 40: 28, 50: 35, 100: None},
            expected={"train": 1312, "val": 20, "test": 40},
            labelled_slices={1: 32, 5: 68, 10: 136, 20: 256, 30: 396, 40: 512, 50: 664, 100: 1312},
            known_copies=(("patient074", "patient076"),),  # one scan, annotated twice; both train
        ),
        DatasetInfo(
            name="Synapse",
            dims=2,
            classes=("Aorta", "GB", "KL", "KR", "Liver", "PC", "SP", "SM"),
            patch_size=(256, 256),
            folders=("Synapse", "Synapse_TransUNet"),
            slice_paths=(*_SLICE_PATHS, "train_npz/{id}.npz"),  # the latter two: TransUNet's distribution
            volume_paths=("data/{id}.h5", "volumes/{id}.h5", "test_vol_h5/{id}.npy.h5"),
            train_lists=(*_SLICE_LISTS, "lists_Synapse/train.txt", "lists/lists_Synapse/train.txt"),
            test_lists=("test.list", "lists_Synapse/test_vol.txt", "lists/lists_Synapse/test_vol.txt"),
            labelnum_unit="per cent",
            protocols={5: _SYNAPSE_5, 10: _SYNAPSE_10, 20: _SYNAPSE_20, 100: None},
            expected={"train": 2211, "test": 12},
            labelled_slices={5: 153, 10: 249, 20: 470, 100: 2211},
        ),
        DatasetInfo(
            name="LA",
            dims=3,
            classes=("LA",),
            patch_size=(112, 112, 80),
            stride=(18, 4),
            rot_flip=True,
            folders=("LA",),
            volume_paths=(
                "2018LA_Seg_Training Set/{id}/mri_norm2.h5",
                "2018LA_Seg_TrainingSet/{id}/mri_norm2.h5",
                "Training Set/{id}/mri_norm2.h5",
                "{id}/mri_norm2.h5",
            ),
            labelnum_unit="volumes",
            protocols={4: 4, 8: 8, 16: 16},
            any_labelnum=True,
            expected={"train": 80, "test": 20},
        ),
        DatasetInfo(
            name="Pancreas",
            dims=3,
            classes=("pancreas",),
            patch_size=(96, 96, 96),
            stride=(16, 16),
            folders=("Pancreas",),
            volume_paths=("Pancreas_h5/{id}.h5", "Pancreas_h5/{id}_norm.h5", "{id}.h5", "{id}_norm.h5"),
            labelnum_unit="volumes",
            protocols={6: 6, 12: 12},
            any_labelnum=True,
            expected={"train": 62, "test": 20},
        ),
        DatasetInfo(
            name="IAN",
            dims=3,
            classes=("IAN",),
            patch_size=(160, 128, 112),
            stride=(16, 16),
            folders=("IAN", "Nurves"),
            volume_paths=("Nurves_h5/{id}.h5", "{id}.h5"),
            labelnum_unit="volumes",
            protocols={},
            any_labelnum=True,
            expected={"train": 90},
        ),
    )
}
ALIASES = {"Nurves": "IAN"}


def get_dataset(name: str, root_path: Optional[str] = None) -> DatasetInfo:
    """The dataset called `name`: of the table, else the one that a dataset.json in its folder describes.

    root_path: the dataset's own folder, by default `name` under $DATASET_HOME. Raises InputError with the known names.
    """
    name = ALIASES.get(name, name)
    if name in DATASETS:
        return DATASETS[name]
    home = os.environ.get("DATASET_HOME")
    folder = Path(root_path) if root_path else Path(home, name) if home else None
    if folder is None or not (folder / DESCRIPTION).is_file():
        place = "with $DATASET_HOME set" if folder is None else f"there is no {folder / DESCRIPTION}"
        raise InputError(
            f"unknown dataset '{name}': choose one of {', '.join(DATASETS)}; or prepare your own by scripts/prepare.py "
            f"--name Custom ({place})"
        )
    own = read_own_dataset(folder / DESCRIPTION)
    if own.name != name:
        raise InputError(f"{own.path}: describes {own.name}, not {name}: give --name {own.name} with --root_path")
    return own_info(own)


def own_info(own: OwnDataset) -> DatasetInfo:
    """The entry of a dataset of one's own; raises InputError where it has the name of a published one."""
    if own.name in (*DATASETS, *ALIASES):
        raise InputError(f"{own.path}: 'name' is {own.name}, which is a published dataset; choose another")
    return DatasetInfo(
        name=own.name,
        dims=own.dims,
        classes=own.classes,
        patch_size=own.patch_size,
        stride=own.stride,
        rot_flip=own.rot_flip,
        folders=(own.name,),
        slice_paths=("data/slices/{id}.h5",) if own.dims == 2 else (),
        volume_paths=("data/{id}.h5",),
        train_lists=("train_slices.list",) if own.dims == 2 else ("train.list",),
        protocols={},
        labelnum_unit="",
        preparation=own.preparation,
        patient=own.patient,
    )


def find_root(info: DatasetInfo, root_path: Optional[str] = None) -> Path:
    """The dataset's folder: `root_path`, else the spelling of its name that exists under $DATASET_HOME."""
    if root_path is not None:
        if not Path(root_path).is_dir():
            raise InputError(f"--root_path {root_path}: no such folder")
        return Path(root_path)
    home = os.environ.get("DATASET_HOME")
    if not home:
        raise InputError(
            f"DATASET_HOME is not set: export DATASET_HOME=<the parent folder of {info.folders[0]}/>, "
            "or name the dataset's own folder with --root_path"
        )
    for folder in info.folders:
        if (Path(home) / folder).is_dir():
            return Path(home) / folder
    raise InputError(
        f"DATASET_HOME={home} has no folder {' or '.join(info.folders)}: correct it, "
        "or name the dataset's own folder with --root_path"
    )


def case_of(entry: str) -> str:
    """The case of a list's entry: patient001_frame01_slice_3 -> patient001, case0005_slice012 -> case0005."""
    return re.sub(r"(_frame\d+)?(_slice_?\d+)?$", "", entry)


def volume_of(entry: str) -> str:
    """The volume of a list's entry: patient001_frame01_slice_3 -> patient001_frame01, a volume's own name as it is."""
    return re.sub(r"_slice_?\d+$", "", entry)


def slice_number(entry: str) -> int:
    """The number at the end of a slice's name, by which a volume is stacked."""
    return int(re.search(r"(\d+)$", entry).group(1))


def labelled_cases(
    info: DatasetInfo, entries: Sequence[str], labelnum: Optional[int], labeled_cases: Optional[int]
) -> Tuple[list[str], str]:
    """Which cases of a training list are labelled, in the list's order, and by what rule (a phrase for the log).

    `labeled_cases` (a user's own number of cases at the list's head) goes before `labelnum` (the dataset's protocol).
    Raises InputError for a number that the dataset or the list does not have, naming the possible ones.
    """
    cases = list(dict.fromkeys(case_of(entry) for entry in entries))
    if labeled_cases is not None:
        flag, rule, wanted = f"--labeled_cases {labeled_cases}", "no published protocol", labeled_cases
    elif labelnum in info.protocols:
        flag, rule, wanted = (
            f"--labelnum {labelnum}",
            f"protocol {labelnum} {info.labelnum_unit}",
            info.protocols[labelnum],
        )
    elif info.any_labelnum and labelnum is not None:
        flag, rule, wanted = f"--labelnum {labelnum}", "no published protocol", labelnum
    elif not info.protocols:
        raise InputError(
            f"{info.name} has no protocol for --labelnum: say with --labeled_cases N how many of the "
            f"{len(cases)} training cases are labelled"
        )
    else:
        known = ", ".join(str(number) for number in info.protocols)
        raise InputError(
            f"--labelnum {labelnum}: {info.name} has {known} ({info.labelnum_unit}); "
            "for a number of cases of your own use --labeled_cases"
        )
    if wanted is None:
        return cases, rule
    if isinstance(wanted, tuple):
        missing = [case for case in wanted if case not in cases]
        if missing:
            raise InputError(f"{flag}: the training list lacks the labelled cases {', '.join(missing)}")
        return [case for case in cases if case in wanted], rule
    if not 1 <= wanted <= len(cases):
        raise InputError(
            f"{flag} means {wanted} cases, the training list has {len(cases)}: use --labeled_cases 1..{len(cases)}, "
            "as far as they have labels"
        )
    return cases[:wanted], rule
