import h5py
import numpy as np
import pytest

from dataloaders.reading import read_arrays
from dataloaders.writing import WriteError, whole_file, write_h5, write_text

IMAGE, LABEL = np.random.default_rng(0).random((3, 4, 5), np.float32), np.ones((3, 4, 5), np.uint8)


def test_the_same_case_gives_the_same_bytes_and_reads_back(tmp_path):
    facts = {"spacing": [1.0, 2.0, 3.0], "axes": "zyx"}
    write_h5(tmp_path / "a" / "x.h5", IMAGE, LABEL, facts)
    write_h5(tmp_path / "b" / "y.h5", IMAGE, LABEL, facts)
    assert (tmp_path / "a" / "x.h5").read_bytes() == (tmp_path / "b" / "y.h5").read_bytes()
    arrays = read_arrays(tmp_path / "a" / "x.h5")
    assert np.array_equal(arrays["image"], IMAGE) and np.array_equal(arrays["label"], LABEL)
    with h5py.File(tmp_path / "a" / "x.h5") as file:
        assert file.attrs["spacing"].tolist() == [1, 2, 3] and file.attrs["axes"] == "zyx"
        assert file["image"].compression == "gzip"


def test_a_case_without_label(tmp_path):
    write_h5(tmp_path / "x.h5", IMAGE, None)
    assert sorted(read_arrays(tmp_path / "x.h5")) == ["image"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("ITK\nno space")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_text(tmp_path / "a.list", "old\n")
    with pytest.raises(WriteError, match="a.list: cannot be written .*[nN]o space"), whole_file(
        tmp_path / "a.list"
    ) as new:
        new.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a.list"]
    assert (tmp_path / "a.list").read_text() == "old\n"
