"""Whole volumes for evaluation, read one at a time so that memory stays that of one case, or kept if they are few."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

from dataloaders.datasets import DatasetInfo
from dataloaders.reading import hash_case, read_case, read_spacing


class Case(NamedTuple):
    """One volume: image float32 and label uint8, both (Z, H, W) in 2-D datasets, the array's own axes in 3-D ones."""

    name: str
    image: np.ndarray
    label: np.ndarray
    spacing: Optional[Tuple[float, ...]] = None  # mm, in array axis order, where the file states it


def slice_name(dims: int, axis: int, index: int, length: int) -> str:
    """What to call a slice of a volume of `length` slices along an array axis: counted from 1, as ITK-SNAP does."""
    return f"slice {index + 1} of {length} along {('ZYX' if dims == 2 else 'XYZ')[axis]}"


class VolumeDataset:
    """The cases of one list. A case's source is one h5 file, or a list of slice files in the order to stack them."""

    KEEP_BYTES = 512 * 2**20  # what `check` keeps in memory at most

    def __init__(self, info: DatasetInfo, names: Sequence[str], sources: Sequence[Union[Path, List[Path]]]):
        self.info, self.names, self.sources = info, list(names), list(sources)
        self.kept: Dict[int, Case] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Case:
        if index in self.kept:
            return self.kept[index]
        source = self.sources[index]
        checks = {"num_classes": self.info.num_classes, "unit_range": self.info.dims == 2}
        if isinstance(source, list):
            slices = [read_case(path, 2, **checks) for path in source]
            return Case(self.names[index], *(np.stack(arrays) for arrays in zip(*slices)))
        return Case(self.names[index], *read_case(source, 3, **checks), read_spacing(source))

    def __iter__(self) -> Iterator[Case]:
        return (self[index] for index in range(len(self)))

    def check(self) -> str:
        """Read every case once and keep the first ones, as far as memory is meant for them: they are read many times.

        Returns the SHA-256 of the images and labels as they were read, in order. Raises InputError at the first case
        that is not as it should be.
        """
        left, digest = self.KEEP_BYTES, hashlib.sha256()
        for index in tqdm(range(len(self)), desc="checking volumes", unit="volume", leave=False, disable=None):
            case = self[index]
            hash_case(digest, case.image, case.label)
            left -= case.image.nbytes + case.label.nbytes
            if left >= 0:
                self.kept[index] = case
        return digest.hexdigest()
