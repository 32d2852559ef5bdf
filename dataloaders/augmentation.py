"""Augmentation of batches of 2-D slices and of 3-D patches, as tensor operations on any device.

Draws are made on the host, before their use, so that a sample can be repeated. Applying them makes no host round
trip, and the results do not depend on the number of threads. Source: docs/METHODS.md section 1, "Augmentation", and
section 4, "Batch".
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Sequence

import numpy as np
import torch
from scipy.special import cosdg, sindg

from dataloaders.resize import nearest_indices


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


def weak_motion(draw: WeakDraw, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """The weak view as an affine map: matrix (2, 2) and offset (2) that lead from its (row, column) to the slice's,
    and the view's shape before the zoom."""
    shape = (int(shape[0]), int(shape[1]))
    if draw.angle is not None:  # about the centre, as scipy.ndimage.rotate places it
        cos, sin = cosdg(draw.angle), sindg(draw.angle)
        matrix, centre = np.array([[cos, sin], [-sin, cos]]), (np.array(shape) - 1) / 2
        return matrix, centre - matrix @ centre, shape
    matrix, offset = np.eye(2), np.zeros(2)
    if draw.flip_axis is None:
        return matrix, offset, shape
    turned = shape if draw.k % 2 == 0 else shape[::-1]
    matrix[draw.flip_axis, draw.flip_axis], offset[draw.flip_axis] = -1, turned[draw.flip_axis] - 1
    size = turned
    for _ in range(draw.k):  # one quarter turn back: (row, column) of rot90 stand at (column, last - row)
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        matrix, offset = quarter @ matrix, quarter @ offset + [0, size[0] - 1]
        size = size[::-1]
    return matrix, offset, turned


def weak_index_maps(
    draws: Sequence[WeakDraw], shapes: Sequence[tuple[int, int]], size: tuple[int, int], device=None
) -> tuple[torch.Tensor, Optional[torch.Tensor]]:
    """Where each pixel of the weak views comes from, nearest neighbour, zeros outside.

    Returns (index, inside), both (B, *size): the pixel's place in its own flattened slice (whole numbers; some place
    on the edge where it is outside) and whether it is inside (uint8, 0 or 1; None where all do). The very pixels
    of scipy's rotate and zoom with order 0, of numpy's rot90 and flip.
    """
    motions = [weak_motion(draw, shape) for draw, shape in zip(draws, shapes)]
    grids = [np.stack([nearest_indices(turned[axis], size[axis]) for *_, turned in motions]) for axis in range(2)]
    rows, columns = (to_device(grid, device) for grid in grids)
    numbers = np.array([[*offset, *matrix.ravel(), *shape] for (matrix, offset, _), shape in zip(motions, shapes)])
    rotated = any(draw.angle is not None for draw in draws)
    inside = None
    if rotated or any((grid < 0).any() for grid in grids):
        inside = (rows >= 0)[:, :, None] & (columns >= 0)[:, None, :]  # scipy's zoom leaves some last rows empty
        rows, columns = rows.clamp_(min=0), columns.clamp_(min=0)
    if not rotated:  # whole numbers, so that index = start + a * row + b * column
        start_row, start_column, *steps, _, width = numbers.astype(np.int32).T
        steps = start_row * width + start_column, steps[0] * width + steps[2], steps[1] * width + steps[3]
        start, a, b = (to_device(step, device)[:, None] for step in steps)
        index = (start + a * rows)[:, :, None] + (b * columns)[:, None, :]
    else:
        numbers = to_device(numbers, device)[:, :, None, None]
        rows, columns = rows[:, :, None], columns[:, None, :]
        # in scipy's order of operations, so that every rounding falls the same way
        source_row = (numbers[:, 0] + rows * numbers[:, 2]) + columns * numbers[:, 3]
        source_column = (numbers[:, 1] + rows * numbers[:, 4]) + columns * numbers[:, 5]
        nearest = []
        for position, length in ((source_row, numbers[:, 6]), (source_column, numbers[:, 7])):
            within = position.clamp(torch.zeros_like(length), length - 1)
            inside &= within == position
            nearest.append(within.add_(0.5).int())  # on a CPU 32 bits convert several times as fast as 64
        index = nearest[0] * numbers[:, 7].int() + nearest[1]
    return index, inside if inside is None else inside.view(torch.uint8)


