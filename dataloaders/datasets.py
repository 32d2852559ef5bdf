"""Training data, read once and augmented batch by batch; whole volumes for evaluation."""

from __future__ import annotations

import hashlib
import math
from itertools import accumulate
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from dataloaders.augmentation import (
    apply_patch,
    apply_strong,
    draw_patch,
    draw_strong,
    draw_weak,
    to_device,
    weak_index_maps,
)
from dataloaders.reading import hash_case, read_case, read_spacing
from dataloaders.registry import DatasetInfo
from dataloaders.seeding import generator


class Case(NamedTuple):
    """One volume: image float32 and label uint8, both (Z, H, W) in 2-D datasets, the array's own axes in 3-D ones."""

    name: str
    image: np.ndarray
    label: np.ndarray
    spacing: Optional[tuple[float, ...]] = None  # mm, in array axis order, where the file states it


def slice_name(dims: int, axis: int, index: int, length: int) -> str:
    """What to call a slice of a volume of `length` slices along an array axis: counted from 1, as ITK-SNAP does."""
    return f"slice {index + 1} of {length} along {('ZYX' if dims == 2 else 'XYZ')[axis]}"


class VolumeDataset:
    """The cases of one list. A case's source is one h5 file, or a list of slice files in the order to stack them."""

    KEEP_BYTES = 512 * 2**20  # what `check` keeps in memory at most

    def __init__(self, info: DatasetInfo, names: Sequence[str], sources: Sequence[Union[Path, list[Path]]]):
        self.info, self.names, self.sources = info, list(names), list(sources)
        self.kept: dict[int, Case] = {}

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
        """Read every case once and keep the first ones in memory, up to KEEP_BYTES: they are read many times.

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


class TrainingSet(Dataset):
    """All training images in memory. One item is one whole batch: dataset[(iteration, indices)].

    A sample's augmentation depends on (seed, iteration, position in the batch) alone. Items are dictionaries of
    image_w (B, 1, *patch) float32, label (B, *patch) uint8 and has_label (B,) bool. An image without a label gets
    zeros there and has_label False; `labelled` names the indices that must have one.

    All images are end to end in one tensor, their labels in another, on one device: the CPU, where worker processes
    share them, or, after `to`, where the network is. `sha256` is of the images and labels as they were read, in order.
    """

    def __init__(
        self, paths: Sequence[Path], labelled: Sequence[int], info: DatasetInfo, patch_size: Sequence[int], seed: int
    ):
        self.info, self.patch_size, self.seed = info, tuple(patch_size), seed
        must_have_label = set(labelled)
        cases, self.has_label, self.shapes = [], [], []
        digest = hashlib.sha256()
        for index, path in enumerate(tqdm(paths, desc="reading training data", leave=False, disable=None)):
            case = read_case(path, info.dims, info.num_classes, index in must_have_label, info.dims == 2)
            hash_case(digest, *case)
            cases.append(case)
            self.shapes.append(case[0].shape)
            self.has_label.append(case[1] is not None)
        self.sha256 = digest.hexdigest()
        self.starts = list(accumulate(map(math.prod, self.shapes), initial=0))
        self.images = torch.empty(self.starts[-1])
        self.labels = torch.zeros(self.starts[-1], dtype=torch.uint8)
        for index in range(len(cases)):  # freed one by one: never twice in memory
            place, (image, label) = self.place(index), cases[index]
            self.images[place] = torch.from_numpy(image.ravel())
            if label is not None:
                self.labels[place] = torch.from_numpy(label.ravel())
            cases[index] = None

    def __len__(self) -> int:
        return len(self.shapes)

    def place(self, index: int) -> slice:
        """Where one image's voxels are in `images` and, zeros where it has no label, in `labels`."""
        return slice(self.starts[index], self.starts[index + 1])

    @property
    def num_bytes(self) -> int:
        return sum(values.nelement() * values.element_size() for values in (self.images, self.labels))

    @property
    def device(self) -> torch.device:
        return self.images.device

    def to(self, device: torch.device) -> TrainingSet:
        """Keep the data on that device and make the batches there."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        return self

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> dict[str, torch.Tensor]:
        iteration, indices = key
        rngs = [generator(self.seed, "augmentation", iteration, position) for position in range(len(indices))]
        if self.device.type == "cpu":  # one by one, which stays in the processor's cache
            batch = {}
            for position, (rng, index) in enumerate(zip(rngs, indices)):
                for name, value in self.augment([rng], [index]).items():
                    if name not in batch:
                        batch[name] = value.new_empty((len(indices), *value.shape[1:]))
                    batch[name][position] = value[0]
        else:
            batch = self.augment(rngs, indices)
        batch = {name: value if name == "label" else value[:, None] for name, value in batch.items()}
        batch["has_label"] = torch.tensor([self.has_label[index] for index in indices])
        return batch

    def augment(self, rngs: Sequence[np.random.Generator], indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Some samples, each by its own generator: image_w and label (n, *patch)."""
        raise NotImplementedError


class SliceDataset(TrainingSet):
    """2-D slices in [0, 1]. With `strong`, batches also have the strong view of the same slices: image_s."""

    def __init__(self, paths, labelled, info, patch_size, seed, strong: bool = True):
        super().__init__(paths, labelled, info, patch_size, seed)
        self.strong = strong

    def augment(self, rngs, indices):
        draws = [draw_weak(rng) for rng in rngs]
        index, inside = weak_index_maps(draws, [self.shapes[i] for i in indices], self.patch_size, self.device)
        images, labels = self.images, self.labels
        if len(indices) == 1:  # a copy in one go brings the slice into the processor's cache
            place = self.place(indices[0])
            images, labels = images[place].clone(), labels[place].clone()
        else:
            index = index + to_device(np.array([self.starts[i] for i in indices]), self.device)[:, None, None]
        image_w, label = (values.index_select(0, index.flatten()).view(index.shape) for values in (images, labels))
        if inside is not None:
            image_w, label = image_w.mul_(inside.float()), label.mul_(inside)
        sample = {"image_w": image_w, "label": label}
        if self.strong:
            sample["image_s"] = apply_strong(image_w, [draw_strong(rng) for rng in rngs])
        return sample


class PatchDataset(TrainingSet):
    """Random patches of 3-D volumes."""

    def augment(self, rngs, indices):
        shapes = [self.shapes[index] for index in indices]
        draws = [draw_patch(rng, shape, self.patch_size, self.info.rot_flip) for rng, shape in zip(rngs, shapes)]
        sample = {}
        for name, values in (("image_w", self.images), ("label", self.labels)):
            volumes = [values[self.place(index)].view(shape) for index, shape in zip(indices, shapes)]
            patches = [apply_patch(volume, draw, self.patch_size) for volume, draw in zip(volumes, draws)]
            sample[name] = torch.stack(patches)
        return sample
