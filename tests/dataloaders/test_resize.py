import numpy as np
import pytest
import torch
from scipy import ndimage

from dataloaders.resize import nearest_indices
from dataloaders.resize import nearest_zoom as zoom_tensor


def nearest_zoom(array, size):
    return zoom_tensor(torch.from_numpy(array), size).numpy()


@pytest.mark.parametrize("height, width", [(216, 256), (154, 224), (256, 256), (512, 512), (72, 64), (1, 7), (33, 1)])
@pytest.mark.parametrize("size", [(256, 256), (64, 96), (32, 32)])
def test_equals_scipy_there_and_back(height, width, size):
    rng = np.random.default_rng(height)
    array = rng.random((height, width)).astype(np.float32) + 1
    zoomed = nearest_zoom(array, size)
    np.testing.assert_array_equal(zoomed, ndimage.zoom(array, (size[0] / height, size[1] / width), order=0))
    back = nearest_zoom(zoomed, (height, width))
    np.testing.assert_array_equal(back, ndimage.zoom(zoomed, (height / size[0], width / size[1]), order=0))


def test_equals_scipy_where_the_last_position_falls_off():
    pairs = [(size, new) for new in (96, 224, 320) for size in range(2, 300) if nearest_indices(size, new)[-1] < 0]
    assert pairs  # they exist, and scipy fills with zero there
    for size, new in pairs[:5]:
        square = np.ones((size, size), np.float32)
        expected = ndimage.zoom(square, new / size, order=0)
        assert expected[-1, -1] == 0
        np.testing.assert_array_equal(nearest_zoom(square, (new, new)), expected)


def test_leading_axes_are_kept():
    volume = np.random.default_rng(0).random((3, 20, 30))
    zoomed = nearest_zoom(volume, (16, 16))
    np.testing.assert_array_equal(zoomed, np.stack([nearest_zoom(part, (16, 16)) for part in volume]))
