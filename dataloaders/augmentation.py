"""Augmentation of 2-D slices and 3-D patches. Draws are made apart from their use, so that a sample can be repeated.

NumPy throughout, since its results do not depend on the number of threads: the same run with any number of workers.
Source: docs/METHODS.md section 1, "Augmentation", and docs/METHODS.md section 4, "Batch".
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

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


class PatchDraw(NamedTuple):
    """Turn by k * 90 degrees and flip in the first two axes, then crop at `corner` of the padded volume."""

    k: int
    flip_axis: Optional[int]
    corner: Tuple[int, ...]


def patch_padding(shape: Sequence[int], patch_size: Sequence[int]) -> list[int]:
    """Zeros to add on both sides of each axis: none, unless some axis is not longer than the patch."""
    if all(size > patch for size, patch in zip(shape, patch_size)):
        return [0] * len(shape)
    return [max((patch - size) // 2 + 3, 0) for size, patch in zip(shape, patch_size)]


def draw_patch(rng: np.random.Generator, shape: Sequence[int], patch_size: Sequence[int], rot_flip: bool) -> PatchDraw:
    """k and axis uniform (none without rot_flip), the corner uniform in [0, padded size - patch)."""
    k, flip_axis = (int(rng.integers(4)), int(rng.integers(2))) if rot_flip else (0, None)
    if k % 2:
        shape = (shape[1], shape[0], *shape[2:])
    padding = patch_padding(shape, patch_size)
    ends = [size + 2 * pad - patch for size, pad, patch in zip(shape, padding, patch_size)]
    return PatchDraw(k, flip_axis, tuple(int(rng.integers(end)) for end in ends))


def apply_patch(array: np.ndarray, draw: PatchDraw, patch_size: Sequence[int]) -> np.ndarray:
    """Turn, flip, pad with zeros and crop a volume or its label to the patch."""
    if draw.flip_axis is not None:
        array = np.flip(np.rot90(array, draw.k), draw.flip_axis)
    padding = patch_padding(array.shape, patch_size)
    patch = np.zeros(tuple(patch_size), dtype=array.dtype)
    source, target = [], []
    for size, pad, corner, length in zip(array.shape, padding, draw.corner, patch_size):
        start, stop = max(corner - pad, 0), min(corner - pad + length, size)  # in the unpadded array
        source.append(slice(start, stop))
        target.append(slice(start - corner + pad, stop - corner + pad))
    patch[tuple(target)] = array[tuple(source)]
    return patch
