"""The plain way of computing what the repository computes fast: an oracle for the tests, a yardstick for the benchmark.

Nothing here is clever: scipy, torchvision, PIL and MedPy as a user would call them, one sample, class, slice at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy import ndimage

from dataloaders.augmentation import PatchDraw, StrongDraw, WeakDraw, patch_padding


def plain_zoom(array: np.ndarray, size) -> np.ndarray:
    """scipy's nearest zoom of a slice to `size`."""
    return ndimage.zoom(array, [new / old for new, old in zip(size, array.shape)], order=0)


def plain_weak(array: np.ndarray, draw: WeakDraw, size) -> np.ndarray:
    """Turn and flip, or rotate, then zoom a slice or its label."""
    if draw.angle is not None:
        array = ndimage.rotate(array, draw.angle, order=0, reshape=False)
    elif draw.flip_axis is not None:
        array = np.flip(np.rot90(array, draw.k), draw.flip_axis)
    return plain_zoom(array, size)


def plain_strong(image: np.ndarray, draw: StrongDraw) -> np.ndarray:
    """Colour jitter by torchvision, blur by PIL on 8 bits."""
    from torchvision.transforms import functional as TF

    tensor = torch.from_numpy(image)[None]
    steps = [(TF.adjust_brightness, draw.brightness), (TF.adjust_contrast, draw.contrast)]
    for adjust, factor in reversed(steps) if draw.contrast_first else steps:
        tensor = adjust(tensor, factor)
    image = tensor[0].numpy()
    if draw.blur_radius is None or image.min() == image.max():
        return image
    low, high = image.min(), image.max()
    grey = ((image - low) / (high - low) * 255).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(draw.blur_radius)))
    return (blurred / 255 * (high - low) + low).astype(np.float32)


def plain_patch(array: np.ndarray, draw: PatchDraw, patch_size) -> np.ndarray:
    """Turn and flip the whole volume, pad it, crop the patch."""
    if draw.flip_axis is not None:
        array = np.flip(np.rot90(array, draw.k), draw.flip_axis)
    array = np.pad(array, [(pad, pad) for pad in patch_padding(array.shape, patch_size)])
    return array[tuple(slice(corner, corner + length) for corner, length in zip(draw.corner, patch_size))]
