import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from dataloaders.files import InputError
from dataloaders.reading import (
    image_axes,
    lacks_label,
    read_case,
    read_list,
    read_spacing,
    resolve,
    resolve_all,
    stated_kind,
)

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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, encoding):
    text = "Müller_1\r\npatient002\r\n"
    (tmp_path / "a.list").write_bytes((("\ufeff" if encoding == "utf-16-le" else "") + text).encode(encoding))
    assert read_list(tmp_path / "a.list") == ["Müller_1", "patient002"]


LAYOUTS = {  # templates, a name, the file that they lead to
    "slices": (("data/slices/{id}.h5", "data/{id}.h5"), "p1_slice_3", "data/slices/p1_slice_3.h5"),
    "LA": (("Training Set/{id}/mri_norm2.h5", "{id}/mri_norm2.h5"), "0RZ", "Training Set/0RZ/mri_norm2.h5"),
    "Pancreas": (("Pancreas_h5/{id}_norm.h5", "Pancreas_h5/{id}.h5"), "i1", "Pancreas_h5/i1_norm.h5"),
    "TransUNet": (("train_npz/{id}.npz", "test_vol_h5/{id}.npy.h5"), "case1", "test_vol_h5/case1.npy.h5"),
    "npz": (("train_npz/{id}.npz",), "case1_slice000", "train_npz/case1_slice000.npz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_paths_that_lead_into_the_folder_are_names(tmp_path, layout, monkeypatch):
    """As they are written on any system, with and without suffixes, and by a link to the folder."""
    templates, name, file = LAYOUTS[layout]
    root = tmp_path / "home" / "X"
    (root / file).parent.mkdir(parents=True)
    (root / file).touch()
    (tmp_path / "link").symlink_to(root)
    bare = re.sub(r"(\.\w+)+$", "", file)
    inside = [file, bare, "./" + file, file.replace("/", "\\"), bare.replace("/", "\\"), f"data\\..\\{file}"]
    lines = [name, *inside, str(root / file), f"{root}/{bare}", str(tmp_path / "link" / file)]
    (tmp_path / "a.list").write_text("\n".join(lines))
    assert read_list(tmp_path / "a.list", root, templates) == [name] * len(lines)
    monkeypatch.chdir(tmp_path / "home")
    assert read_list(tmp_path / "a.list", Path("X"), templates) == [name] * len(lines)


def test_paths_that_lead_elsewhere_are_named_as_such(tmp_path):
    """Even where a template would lead there: predictions are written under an entry's name."""
    root, templates = tmp_path / "X", ("data/{id}.h5", "{id}.h5")
    root.mkdir()
    write(tmp_path / "other.h5", **GOOD)
    lines = [str(tmp_path / "other.h5"), "..\\other.h5", "D:\\data\\c0.h5", "c0"]
    (tmp_path / "a.list").write_text("\n".join(lines))
    entries = read_list(tmp_path / "a.list", root, templates)
    assert entries == [line[: -len(".h5")] for line in lines[:3]] + ["c0"]
    with pytest.raises(InputError, match="4 of 4 entries have no file .*; 3 are paths out of this folder: list the"):
        resolve_all(root, templates, entries, tmp_path / "a.list")
    assert resolve(root, templates, "../other") is None


def test_a_name_with_a_folder_that_a_template_leads_to_stays(tmp_path):
    """Lists that were read before keep their entries, by which runs are known again."""
    (tmp_path / "Pancreas_h5").mkdir()
    write(tmp_path / "Pancreas_h5/i1.h5", **GOOD)
    (tmp_path / "a.list").write_text("Pancreas_h5/i1.h5\n")
    assert read_list(tmp_path / "a.list", tmp_path, ("Pancreas_h5/{id}.h5", "{id}.h5")) == ["Pancreas_h5/i1"]


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


@pytest.mark.parametrize("dims, shape", [(2, (4, 5)), (3, (3, 4, 5)), (3, (1, 4, 5))])
def test_a_leading_axis_of_one_is_dropped(tmp_path, dims, shape):
    image, label = np.random.default_rng(0).random(shape, dtype=np.float32), np.ones(shape, np.uint8)
    for number, arrays in enumerate(((image, label), (image[None], label[None]), (image[None], label))):
        path = write(tmp_path / f"{number}.h5", image=arrays[0], label=arrays[1])
        read, read_label = read_case(path, dims, 4)
        assert np.array_equal(read, image) and np.array_equal(read_label, label) and image_axes(path, dims) == dims


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
    np.savez(tmp_path / "whole.npz", **GOOD)
    cut = (tmp_path / "whole.npz").read_bytes()[:300]
    np.save(tmp_path / "array.npy", GOOD["image"])
    array = (tmp_path / "array.npy").read_bytes()
    for name, content in (("text", b"hello"), ("empty", b""), ("cut", cut), ("array", array)):
        for kind in ("h5", "npz"):
            path = tmp_path / f"{name}.{kind}"
            path.write_bytes(content)
            assert not lacks_label(path)  # training asks first
            with pytest.raises(InputError, match=f"{name}.{kind}: not a readable {kind} file"):
                read_case(path, 2, 4)


@pytest.mark.parametrize("spacing", [1.5, "1.5 1.5", [[1.0, 1.0], [1.0, 1.0]]])
def test_a_spacing_that_is_no_row_of_numbers_is_named(tmp_path, spacing):
    path = write(tmp_path / "a.h5", **GOOD)
    with h5py.File(path, "a") as file:
        file.attrs["spacing"] = spacing
    with pytest.raises(InputError, match="a.h5: the attribute 'spacing' must hold the voxel size in mm"):
        read_spacing(path)


def test_the_kind_of_data_is_read_over_a_byte_order_mark_and_never_fails(tmp_path):
    for text, kind in (('\ufeff{"kind": "phantoms"}', "phantoms"), ('{"kind": 3}', ""), ("[]", ""), ("{", "")):
        (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
        assert stated_kind(tmp_path, []) == kind
