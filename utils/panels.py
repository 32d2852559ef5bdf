"""Pictures of slices and label maps, in one fixed palette."""

from __future__ import annotations

from typing import Mapping

import numpy as np
import torch

# One colour a label, told apart by people with colour-blindness too (Okabe and Ito, 2008); label 0 is transparent.
PALETTE = np.array(
    [
        [0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66],
        [0, 114, 178], [213, 94, 0], [204, 121, 167], [153, 153, 153],
    ],
    dtype=np.float32,
) / 255  # fmt: skip


def window(image: np.ndarray) -> np.ndarray:
    """Grey levels between the 1st and the 99th percentile scaled to [0, 1], the rest clipped."""
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)


def overlay(image: np.ndarray, label: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """A grey image (H, W) in [0, 1] with its labels (H, W) in colour: float32 (H, W, 3) in [0, 1]."""
    grey = np.repeat(np.clip(image, 0, 1)[..., None], 3, axis=-1).astype(np.float32)
    colour = PALETTE[label % len(PALETTE)]
    return np.where((label > 0)[..., None], (1 - opacity) * grey + opacity * colour, grey)


def middle_plane(values: torch.Tensor) -> np.ndarray:
    """(N, H, W) as it is, (N, X, Y, Z) at the middle of the last axis."""
    return (values if values.ndim == 3 else values[..., values.shape[-1] // 2]).cpu().numpy()


def make_panel(batch: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor], rows: int = 4) -> np.ndarray:
    """One picture (H, W, 3): a row an image, with columns image, each label map (student, teacher, ...), ground truth.

    The label maps belong to the last images of the batch; their first `rows` are drawn.
    """
    count = min(len(value) for value in labels.values())
    truth = batch["label"][-count:]
    images = middle_plane(batch["image_w"][-count:][:rows, 0].float())
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    images = (images - low) / np.maximum(high - low, 1e-6)
    maps = [middle_plane(value[:rows]).astype(np.int64) for value in (*labels.values(), truth)]
    strips = [np.concatenate([overlay(image, image.astype(np.int64) * 0), *(overlay(image, m) for m in row)], axis=1)
              for image, *row in zip(images, *maps)]  # fmt: skip
    return np.concatenate(strips, axis=0)
