import json
import shlex
import socket
import sys

import h5py
import pytest

from dataloaders.errors import InputError
from dataloaders.training_data import load_training_data
from train_Ours_MT import parse_args
from utils.run_folder import RunFolder, command_line, environment


def config(**more):
    flags = {"seed": 1, "max_iterations": 10, "gpu": 0}
    made_by = {"command": "python train.py", "commit": "a" * 40, "uncommitted_changes": False, "versions": {}}
    data = {"lists": {"train": "1"}, "data": {"train": "2"}}
    return {"flags": flags, **data, **made_by, "device": "device: CPU", **more}


def stored(folder):
    return json.loads((folder / "config.json").read_text())


def test_other_data_under_the_same_names_is_refused(tmp_path):
    RunFolder(tmp_path / "run", config())
    with pytest.raises(InputError, match="the train data's SHA-256 = 2, now it is 3"):
        RunFolder(tmp_path / "run", config(data={"train": "3"}))
    assert stored(tmp_path / "run") == config()


def test_a_run_that_recorded_no_data_goes_on(tmp_path):
    before = config()
    del before["data"]
    RunFolder(tmp_path / "run", before)
    RunFolder(tmp_path / "run", config())
    assert stored(tmp_path / "run")["data"] == {"train": "2"}


def test_a_flag_without_effect_does_not_keep_a_run_from_resuming(tmp_path):
    """Older versions took --labelnum next to --labeled_cases and recorded both."""
    flags = {**config()["flags"], "labeled_cases": 4, "protocol": "paper"}
    RunFolder(tmp_path / "run", config(flags={**flags, "labelnum": 7, "holdout_cases": 2}))
    RunFolder(tmp_path / "run", config(flags={**flags, "labelnum": 5, "holdout_cases": 4}))
    with pytest.raises(InputError, match="--labeled_cases = 4, now it is None"):
        RunFolder(tmp_path / "run", config(flags={**flags, "labeled_cases": None}))


def test_later_starts_do_not_hide_the_first(tmp_path):
    for commit in "aabba":
        RunFolder(tmp_path / "run", config(commit=commit * 40))
    kept = stored(tmp_path / "run")
    assert kept["commit"] == "a" * 40 and [start["commit"] for start in kept["later_starts"]] == ["b" * 40]


def test_the_story_names_versions_and_command_but_no_host(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_Ours_MT.py", "--exp", "two words"])
    assert shlex.split(command_line())[1:] == sys.argv
    story = environment()
    assert {"python", "torch", "cuda", "cudnn", "numpy", "scipy", "h5py", "pillow", "platform"} == set(
        story["versions"]
    )
    assert socket.gethostname() not in json.dumps(story)


def test_data_hash_follows_the_content_and_nothing_else(own_phantom, tmp_path):
    root = own_phantom("ACDC", shape=(3, 32, 32))
    args = parse_args(["--root_path", str(root), "--labeled_cases", "1", "--patch_size", "32", "32"])
    first = load_training_data(args).hashes
    assert load_training_data(args).hashes == first and set(first) == {"train", "selection"}
    moved = root.rename(tmp_path / "elsewhere")
    args.root_path = str(moved)
    assert load_training_data(args).hashes == first
    for key, part in (("label", "train"), ("image", "selection")):
        path = sorted((moved / "data" / "slices").iterdir() if part == "train" else (moved / "data").glob("*.h5"))[0]
        before = load_training_data(args).hashes
        with h5py.File(path, "r+") as file:
            value = file[key][(0,) * file[key].ndim]
            file[key][(0,) * file[key].ndim] = 1 if value == 0 else 0
        after = load_training_data(args).hashes
        assert {role for role in after if after[role] != before[role]} == {part}
