import errno
import os

import h5py
import numpy as np
import pytest

from dataloaders.files import WriteError, whole_file, write_h5, write_text
from dataloaders.reading import read_arrays

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


@pytest.mark.parametrize(
    "number, message",
    [
        (errno.ENOSPC, "a.list: cannot be written .No space left on device.; make room, then run"),
        (errno.EDQUOT, "; make room, then run the same command again$"),
        (errno.EACCES, "a.list: cannot be written .Permission denied.; check .*, then run the same command again$"),
        (errno.EIO, "a.list: cannot be written .Input/output error.; check "),
    ],
)
@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "behind PyTorch's own error"])
def test_the_cause_is_the_systems_and_only_a_full_disk_needs_room(tmp_path, number, message, hidden):
    with pytest.raises(WriteError, match=message), whole_file(tmp_path / "a.list"):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            if hidden:
                raise RuntimeError("unexpected pos 64 vs 0") from None
            raise error


@pytest.mark.parametrize("error", [RuntimeError("DataLoader worker (pid 7) is killed by signal"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_file_is_not_said_to_be_one(tmp_path, error):
    with pytest.raises(type(error)) as caught, whole_file(tmp_path / "a.list") as temporary:
        temporary.touch()
        raise error
    assert caught.value is error and list(tmp_path.iterdir()) == []


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
