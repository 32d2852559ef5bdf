"""Weak and strong augmentation of 2-D slices. Draws are made apart from their use, so that a sample can be repeated.

NumPy throughout, since its results do not depend on the number of threads: the same run with any number of workers.
Source: docs/METHODS.md section 1, "Augmentation".
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from dataloaders.resize import nearest_zoom


class WeakDraw(NamedTuple):
    """Turn by k * 90 degrees and flip along `flip_axis`, or rotate by `angle` degrees, or neither."""

    k: int = 0
    flip_axis: Optional[int] = None
    angle: Optional[int] = None


class StrongDraw(NamedTuple):
    """Brightness and contrast factors, which of them goes first, and the blur's radius in pixels (None: no blur)."""

    brightness: float
    contrast: float
    contrast_first: bool
    blur_radius: Optional[float]


def draw_weak(rng: np.random.Generator) -> WeakDraw:
    """With p 1/2 a turn and a flip, with p 1/4 a rotation by -20 .. 19 degrees, with p 1/4 nothing."""
    if rng.random() < 0.5:
        return WeakDraw(k=int(rng.integers(4)), flip_axis=int(rng.integers(2)))
    if rng.random() < 0.5:
        return WeakDraw(angle=int(rng.integers(-20, 20)))
    return WeakDraw()


def draw_strong(rng: np.random.Generator) -> StrongDraw:
    """Factors U(0.2, 1.8) in random order; with p 1/2 a blur of radius U(0.1, 2)."""
    brightness, contrast = rng.uniform(0.2, 1.8, size=2)
    contrast_first = rng.random() < 0.5
    blur_radius = float(rng.uniform(0.1, 2.0)) if rng.random() < 0.5 else None
    return StrongDraw(float(brightness), float(contrast), bool(contrast_first), blur_radius)


def apply_weak(array: np.ndarray, draw: WeakDraw, size: tuple[int, int]) -> np.ndarray:
    """Turn, flip or rotate an image or a label (H, W), then zoom it to `size`; nearest neighbour, zeros outside."""
    if draw.angle is not None:
        array = ndimage.rotate(array, draw.angle, order=0, reshape=False)
    elif draw.flip_axis is not None:
        array = np.flip(np.rot90(array, draw.k), draw.flip_axis)
    return nearest_zoom(array, size)


def apply_strong(image: np.ndarray, draw: StrongDraw) -> np.ndarray:
    """Colour jitter and blur of a float32 image (H, W) in [0, 1]: torchvision's ColorJitter and PIL's GaussianBlur."""
    for contrast in (draw.contrast_first, not draw.contrast_first):
        if contrast:
            factor = np.float32(draw.contrast)
            image = np.clip(factor * image + (1 - factor) * image.mean(), 0, 1)
        else:
            image = np.clip(np.float32(draw.brightness) * image, 0, 1)
    return image if draw.blur_radius is None else gaussian_blur(image, draw.blur_radius)


def gaussian_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """PIL's Gaussian blur on 8 bits between the image's own minimum and maximum; a constant image stays as it is."""
    low, high = image.min(), image.max()
    if high <= low:
        return image
    grey = ((image - low) / (high - low) * 255).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius)))
    return blurred.astype(np.float32) / 255 * (high - low) + low
