"""Training slices, decoded and checked once into memory, and their augmented batches."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from dataloaders.augmentation import apply_strong, apply_weak, draw_strong, draw_weak
from dataloaders.datasets import DatasetInfo
from dataloaders.reading import read_case
from dataloaders.seeding import generator


class SliceDataset(Dataset):
    """All training slices in memory. One item is one whole batch: dataset[(iteration, indices)].

    A sample's augmentation depends on (seed, iteration, position in the batch) alone. Items are dictionaries of
    image_w, image_s (B, 1, H, W) float32 in [0, 1], label (B, H, W) uint8 and has_label (B,) bool. A slice without a
    label gets zeros there and has_label False; `labelled` names the indices that must have one.
    With strong=False there is no image_s.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labelled: Sequence[int],
        info: DatasetInfo,
        patch_size: Sequence[int],
        seed: int,
        strong: bool = True,
    ):
        self.patch_size, self.seed, self.strong = tuple(patch_size), seed, strong
        must_have_label = set(labelled)
        self.images, self.labels = [], []
        for index, path in enumerate(tqdm(paths, desc="reading slices", unit="slice", leave=False, disable=None)):
            image, label = read_case(path, 2, info.num_classes, index in must_have_label, unit_range=True)
            self.images.append(image)
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> dict[str, torch.Tensor]:
        iteration, indices = key
        shape = (len(indices), *self.patch_size)
        image_w, image_s = (np.empty(shape, dtype=np.float32) for _ in range(2))
        label = np.zeros(shape, dtype=np.uint8)
        for position, index in enumerate(indices):
            rng = generator(self.seed, "augmentation", iteration, position)
            weak = draw_weak(rng)
            image_w[position] = apply_weak(self.images[index], weak, self.patch_size)
            if self.labels[index] is not None:
                label[position] = apply_weak(self.labels[index], weak, self.patch_size)
            if self.strong:
                image_s[position] = apply_strong(image_w[position], draw_strong(rng))
        batch = {
            "image_w": torch.from_numpy(image_w)[:, None],
            "label": torch.from_numpy(label),
            "has_label": torch.tensor([self.labels[index] is not None for index in indices]),
        }
        if self.strong:
            batch["image_s"] = torch.from_numpy(image_s)[:, None]
        return batch
