import h5py
import numpy as np
import pytest

from dataloaders.errors import InputError
from dataloaders.reading import read_case, read_list, resolve_all

GOOD = {"image": np.full((4, 5), 0.5, np.float32), "label": np.ones((4, 5), np.uint8)}


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path


def test_list_lines_are_cleaned(tmp_path):
    path = tmp_path / "a.list"
    path.write_bytes(b"patient001_slice_1.h5  \r\n\r\n patient002\t\n")
    assert read_list(path) == ["patient001_slice_1", "patient002"]
    path.write_text("\n \n")
    with pytest.raises(InputError, match="a.list: the list is empty"):
        read_list(path)
    with pytest.raises(InputError, match="b.list: cannot read this list"):
        read_list(tmp_path / "b.list")


def test_missing_entries_are_counted_and_five_named(tmp_path):
    write(tmp_path / "c0.h5", **GOOD)
    entries = [f"c{number}" for number in range(8)]
    with pytest.raises(InputError, match=r"x.list: 7 of 8 entries have no file .*: c1, c2, c3, c4, c5, \.\.\."):
        resolve_all(tmp_path, ("data/{id}.h5", "{id}.h5"), entries, tmp_path / "x.list")


def test_a_good_file_with_extra_keys_and_negative_labels(tmp_path):
    label = np.array([[-1, 0], [3, 1]], dtype=np.int16)
    path = write(tmp_path / "a.h5", image=np.zeros((2, 2), np.float64), label=label, scribble=label)
    image, read = read_case(path, 2, 4)
    assert image.dtype == np.float32 and read.dtype == np.uint8
    assert read.tolist() == [[0, 0], [3, 1]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image": None}, "no 'image' in this file, it holds \\['label'\\]"),
        ({"label": None}, "no 'label' in this file, it holds \\['image'\\]"),
        ({"image": None, "label": None}, "neither image nor label"),
        ({"label": np.ones((5, 4), np.uint8)}, r"image \(4, 5\) and label \(5, 4\) differ in shape"),
        ({"label": np.full((4, 5), 4, np.uint8)}, "label 4 found, this dataset has the classes 0 to 3"),
        ({"label": np.full((4, 5), 0.5)}, "labels must be whole numbers, got float64"),
        ({"label": np.full((4, 5), np.nan)}, "labels must be whole numbers"),
        ({"image": np.full((4, 5), np.nan, np.float32)}, "holds NaN or infinite"),
        ({"image": np.full((4, 5), np.inf, np.float32)}, "holds NaN or infinite"),
        ({"image": np.full((4, 5), 300, np.int16)}, r"values from 300 to 300, expected \[0, 1\]"),
        ({"image": np.zeros((3, 4, 5), np.float32)}, r"expected a slice \(H, W\), got an image of shape \(3, 4, 5\)"),
        ({"image": np.zeros((0, 5), np.float32)}, "an image of numbers is needed"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path, change, message):
    arrays = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    path = write(tmp_path / "faulty.h5", **arrays)
    with pytest.raises(InputError, match=f"faulty.h5: .*{message}"):
        read_case(path, 2, 4, unit_range=True)


def test_label_may_be_missing_where_it_is_not_required(tmp_path):
    image, label = read_case(write(tmp_path / "a.h5", image=GOOD["image"]), 2, 4, label_required=False)
    assert image.shape == (4, 5) and label is None


def test_truncated_and_foreign_files(tmp_path):
    path = write(tmp_path / "cut.h5", image=np.random.rand(64, 64), label=np.zeros((64, 64)))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="cut.h5: not a readable h5 file"):
        read_case(path, 2, 4)
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="text.h5: not a readable h5 file"):
        read_case(tmp_path / "text.h5", 2, 4)
