import errno
import os
import pickle

import pytest
import torch

from dataloaders.files import InputError, WriteError, write_text
from utils.runs.checkpoints import load_checkpoint, load_tensors, save_checkpoint, save_tensors


def test_previous_one_is_kept_and_a_truncated_one_is_named_and_passed_over(tmp_path):
    for iteration in (1, 2, 3):
        save_checkpoint({"iteration": iteration, "weights": torch.ones(1000)}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pth", "checkpoint_prev.pth"]
    assert load_checkpoint(tmp_path)["iteration"] == 3
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:-700])
    said = []
    assert load_checkpoint(tmp_path, said.append)["iteration"] == 2
    assert "checkpoint.pth: damaged" in said[0] and (tmp_path / "checkpoint.pth.damaged").exists()
    save_checkpoint({"iteration": 4}, tmp_path)  # does not push the good one out with the damaged one
    assert (
        load_tensors(tmp_path / "checkpoint_prev.pth")["iteration"] == 2 or load_checkpoint(tmp_path)["iteration"] == 4
    )


def test_a_kill_between_the_two_renames_leaves_a_checkpoint(tmp_path):
    save_checkpoint({"iteration": 1}, tmp_path)
    os.replace(tmp_path / "checkpoint.pth", tmp_path / "checkpoint_prev.pth")
    assert load_checkpoint(tmp_path)["iteration"] == 1


def test_none_and_all_damaged(tmp_path):
    assert load_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint.pth").write_bytes(b"")
    (tmp_path / "checkpoint_prev.pth").write_bytes(b"PK garbage")
    with pytest.raises(InputError, match="no intact checkpoint is left to resume this run; move the folder elsewhere"):
        load_checkpoint(tmp_path, lambda line: None)


@pytest.mark.parametrize(
    "save, load, old, new",
    [
        (save_tensors, load_tensors, {"value": 1}, {"value": 2}),
        (lambda text, path: write_text(path, text), lambda path: path.read_text(), "old", "new"),
    ],
    ids=["tensors", "text"],
)
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, save, load, old, new):
    """As on a full disk."""
    path = tmp_path / "file"
    save(old, path)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="file: cannot be written .No space left on device.; make room"):
        save(new, path)
    assert load(path) == old and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_full_in_the_middle_of_the_tensors_is_named(tmp_path):
    (tmp_path / ".part-a.pth").symlink_to("/dev/full")
    with pytest.raises(WriteError, match="a.pth: cannot be written .No space left on device."):
        save_tensors({"value": torch.zeros(100_000)}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "a.pth: no such file"),
        ("folder", "a.pth: is a folder; name a weights file in it"),
        ("not a scan, nor weights", "a.pth: damaged or not a file of plain tensors"),
        ("<html></html>", "a.pth: damaged or not a file of plain tensors$"),
    ],
)
def test_what_is_no_file_of_weights_is_one_line_without_unsafe_advice(tmp_path, content, message):
    path = tmp_path / "a.pth"
    if content == "folder":
        path.mkdir()
    elif content:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_tensors(path)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


class Evil:
    def __reduce__(self):
        return os.system, ("echo unsafe",)


def test_pickled_code_never_runs(tmp_path, capfd):
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"net": Evil()}, tmp_path / "new.pth")
    for name in ("old.pth", "new.pth"):
        with pytest.raises(InputError, match=f"{name}: damaged or not a file of plain tensors"):
            load_tensors(tmp_path / name)
    assert "unsafe" not in capfd.readouterr().out
