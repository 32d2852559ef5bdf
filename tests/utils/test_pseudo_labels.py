import numpy as np
import pytest
import torch
from scipy import ndimage

from utils.pseudo_labels import largest_component


def slow_and_obvious(label, num_classes):
    """Flood fill from each pixel in raster order."""
    kept = np.zeros_like(label)
    for n, plane in enumerate(label):
        for cls in range(1, num_classes):
            seen, best = np.zeros(plane.shape, bool), []
            for start in zip(*np.nonzero(plane == cls)):
                if seen[start]:
                    continue
                stack, component = [start], []
                seen[start] = True
                while stack:
                    i, j = stack.pop()
                    component.append((i, j))
                    for a in range(max(i - 1, 0), min(i + 2, plane.shape[0])):
                        for b in range(max(j - 1, 0), min(j + 2, plane.shape[1])):
                            if plane[a, b] == cls and not seen[a, b]:
                                seen[a, b] = True
                                stack.append((a, b))
                if len(component) > len(best):
                    best = component
            for place in best:
                kept[(n, *place)] = cls
    return kept


@pytest.mark.parametrize("num_classes", [4, 9])
def test_reference_numbers(tensors, num_classes):
    """With more than four classes too: the release adds up the first three only (corrected)."""
    ref = tensors("largest_component")
    label = ref[f"labels_{num_classes}_classes"]
    assert torch.equal(largest_component(label, num_classes), ref[f"largest_{num_classes}_classes"])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("num_classes", [2, 4, 9])
def test_properties_on_random_maps(seed, num_classes):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((3, 18, 23)), (0, 0.4 + seed % 3, 0.7))
    ranks = np.argsort(np.argsort(noise.ravel())).reshape(noise.shape)
    label = torch.from_numpy((ranks * num_classes // noise.size).astype(np.int64))
    kept = largest_component(label, num_classes)
    assert kept.dtype == label.dtype
    assert np.array_equal(kept.numpy(), slow_and_obvious(label.numpy(), num_classes))
    assert ((kept == label) | (kept == 0)).all()  # never invents a class
    assert torch.equal(largest_component(kept, num_classes), kept)  # idempotent
    for plane in kept.numpy():
        for cls in range(1, num_classes):
            assert ndimage.label(plane == cls, np.ones((3, 3)))[1] <= 1  # one component a class


def test_ties_go_to_the_first_in_raster_order_and_diagonals_connect():
    label = torch.tensor([[[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 2]]])
    assert largest_component(label, 3)[0].tolist() == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_empty_and_full():
    assert largest_component(torch.zeros(2, 4, 4, dtype=torch.long), 4).sum() == 0
    full = torch.full((2, 4, 4), 3)
    assert torch.equal(largest_component(full, 4), full)
    assert largest_component(torch.zeros(0, 4, 4, dtype=torch.long), 4).shape == (0, 4, 4)
