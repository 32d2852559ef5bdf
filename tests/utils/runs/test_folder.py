import json
import shlex
import socket
import sys

import h5py
import pytest

from dataloaders.files import InputError
from dataloaders.training_data import load_training_data
from train_Ours_MT import parse_args
from utils.reports.runs import code_of
from utils.runs.folder import RunFolder, command_line, environment


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
    with pytest.raises(InputError, match="--labeled_cases = 4, now it is 3; --protocol = paper, now it is last: use"):
        RunFolder(tmp_path / "run", config(flags={**flags, "labeled_cases": 3, "protocol": "last"}))
    with pytest.raises(InputError, match="--labeled_cases = 4, now it is None"):
        RunFolder(tmp_path / "run", config(flags={**flags, "labeled_cases": None}))


def started(folder, iteration, **more):
    """A run's start that leaves a checkpoint, unless nothing is to be done."""
    run = RunFolder(folder, config(**more))
    if iteration is not None:
        run.record_start(iteration)
    (folder / "checkpoint.pth").touch()
    return run


def test_later_starts_do_not_hide_the_first(tmp_path):
    for iteration, commit in enumerate("aabba"):
        started(tmp_path / "run", iteration, commit=commit * 40)
    kept = stored(tmp_path / "run")
    assert kept["commit"] == "a" * 40
    assert [(start["commit"], start["iteration"]) for start in kept["later_starts"]] == [("b" * 40, 2)]


def test_other_code_is_refused_or_accepted_and_recorded(tmp_path):
    run = tmp_path / "run"
    accepting = {"seed": 1, "max_iterations": 10, "gpu": 0, "accept_code_change": True}
    started(run, 0, code_sha256="1")
    before = stored(run)
    with pytest.raises(InputError, match="code has changed .* name another --exp .*, or add --accept_code_change"):
        RunFolder(run, config(code_sha256="2"))
    assert started(run, None, code_sha256="2", flags=accepting).note and stored(run) == before  # nothing to do
    assert started(run, 5, code_sha256="1").note == "" and "later_starts" not in stored(run)
    assert "has changed since" in started(run, 7, code_sha256="2", flags=accepting).note
    (later,) = stored(run)["later_starts"]
    assert (later["code_sha256"], later["iteration"], stored(run)["code_sha256"]) == ("2", 7, "1")
    assert started(run, 8, code_sha256="2").note == ""  # accepted once
    assert code_of(stored(run)) == "aaaaaaaaaa, resumed under other code"
    assert code_of(before) == "aaaaaaaaaa"
    assert code_of({**before, "uncommitted_changes": True}) == "aaaaaaaaaa with uncommitted changes"
    assert code_of({"commit": "unknown (not a git checkout)"}) == "unknown"


def test_a_run_that_did_not_record_its_code_is_resumed_with_a_note(tmp_path):
    started(tmp_path / "run", 0)
    assert "did not record its code" in started(tmp_path / "run", 3, code_sha256="2").note
    assert started(tmp_path / "run", 5, code_sha256="2").note == ""
    assert code_of(stored(tmp_path / "run")).endswith("resumed under other code")


def test_a_run_without_a_checkpoint_is_begun_anew_under_other_code(tmp_path):
    for code in "12":
        RunFolder(tmp_path / "run", config(code_sha256=code)).record_start(0)
    assert stored(tmp_path / "run") == config(code_sha256="2")


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
