"""Training data, decoded and checked once into memory, and its augmented batches: 2-D slices and 3-D patches."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from dataloaders.augmentation import apply_patch, apply_strong, apply_weak, draw_patch, draw_strong, draw_weak
from dataloaders.datasets import DatasetInfo
from dataloaders.reading import read_case
from dataloaders.seeding import generator


class TrainingSet(Dataset):
    """All training images in memory. One item is one whole batch: dataset[(iteration, indices)].

    A sample's augmentation depends on (seed, iteration, position in the batch) alone. Items are dictionaries of
    image_w (B, 1, *patch) float32, label (B, *patch) uint8 and has_label (B,) bool. An image without a label gets
    zeros there and has_label False; `labelled` names the indices that must have one.
    """

    def __init__(
        self, paths: Sequence[Path], labelled: Sequence[int], info: DatasetInfo, patch_size: Sequence[int], seed: int
    ):
        self.info, self.patch_size, self.seed = info, tuple(patch_size), seed
        must_have_label = set(labelled)
        self.images, self.labels = [], []
        for index, path in enumerate(tqdm(paths, desc="reading training data", leave=False, disable=None)):
            image, label = read_case(path, info.dims, info.num_classes, index in must_have_label, info.dims == 2)
            self.images.append(image)
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> dict[str, torch.Tensor]:
        iteration, indices = key
        samples = []
        for position, index in enumerate(indices):
            rng = generator(self.seed, "augmentation", iteration, position)
            label = self.labels[index]
            blank = np.zeros(self.images[index].shape, dtype=np.uint8)
            samples.append(self.augment(rng, self.images[index], blank if label is None else label))
        batch = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}
        batch = {name: value if name == "label" else value[:, None] for name, value in batch.items()}
        batch["has_label"] = torch.tensor([self.labels[index] is not None for index in indices])
        return batch

    def augment(self, rng: np.random.Generator, image: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
        """One sample: image_w and label, both of the patch's size."""
        raise NotImplementedError


class SliceDataset(TrainingSet):
    """2-D slices in [0, 1]. With `strong`, batches have the strong view of the same slices besides: image_s."""

    def __init__(self, paths, labelled, info, patch_size, seed, strong: bool = True):
        super().__init__(paths, labelled, info, patch_size, seed)
        self.strong = strong

    def augment(self, rng, image, label):
        draw = draw_weak(rng)
        image_w = apply_weak(image, draw, self.patch_size)
        sample = {"image_w": image_w, "label": apply_weak(label, draw, self.patch_size)}
        if self.strong:
            sample["image_s"] = apply_strong(image_w, draw_strong(rng))
        return sample


class PatchDataset(TrainingSet):
    """Random patches of 3-D volumes."""

    def augment(self, rng, image, label):
        draw = draw_patch(rng, image.shape, self.patch_size, self.info.rot_flip)
        return {
            "image_w": apply_patch(image, draw, self.patch_size),
            "label": apply_patch(label, draw, self.patch_size),
        }
