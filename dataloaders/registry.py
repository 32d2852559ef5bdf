"""The table of datasets: classes, patch, layouts on disk, label protocols. The only place that knows them.

A custom dataset needs no entry: its folder holds a dataset.json (custom_datasets.py), and `get_dataset` finds it.
Sources: docs/DATA.md and docs/PROTOCOLS.md.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional, Sequence

from dataloaders.custom_datasets import DESCRIPTION, CustomDatasetInfo, read_custom_dataset
from dataloaders.files import InputError, did_you_mean
from dataloaders.info import DatasetInfo, Preparation

_SLICE_PATHS = ("data/slices/{id}.h5", "data/{id}.h5", "slices/{id}.h5")
_SLICE_LISTS = ("train_slices.list", "train.list")
_CT_WINDOW = (-125.0, 275.0)  # HU
_BTCV_ORGANS = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}  # TransUNet's eight of BTCV's thirteen
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
            preparation=Preparation("ACDC", ((0, 0), (1, 1), (2, 2), (3, 3)), min_max=True),
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
            preparation=Preparation(
                "Synapse", tuple((o, _BTCV_ORGANS.get(o, 0)) for o in range(14)), window=_CT_WINDOW, axes="zxy"
            ),
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
            preparation=Preparation(
                "LA", ((0, 0), (1, 1), (255, 1)), axes="xyz", least=(112, 112), margin=(10, 20), z_score="scan"
            ),
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
            preparation=Preparation(
                "Pancreas",
                ((0, 0), (1, 1)),
                orientation="LPS",
                window=_CT_WINDOW,
                spacing=1.0,
                axes="xyz",
                least=(96, 96),
                margin=(25, 25),
                z_score="crop",
            ),
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
PREPARATIONS = {name: info.preparation for name, info in DATASETS.items() if info.preparation}


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
        place = "$DATASET_HOME is not set" if folder is None else f"there is no {folder / DESCRIPTION}"
        raise InputError(
            f"unknown dataset '{name}'{did_you_mean(name, DATASETS)}: choose one of {', '.join(DATASETS)}, or prepare "
            f"a custom one with scripts/prepare.py --name Custom ({place})"
        )
    own = read_custom_dataset(folder / DESCRIPTION)
    if own.name != name:
        raise InputError(f"{own.path}: describes {own.name}, not {name}: give --name {own.name} with --root_path")
    return custom_info(own)


def custom_info(own: CustomDatasetInfo) -> DatasetInfo:
    """`own` itself; raises InputError where it has the name of a published dataset."""
    if own.name in (*DATASETS, *ALIASES):
        raise InputError(f"{own.path}: 'name' is {own.name}, which is a published dataset; choose another")
    return own


def find_root(info: DatasetInfo, root_path: Optional[str] = None) -> Path:
    """The dataset's folder: `root_path`, else the spelling of its name that exists under $DATASET_HOME."""
    if root_path is not None:
        if not Path(root_path).is_dir():
            raise InputError(f"--root_path {root_path}: no such folder")
        inside = [folder for folder in info.folders if (Path(root_path) / folder).is_dir()]
        if inside and not _has_lists(info, Path(root_path)):
            raise InputError(f"--root_path {root_path}: not the dataset's folder itself, use {root_path}/{inside[0]}")
        return Path(root_path)
    home = os.environ.get("DATASET_HOME")
    if not home:
        raise InputError(
            f"DATASET_HOME is not set: export DATASET_HOME=<the parent folder of {info.folders[0]}/>, "
            "or name the dataset's folder with --root_path"
        )
    for folder in info.folders:
        if (Path(home) / folder).is_dir():
            return Path(home) / folder
    if _has_lists(info, Path(home)):
        parent = Path(home).resolve().parent
        raise InputError(f"DATASET_HOME={home} is a dataset's own folder: export DATASET_HOME={parent}")
    raise InputError(
        f"DATASET_HOME={home} has no folder {' or '.join(info.folders)}: correct it, "
        "or name the dataset's folder with --root_path"
    )


def _has_lists(info: DatasetInfo, folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*info.train_lists, *info.val_lists, *info.test_lists))


def case_of(entry: str) -> str:
    """The case of a list's entry: patient001_frame01_slice_3 -> patient001, case0005_slice012 -> case0005."""
    return re.sub(r"(_frame\d+)?(_slice_?\d+)?$", "", entry)


def volume_of(entry: str) -> str:
    """The volume of a list's entry: patient001_frame01_slice_3 -> patient001_frame01, a volume's own name as it is."""
    return re.sub(r"_slice_?\d+$", "", entry)


def slice_entry(name: str, case: str, index: int) -> str:
    """A slice's name in the lists: ACDC counts from 1, Synapse from 0."""
    return f"{case}_slice_{index + 1}" if name == "ACDC" else f"{case}_slice_{index:03d}"


def slice_number(entry: str) -> int:
    """A slice's number, by which a volume is stacked; -1 where the name has none."""
    found = re.search(r"_slice_?(\d+)$", entry)
    return int(found[1]) if found else -1


def labelled_cases(
    info: DatasetInfo, entries: Sequence[str], labelnum: Optional[int], labeled_cases: Optional[int]
) -> tuple[list[str], str]:
    """Which cases of a training list are labelled, in the list's order, and by what rule (a phrase for the log).

    `labeled_cases` (a user's own number of cases at the list's head) goes before `labelnum` (the dataset's protocol).
    Raises InputError for a number that the dataset or the list does not have, naming the possible ones.
    """
    cases = list(dict.fromkeys(map(case_of, entries)))
    flag = f"--labelnum {labelnum}"
    if labeled_cases is not None:
        flag = rule = f"--labeled_cases {labeled_cases}"
        wanted = labeled_cases
    elif labelnum in info.protocols:
        rule, wanted = f"protocol {labelnum} {info.labelnum_unit}", info.protocols[labelnum]
    elif info.any_labelnum and labelnum is not None:
        rule, wanted = "no published protocol", labelnum
    elif not info.protocols:
        raise InputError(
            f"{info.name} has no protocol for --labelnum: say with --labeled_cases N how many of the "
            f"{len(cases)} training cases are labelled"
        )
    else:
        known = ", ".join(map(str, info.protocols))
        raise InputError(
            f"{flag}: {info.name} has {known} ({info.labelnum_unit}); for any other number of cases use --labeled_cases"
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
