import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage

from dataloaders.augmentation import (
    PatchDraw,
    StrongDraw,
    WeakDraw,
    apply_patch,
    apply_strong,
    draw_patch,
    draw_strong,
    draw_weak,
    gaussian_blur,
    image_mean,
    patch_padding,
    weak_index_maps,
)
from scripts.plain import plain_patch, plain_strong, plain_weak

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


def weak_view(array, draw, size):
    index, inside = weak_index_maps([draw], [array.shape], size)
    view = array.ravel()[index[0].numpy()]
    return view if inside is None else np.where(inside[0].numpy(), view, 0).astype(array.dtype)


ALL_WEAK = [WeakDraw(angle=angle) for angle in range(-20, 20)] + [WeakDraw()]
ALL_WEAK += [WeakDraw(k=k, flip_axis=axis) for k in range(4) for axis in range(2)]


@pytest.mark.parametrize("shape", [(40, 56), (37, 23), (64, 64), (256, 216)])
@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
def test_weak_views_are_scipys_pixel_for_pixel(shape, size):
    array = 1 + np.arange(np.prod(shape)).reshape(shape)  # every pixel its own value, none of them zero
    for draw in ALL_WEAK:
        assert np.array_equal(weak_view(array, draw, size), plain_weak(array, draw, size)), draw


def test_a_batch_of_many_shapes_is_its_samples():
    shapes = [(40, 56), (37, 23), (64, 64)]
    draws = [WeakDraw(angle=-9), WeakDraw(k=3, flip_axis=1), WeakDraw()]
    index, inside = weak_index_maps(draws, shapes, (48, 32))
    for number, (draw, shape) in enumerate(zip(draws, shapes)):
        own_index, own_inside = weak_index_maps([draw], [shape], (48, 32))
        own_inside = torch.ones_like(inside[:1]) if own_inside is None else own_inside
        assert torch.equal(index[number], own_index[0]) and torch.equal(inside[number], own_inside[0])


STRONG = [StrongDraw(*values) for values in itertools.product((0.2, 1.7), (0.3, 1.8), (False, True), (None, 0.4, 1.9))]


def test_strong_views_are_within_one_grey_level_of_torchvision_and_pil():
    pytest.importorskip("torchvision", reason="torchvision is the reference implementation of the colour jitter")
    images = torch.from_numpy(np.stack([IMAGE, 0.25 + 0.5 * IMAGE.T.reshape(IMAGE.shape)]))
    for draw in STRONG:
        ours = apply_strong(images, [draw, draw])
        assert ours.dtype == torch.float32 and 0 <= ours.min() and ours.max() <= 1
        for image, got in zip(images, ours):
            np.testing.assert_allclose(got, plain_strong(image.numpy(), draw), rtol=0, atol=1.001 / 255)


def test_a_batch_of_strong_views_is_its_samples():
    images = torch.from_numpy(np.stack([IMAGE] * len(STRONG)))
    together = apply_strong(images, STRONG)
    for number, draw in enumerate(STRONG):
        assert torch.equal(together[number], apply_strong(images[number : number + 1], [draw])[0])


@pytest.mark.parametrize("radius", [0.103, 0.37, 0.99, 1.41, 1.42, 1.99])
def test_blur_is_pils_on_eight_bits(radius):
    grey = np.random.default_rng(0).integers(0, 256, (61, 43)).astype(np.uint8)
    grey[0, :2] = 0, 255
    expected = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius)))
    ours = gaussian_blur(torch.from_numpy(grey / np.float32(255))[None], [radius])[0].numpy() * 255
    difference = np.abs(ours - expected)
    assert difference.max() < 1.001 and (difference > 0.001).mean() < 0.002


def test_constant_image_stays():
    image = torch.full((1, 8, 8), 0.3)
    assert torch.equal(gaussian_blur(image, [2.0]), image)


def test_the_mean_does_not_depend_on_the_number_of_threads():
    image = torch.rand(1, 256, 256, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    means = []
    for count in (1, 2):
        torch.set_num_threads(count)
        means.append(image_mean(image))
    torch.set_num_threads(threads)
    assert torch.equal(*means) and means[0].item() == pytest.approx(image.double().mean().item(), abs=1e-7)


def test_reference_turns_flips_and_crops(numbers):
    ref = numbers("crop_rotflip")
    patch = ref["patch_size"].tolist()
    for n in range(8):
        k, axis, corner = int(ref["k"][n]), int(ref["axis"][n]), tuple(ref["corner_large"][n].tolist())
        for what in ("image", "label"):
            moved = np.flip(np.rot90(ref[f"{what}_large"], k), axis)
            assert np.array_equal(moved, ref[f"rotflip_{what}_{n}"])
            crop = apply_patch(torch.from_numpy(ref[f"{what}_large"]), PatchDraw(k, axis, corner), patch)
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
            crop = apply_patch(torch.from_numpy(ref[f"{what}_{case}"]), PatchDraw(0, None, tuple(corner)), patch)
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


@pytest.mark.parametrize("shape", [(30, 22, 17), (12, 22, 17), (10, 30, 6)])
def test_patches_are_those_of_turning_padding_and_cropping_the_whole(shape):
    volume = 1 + np.arange(np.prod(shape)).reshape(shape)
    for seed in range(60):
        draw = draw_patch(np.random.default_rng(seed), shape, (12, 10, 8), True)
        patch = apply_patch(torch.from_numpy(volume), draw, (12, 10, 8))
        assert np.array_equal(patch, plain_patch(volume, draw, (12, 10, 8))), draw
