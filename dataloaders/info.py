"""What a dataset is and what is done to its scans: plain values. No code that acts on files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Mapping, Optional, Tuple, Union

from dataloaders.files import InputError
from dataloaders.geometry import Spacing

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".nrrd", ".mha", ".mhd", ".dcm")  # of scans
Range = Tuple[int, int]  # start, stop
# What one value of --labelnum stands for: a number of cases at the list's head, their names, or None for all.
Protocol = Union[int, Tuple[str, ...], None]


@dataclass(frozen=True)
class Preparation:
    """What is done to the scans of one dataset. Steps that are None are left out; their order is that of the fields."""

    name: str
    label_values: tuple[tuple[int, int], ...]  # (in the download, ours); any other value is an error
    orientation: Optional[str] = None  # the scan's axes are reoriented to it, "LPS"; None: as they are stored
    window: Optional[tuple[float, float]] = None  # clipped to it and scaled to [0, 1]
    min_max: bool = False  # the scan's own minimum and maximum to [0, 1]
    spacing: Optional[Spacing] = None  # resampled to voxels of this size, mm: cubic B-spline, labels nearest
    axes: str = "zyx"  # of the array; an upper-case letter runs backwards
    least: Optional[tuple[int, int]] = None  # crop in the first two axes to the label's box, at least this, ...
    # ... widened on each side by a number of voxels that is drawn from this range, ends included
    margin: Optional[Range] = None
    z_score: Optional[str] = None  # mean 0 and deviation 1 of the whole "scan" or of the "crop"
    version: int = 1

    def to_json(self) -> str:
        """One line of JSON, the same for the same preparation."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Preparation:
        """The preparation that `to_json` wrote; raises InputError for another text."""
        try:
            values = {
                key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
            }
            values["label_values"] = tuple(tuple(pair) for pair in values["label_values"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"not the description of a preparation ({error}): {text[:80]}") from error


@dataclass(frozen=True)
class DatasetInfo:
    """One dataset. Templates are relative to the dataset's folder, tried in order; `{id}` is a list's entry."""

    name: str
    dims: int  # 2: trained on slices, tested on volumes (Z, H, W); 3: volumes throughout
    classes: tuple[str, ...]  # foreground, in label order: classes[0] is label 1
    patch_size: tuple[int, ...]  # voxels, in array axis order
    folders: tuple[str, ...]  # spellings of the dataset's folder under DATASET_HOME
    volume_paths: tuple[str, ...]
    protocols: Mapping[int, Protocol]  # --labelnum -> labelled cases
    labelnum_unit: str  # what --labelnum counts: "per cent" or "volumes"; "" where there is none
    slice_paths: tuple[str, ...] = ()
    stride: tuple[int, int] = (0, 0)  # of the sliding window, in the first two axes and in the last; 3-D
    rot_flip: bool = False  # training patches are turned and flipped in the first two axes; 3-D
    any_labelnum: bool = False  # other numbers are accepted as so many volumes at the list's head
    train_lists: tuple[str, ...] = ("train.list",)
    val_lists: tuple[str, ...] = ("val.list",)
    test_lists: tuple[str, ...] = ("test.list",)
    expected: Mapping[str, int] = field(default_factory=dict)  # entries of the published lists
    labelled_slices: Mapping[int, int] = field(default_factory=dict)  # --labelnum -> slices in the published list; 2-D
    known_copies: tuple[tuple[str, ...], ...] = ()  # cases whose images are the same in the published data
    preparation: Optional[Preparation] = None  # from its scans to its files, where it is known
    patient: Optional[str] = None  # the expression by which a custom dataset finds the patient, if it has one

    @property
    def num_classes(self) -> int:
        """Classes with the background."""
        return len(self.classes) + 1
