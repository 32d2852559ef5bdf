from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from torchvision.transforms import functional as TF

from dataloaders.augmentation import (
    PatchDraw,
    StrongDraw,
    WeakDraw,
    apply_patch,
    apply_strong,
    apply_weak,
    draw_patch,
    draw_strong,
    draw_weak,
    gaussian_blur,
    patch_padding,
)

RNG = np.random.default_rng(0)
IMAGE = ndimage.gaussian_filter(RNG.random((40, 56)), 2).astype(np.float32)
IMAGE = (IMAGE - IMAGE.min()) / (IMAGE.max() - IMAGE.min())


def test_weak_draws_have_the_stated_chances():
    draws = [draw_weak(np.random.default_rng(seed)) for seed in range(4000)]
    turned = [draw for draw in draws if draw.flip_axis is not None]
    rotated = [draw for draw in draws if draw.angle is not None]
    assert len(turned) / 4000 == pytest.approx(0.5, abs=0.03)
    assert len(rotated) / 4000 == pytest.approx(0.25, abs=0.03)
    assert Counter(draws)[WeakDraw()] / 4000 == pytest.approx(0.25, abs=0.03)
    assert {(draw.k, draw.flip_axis) for draw in turned} == {(k, axis) for k in range(4) for axis in range(2)}
    assert {draw.angle for draw in rotated} == set(range(-20, 20))


def test_strong_draws_have_the_stated_ranges():
    draws = [draw_strong(np.random.default_rng(seed)) for seed in range(4000)]
    for factor in ("brightness", "contrast"):
        values = [getattr(draw, factor) for draw in draws]
        assert 0.2 <= min(values) < 0.21 and 1.79 < max(values) <= 1.8 and np.mean(values) == pytest.approx(1, abs=0.03)
    radii = [draw.blur_radius for draw in draws if draw.blur_radius is not None]
    assert len(radii) / 4000 == pytest.approx(0.5, abs=0.03) and 0.1 <= min(radii) and max(radii) <= 2
    assert np.mean([draw.contrast_first for draw in draws]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("axis", range(2))
def test_turn_and_flip(k, axis):
    expected = np.flip(np.rot90(IMAGE, k), axis)
    assert np.array_equal(apply_weak(IMAGE, WeakDraw(k=k, flip_axis=axis), expected.shape), expected)


@pytest.mark.parametrize("angle", [-20, -7, 0, 19])
def test_rotation_then_zoom_equals_scipy(angle):
    turned = ndimage.rotate(IMAGE, angle, order=0, reshape=False)
    expected = ndimage.zoom(turned, (32 / 40, 64 / 56), order=0)
    assert np.array_equal(apply_weak(IMAGE, WeakDraw(angle=angle), (32, 64)), expected)


def test_label_stays_on_its_image():
    label = (IMAGE > 0.5).astype(np.uint8)
    for seed in range(30):
        draw = draw_weak(np.random.default_rng(seed))
        image, moved = apply_weak(IMAGE, draw, (64, 64)), apply_weak(label, draw, (64, 64))
        assert np.array_equal(image > 0.5, moved == 1)


@pytest.mark.parametrize("contrast_first", [False, True])
@pytest.mark.parametrize("brightness, contrast", [(0.2, 1.8), (1.7, 0.3), (1.0, 1.0), (1.8, 1.8)])
def test_jitter_equals_torchvision(contrast_first, brightness, contrast):
    image = torch.from_numpy(IMAGE)[None]
    steps = [(TF.adjust_brightness, brightness), (TF.adjust_contrast, contrast)]
    for adjust, factor in reversed(steps) if contrast_first else steps:
        image = adjust(image, factor)
    ours = apply_strong(IMAGE, StrongDraw(brightness, contrast, contrast_first, None))
    np.testing.assert_allclose(ours, image[0].numpy(), rtol=0, atol=1e-5)
    assert ours.dtype == np.float32


def test_blur_is_pils_on_eight_bits_between_own_minimum_and_maximum():
    image = IMAGE * 0.5 + 0.25
    grey = ((image - 0.25) / 0.5 * 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(1.5))) / 255 * 0.5 + 0.25
    np.testing.assert_allclose(gaussian_blur(image, 1.5), expected, atol=1.01 / 255)


def test_constant_image_stays():
    assert np.array_equal(gaussian_blur(np.full((8, 8), 0.3, np.float32), 2.0), np.full((8, 8), 0.3, np.float32))


def test_reference_turns_flips_and_crops(numbers):
    ref = numbers("crop_rotflip")
    patch = ref["patch_size"].tolist()
    for n in range(8):
        k, axis, corner = int(ref["k"][n]), int(ref["axis"][n]), tuple(ref["corner_large"][n].tolist())
        for what in ("image", "label"):
            moved = np.flip(np.rot90(ref[f"{what}_large"], k), axis)
            assert np.array_equal(moved, ref[f"rotflip_{what}_{n}"])
            crop = apply_patch(ref[f"{what}_large"], PatchDraw(k, axis, corner), patch)
            assert np.array_equal(crop, ref[f"crop_{what}_{n}"])


@pytest.mark.parametrize("case", ["equal", "shorter", "above"])
def test_reference_padding(numbers, case):
    """If any axis is not longer than the patch every axis is padded, by the rule of its own length."""
    ref = numbers("crop_rotflip")
    patch, shape = ref["patch_size"].tolist(), ref[f"image_{case}"].shape
    padding = patch_padding(shape, patch)
    ends = [size + 2 * pad - length for size, pad, length in zip(shape, padding, patch)]
    assert ends == ref[f"corner_upper_end_{case}"].tolist()
    for n, corner in enumerate(ref[f"corner_{case}"].tolist()):
        for what in ("image", "label"):
            crop = apply_patch(ref[f"{what}_{case}"], PatchDraw(0, None, tuple(corner)), patch)
            assert np.array_equal(crop, ref[f"crop_{what}_{case}"][n])


def test_patch_draws_cover_turns_and_corners():
    shape, patch = (20, 17, 14), (12, 10, 8)
    draws = [draw_patch(np.random.default_rng(seed), shape, patch, True) for seed in range(3000)]
    assert {(draw.k, draw.flip_axis) for draw in draws} == {(k, axis) for k in range(4) for axis in range(2)}
    for odd, ends in ((0, (8, 7, 6)), (1, (5, 10, 6))):  # a quarter turn exchanges the first two axes
        corners = np.array([draw.corner for draw in draws if draw.k % 2 == odd])
        assert corners.min(axis=0).tolist() == [0, 0, 0]
        assert corners.max(axis=0).tolist() == [end - 1 for end in ends]  # the upper end is excluded
    still = draw_patch(np.random.default_rng(0), shape, patch, False)
    assert (still.k, still.flip_axis) == (0, None)
