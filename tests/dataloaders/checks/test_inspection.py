import h5py
import numpy as np
import pytest

from dataloaders.checks.inspection import image_hash, inspect, middle_two
from dataloaders.registry import DATASETS

ACDC, LA = DATASETS["ACDC"], DATASETS["LA"]


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path


def test_the_hash_is_of_content_and_shape():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert image_hash(image) == image_hash(image.copy(order="F")) == image_hash(np.where(image == 0, -0.0, image))
    assert image_hash(image) != image_hash(image.reshape(4, 3)) != image_hash(image.T)
    assert image_hash(np.full((3, 4), 2, np.float32)) == b""


def test_middle_two():
    assert [middle_two(count) for count in (1, 2, 3, 9)] == [[0], [0, 1], [1, 2], [3, 6]]


def test_facts_of_a_volume(tmp_path):
    """By hand: 2 of 24 voxels are RV, 1 is LV; one hash a slice; two planes; the spacing where it is stated."""
    image = np.linspace(0, 1, 24, dtype=np.float64).reshape(2, 3, 4)
    label = np.zeros((2, 3, 4), np.int8)
    label[0, 0, :2], label[1, 2, 3], label[0, 1, 1] = 1, 3, -1
    path = write(tmp_path / "a.h5", image=image, label=label)
    with h5py.File(path, "a") as file:
        file.attrs["spacing"] = [10, 1.5, 1.5]
    facts = inspect(path, ACDC, 3, True, True)
    assert facts.problems == [] and facts.shape == (2, 3, 4) and (facts.low, facts.high) == (0, 1)
    assert facts.voxels == (2, 0, 1) and facts.negative and facts.types == ("float64", "int8")
    assert facts.spacing == (10, 1.5, 1.5) and not facts.tilted
    assert facts.hashes == tuple(image_hash(plane.astype(np.float32)) for plane in image)
    assert len(facts.planes) == 2 and np.array_equal(facts.planes[1][2], [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3]])
    assert inspect(path, ACDC, 3, True, False).planes == ()


def test_planes_of_a_3d_volume_have_the_most_foreground(tmp_path):
    image = np.random.default_rng(0).standard_normal((6, 5, 4)).astype(np.float32)
    label = np.zeros((6, 5, 4), np.uint8)
    label[1, :2, 3] = 1
    facts = inspect(write(tmp_path / "a.h5", image=image, label=label), LA, 3, True, True)
    assert facts.problems == [] and len(facts.hashes) == 1
    assert [(name, plane.shape) for name, plane, _ in facts.planes] == [
        ("slice 4 of 4 along Z", (6, 5)),
        ("slice 2 of 6 along X", (5, 4)),
    ]
    assert np.array_equal(facts.planes[0][1], image[:, :, 3]) and np.array_equal(facts.planes[1][1], image[1])


@pytest.mark.parametrize(
    "arrays, count",
    [
        ({"image": np.float32(0.5), "label": np.uint8(0)}, 2),  # a number: shape, constant
        ({"image": np.zeros((0, 4, 4)), "label": np.zeros((0, 4, 4))}, 1),
        ({"image": np.full((2, 4, 4), b"a"), "label": np.full((2, 4, 4), np.nan)}, 2),
        ({"image": np.full((2, 4, 4), np.nan), "label": np.full((2, 4), 1j)}, 3),
        ({"other": np.zeros(3)}, 2),
        ({"image": np.zeros((2, 4, 4, 3)), "label": np.zeros((2, 4, 4, 3), np.uint8)}, 2),
    ],
)
def test_strange_files_are_described_not_raised(tmp_path, arrays, count):
    facts = inspect(write(tmp_path / "a.h5", **arrays), ACDC, 3, True, True)
    assert len(facts.problems) == count


def test_a_group_where_an_array_should_be(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("image")
    assert "not a readable h5 file" in inspect(tmp_path / "a.h5", ACDC, 2, True, True).problems[0]
