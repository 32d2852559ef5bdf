import numpy as np
import pytest
import torch
from scipy import ndimage

from utils import pseudo_labels
from utils.pseudo_labels import largest_component


@pytest.fixture(autouse=True, params=["on the CPU", "as on a GPU"])
def both_ways(request, monkeypatch):
    """Each test runs twice: the GPU's tensor operations give the same on a CPU."""
    if request.param == "as on a GPU":
        monkeypatch.setattr(pseudo_labels, "_on_cpu", pseudo_labels._on_device)


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


def spiral(size):
    """One path of pixels that winds inwards, a free pixel between its turns."""
    picture = np.zeros((size, size), np.int64)
    row, column, step = 0, 0, (0, 1)
    picture[0, 0] = 1
    for _ in range(size * size):
        for _ in range(2):  # straight on, or after a turn to the right
            near, far = ((row + n * step[0], column + n * step[1]) for n in (1, 2))
            inside = all(0 <= x < size for x in near)
            if inside and not picture[near] and not (all(0 <= x < size for x in far) and picture[far]):
                break
            step = (step[1], -step[0])
        else:
            return picture
        row, column = near
        picture[near] = 1
    return picture


def test_a_gpus_rounds_suffice_for_long_winding_components():
    rng = np.random.default_rng(0)
    comb = np.zeros((128, 128), np.int64)
    comb[:, ::2] = comb[-1] = 1
    snake = np.zeros((128, 128), np.int64)
    snake[:, ::2] = 1
    snake[-1, 1::4] = snake[0, 3::4] = 1
    maps = [spiral(128), spiral(128).T, comb, comb[::-1], snake, snake.T]
    maps += [rng.random((128, 128)) < share for share in (0.35, 0.4, 0.407, 0.42, 0.5)]  # 0.407: where it percolates
    label = torch.from_numpy(np.stack(maps).astype(np.int64))
    assert label[0].sum() > 8000
    components = [ndimage.label(plane, np.ones((3, 3)))[0] for plane in label.numpy()]
    expected = [c == 1 + np.argmax(np.bincount(c.ravel())[1:]) for c in components]
    assert np.array_equal(largest_component(label, 2).numpy(), np.stack(expected))


def test_a_pytorch_that_has_no_torch_compiler_yet(monkeypatch):
    monkeypatch.delattr(torch, "compiler", raising=False)  # 2.0
    assert largest_component(torch.tensor([[[1, 0, 1, 1]]]), 2).tolist() == [[[0, 0, 1, 1]]]