def to_device(array: np.ndarray, device) -> torch.Tensor:
    """A copy on the device that the host does not wait for."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def apply_strong(image: torch.Tensor, draws: Sequence[StrongDraw]) -> torch.Tensor:
    """Colour jitter and blur of float32 images (B, H, W) in [0, 1]: torchvision's ColorJitter, PIL's GaussianBlur."""
    for contrast_now in (True, False):  # two passes; in each, some images have their contrast changed
        changed = [draw.contrast_first == contrast_now for draw in draws]
        factors = [draw.contrast if change else draw.brightness for draw, change in zip(draws, changed)]
        mean = image_mean(image) if any(changed) else None
        factor, change = (
            to_device(np.array(values, dtype=np.float32), image.device)[:, None, None] for values in (factors, changed)
        )
        image = factor * image
        if any(changed):
            image += change * (1 - factor) * mean
        image.clamp_(0, 1)
    blurred = [position for position, draw in enumerate(draws) if draw.blur_radius is not None]
    radii = [draws[position].blur_radius for position in blurred]
    if len(blurred) == len(draws):
        return gaussian_blur(image, radii)
    if blurred:
        index = to_device(np.array(blurred), image.device)
        image = image.index_copy(0, index, gaussian_blur(image[index], radii))
    return image


def image_mean(image: torch.Tensor) -> torch.Tensor:
    """The mean of each image (B, H, W), values in [0, 1]: (B, 1, 1). Summed in whole numbers, so in any order."""
    total = (image * 2**24).int().sum(dim=(1, 2), keepdim=True, dtype=torch.int64)
    return (total.double() / (2**24 * image[0].numel())).to(image.dtype)


def gaussian_blur(image: torch.Tensor, radii: Sequence[float]) -> torch.Tensor:
    """PIL's Gaussian blur of images (B, H, W) on 8 bits between each one's own minimum and maximum.

    Whole numbers throughout; within one grey level of PIL, nearly always equal. A constant image stays as it is.
    """
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    span = high - low
    grey = ((image - low) / torch.where(span > 0, span, torch.ones_like(span)) * 255).int()
    taps = [box_taps(radius) for radius in radii]
    reach = max(map(len, taps)) - 1
    weights = np.zeros((reach + 1, len(taps)), dtype=np.int32)
    for number, tap in enumerate(taps):
        weights[: len(tap), number] = tap
    weights = to_device(weights, image.device)[:, :, None, None]
    for axis in (2, 1):
        for _ in range(3):
            grey = box_pass(grey, weights, axis)
    return (grey.to(image.dtype) / 255).mul_(span).add_(low)


BOX_BITS = 22  # fixed point: 255 * 2^22 fits in 32 bits


def box_taps(radius: float) -> list[int]:
    """The weights, centre first, in units of 2^-22, of one of the three box filters that make PIL's Gaussian.

    The box has a fractional half width whose variance, three times over, is radius^2. Source: P. Gwosdek et al.,
    Theoretical foundations of Gaussian convolution by extended box filtering, SSVM 2011.
    """
    variance = radius * radius / 3
    whole = int((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    weight = 2 * int(2 ** (BOX_BITS - 1) / (2 * (whole + part) + 1))  # even, so that the ends lose nothing
    return [weight] * (whole + 1) + [(2**BOX_BITS - (2 * whole + 1) * weight) // 2]


def box_pass(grey: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    """One filter along an axis, the border repeated, rounded to whole grey levels. weights (reach + 1, B, 1, 1)."""
    reach, length = len(weights) - 1, grey.shape[axis]
    first, last = grey.narrow(axis, 0, 1), grey.narrow(axis, length - 1, 1)
    padded = torch.cat([first] * reach + [grey] + [last] * reach, dim=axis)
    total = (grey * weights[0]).add_(1 << (BOX_BITS - 1))
    for distance in range(1, reach + 1):
        pair = padded.narrow(axis, reach - distance, length) + padded.narrow(axis, reach + distance, length)
        total.addcmul_(pair, weights[distance])
    return total.bitwise_right_shift_(BOX_BITS)


class PatchDraw(NamedTuple):
    """Turn by k * 90 degrees and flip in the first two axes, then crop at `corner` of the padded volume."""

    k: int
    flip_axis: Optional[int]
    corner: tuple[int, ...]


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


def apply_patch(volume: torch.Tensor, draw: PatchDraw, patch_size: Sequence[int]) -> torch.Tensor:
    """Turn, flip, pad with zeros and crop a volume or its label to the patch. Only what the patch holds is moved."""
    turned = tuple(volume.shape)
    if draw.k % 2:
        turned = (turned[1], turned[0], *turned[2:])
    source, target = [], []  # of each axis: from where to where, in the turned volume and in the patch
    for size, pad, corner, length in zip(turned, patch_padding(turned, patch_size), draw.corner, patch_size):
        start, stop = max(corner - pad, 0), min(corner - pad + length, size)
        source.append((start, stop))
        target.append(slice(start - corner + pad, stop - corner + pad))
    if draw.flip_axis is not None:  # the same region in the volume as it is stored
        start, stop = source[draw.flip_axis]
        source[draw.flip_axis] = (turned[draw.flip_axis] - stop, turned[draw.flip_axis] - start)
        for turn in range(draw.k):
            length = turned[turn % 2]
            source[:2] = source[1], (length - source[0][1], length - source[0][0])
    region = volume[tuple(slice(*ends) for ends in source)]
    if draw.flip_axis is not None:
        region = torch.rot90(region, draw.k, (0, 1)).flip(draw.flip_axis)
    if region.shape == tuple(patch_size):
        return region
    patch = torch.zeros(tuple(patch_size), dtype=volume.dtype, device=volume.device)
    patch[tuple(target)] = region
    return patch
