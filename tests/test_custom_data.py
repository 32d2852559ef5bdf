"""A custom dataset from scans to tables: the example of docs/EXTENDING.md as it stands, the other scripts, and 3-D."""

import importlib
import json
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from dataloaders.scans.files import read_scan
from dataloaders.scans.scan import reorient
from networks import net_factory
from scripts import check_dataset, make_tables, prepare
from scripts.make_phantom import make_scans

pytest.importorskip("SimpleITK", reason="scans are read and resampled by SimpleITK")
pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")

SMALL = "--num_workers 0 --val_interval 4 --max_iterations 4 --batch_size 4 --labeled_bs 2 --labeled_cases 2".split()


@pytest.fixture(scope="module")
def example(root, tmp_path_factory):
    """A folder in which the page's example was run by bash, the repository's scripts being linked there."""
    section = (root / "docs/EXTENDING.md").read_text().split("## A dataset")[1]
    commands, description = (re.search(rf"```{kind}\n(.*?)```", section, re.S)[1] for kind in ("bash", "json"))
    folder = tmp_path_factory.mktemp("example")
    for name in ("scripts", "train_Ours_MT.py", "test_2d.py"):
        (folder / name).symlink_to(root / name)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    command = ["bash", "-eu", "-c", commands]
    result = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder, description, result.stdout


def call(script, *flags):
    """The exit code of a script's main() in this process."""
    module = script if hasattr(script, "main") else importlib.import_module(script)
    try:
        return module.main([*map(str, flags)])
    except SystemExit as stop:
        return stop.code


def test_the_example_of_the_page(example):
    folder, description, out = example
    assert json.loads((folder / "own/scans/dataset.json").read_text()) == json.loads(description)
    for line in (
        "MyACDC: 20 scans in own/scans, 14 with a label, 0 done before",
        "of the training patients 5 have labels: --labeled_cases 1 to 5",
        "clean: 100 files of 3 lists",
        "finished: 20 iterations",
        "MyACDC (phantoms), 2 test volumes",
        "20 of 20 scans predicted; volumes: predictions/volumes.csv",
    ):
        assert line in out
    summary = json.loads((folder / "runs/MyACDC/Ours_MT_4cases/seed_1337/test_best/summary.json").read_text())
    assert summary["dataset"] == "MyACDC" and summary["classes"] == ["RV", "Myo", "LV"]


def test_a_scan_gets_the_tests_own_label_map(example, tmp_path, monkeypatch, fill, capsys):
    """The test's predictions are in LPS, the label maps as each scan is: oblique, some of them flipped.

    So do the NIfTI files that the test itself writes. By a run's weights file, but with a network whose label maps hold
    all classes.
    """
    folder, _, _ = example
    weights = torch.load(folder / "runs/MyACDC/Ours_MT_4cases/seed_1337/best.pth", weights_only=True)
    weights["net"] = fill(net_factory("unet_proj", 1, 4), 3).state_dict()
    torch.save(weights, tmp_path / "best.pth")
    monkeypatch.setenv("DATASET_HOME", str(folder / "own"))
    assert call("test_2d", "--name", "MyACDC", "--output_dir", tmp_path, "--save_nifti") == 0
    assert "--save_nifti" not in capsys.readouterr().out
    monkeypatch.delenv("DATASET_HOME")
    images, masks = folder / "own/scans/images", tmp_path / "masks"
    assert call("test_2d", "--predict", images, "--weights", tmp_path / "best.pth", "--out", masks) == 0
    tested = sorted((tmp_path / "test_best/predictions").glob("*.h5"))
    assert len(tested) == 2
    for path in tested:
        with h5py.File(path) as file:
            expected = file["prediction"][()]
        label, scan = read_scan(masks / f"{path.stem}.nii.gz"), read_scan(images / f"{path.stem}.nii.gz")
        assert label.geometry == scan.geometry and label.array.dtype == np.uint8
        assert np.array_equal(reorient(label, "LPS").array, expected) and len(np.unique(expected)) == 4
        written = read_scan(tmp_path / "test_best/nifti" / f"{path.stem}.nii.gz")
        assert np.array_equal(written.array, label.array) and written.geometry.distance(scan.geometry) < 1e-3


def test_the_other_scripts_pictures_and_tables_know_the_name(example, tmp_path, monkeypatch, capsys):
    folder, _, _ = example
    monkeypatch.setenv("DATASET_HOME", str(folder / "own"))
    flags = ["--name", "MyACDC", "--output_dir", tmp_path / "runs", *SMALL]
    assert call("train_Ours_BCP", *flags, "--consistency_rampup", 1, "--pretrain_iterations", 2) == 0
    assert call("train_DuCiSC", *flags, "--warmup_iterations", 1) == 0
    assert call("test_2d", "--name", "MyACDC", "--output_dir", tmp_path / "runs", "--figures") == 0
    assert (tmp_path / "runs/MyACDC/DuCiSC_2cases/seed_1337/report.html").exists()
    monkeypatch.delenv("DATASET_HOME")  # tables need the runs alone
    for kind in ("markdown", "latex", "csv", "html"):
        assert call(make_tables, tmp_path / "runs", "--format", kind, "--out", tmp_path / "table") == 0
        assert "MyACDC" in (tmp_path / "table").read_text()


def test_all_for_training_keeps_the_last_weights_and_has_no_test(example, tmp_path, monkeypatch, capsys):
    """--split 100 0 0: said in the log, in the weights, and in the table of a list that is named."""
    scans = ["--name", "Custom", "--source", example[0] / "own/scans", "--out", tmp_path, "--num_workers", 0]
    assert call(prepare, *scans, "--split", 100, 0, 0) is None
    own = ["--name", "MyACDC", "--root_path", tmp_path / "MyACDC", "--output_dir", tmp_path / "runs"]
    flags = [*own, *SMALL, "--labeled_cases", 7, "--consistency_rampup", 1]
    assert call("train_Ours_MT", *flags) == 0
    out = capsys.readouterr().out
    why = "--protocol holdout takes 4 unlabelled cases out of training, the list has 3, 0 of them with labels"
    assert f"selection of the best weights: not chosen: no validation, best.pth holds the last weights ({why})" in out
    assert "finished: 4 iterations, not validated" in out and "WARNING: no validation" not in out
    run = tmp_path / "runs/MyACDC/Ours_MT_7cases/seed_1337"
    best, last = (torch.load(run / f"{kind}.pth", weights_only=True) for kind in ("best", "last"))
    assert all(torch.equal(best["net"][name], last["net"][name]) for name in last["net"])
    assert json.loads((run / "config.json").read_text())["flags"]["protocol"] == "last"
    assert call("train_Ours_MT", *flags) == 0 and "nothing to do" in capsys.readouterr().out
    assert call("test_2d", *own) == 2
    error = capsys.readouterr().err
    assert "no test.list here; name a list with --test_list (prepare.py --split makes one)" in error
    assert error.count("\n") == 1
    assert call("test_2d", *own, "--test_list", example[0] / "own/MyACDC/test.list") == 2  # its volumes are not here
    assert "entries have no file" in capsys.readouterr().err
    own[3] = example[0] / "own/MyACDC"
    assert call("test_2d", *own, "--figures") == 0
    table = capsys.readouterr().out
    assert "best: not chosen, a copy of the last weights: no validation was run" in table and "chosen by" not in table
    assert call(make_tables, tmp_path / "runs", "--format", "markdown", "--out", tmp_path / "table") == 0
    assert "chosen by" not in (tmp_path / "table").read_text()


def test_3d(tmp_path, monkeypatch, capsys):
    scans = make_scans("LA", tmp_path / "scans", train=4, test=2, shape=(24, 24, 20))
    assert call(prepare, "--name", "Custom", "--source", scans, "--out", tmp_path, "--num_workers", 0) is None
    own = ["--name", "MyLA", "--root_path", tmp_path / "MyLA"]  # without DATASET_HOME
    monkeypatch.delenv("DATASET_HOME", raising=False)
    assert call(check_dataset, *own, "--out", tmp_path / "page.html") == 0
    flags = [*own, "--output_dir", tmp_path / "runs", *SMALL, "--val_start", 1]
    assert call("train_DuCiSC", *flags, "--warmup_iterations", 1) == 0
    assert call("test_3d", *own, "--output_dir", tmp_path / "runs", "--figures") == 0
    assert "windows with stride 4 4 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "script, flags, message",
    [
        ("train_Ours_MT", [], "MyACDC has no protocol for --labelnum: say with --labeled_cases N"),
        ("train_Ours_MT", ["--labeled_cases", 6], "the 5 before it have: --labeled_cases 1..5"),
        ("train_DuCiSC", ["--labeled_cases", 9], "use --labeled_cases 1..8"),
        ("test_3d", [], "--name MyACDC: a 2-D dataset; the scripts for it are train_Ours_MT.py, "),
        ("test_2d", [], "train first: python train_Ours_MT.py --name MyACDC --labeled_cases 4"),
    ],
)
def test_what_does_not_fit_is_one_line(example, tmp_path, monkeypatch, capsys, script, flags, message):
    monkeypatch.setenv("DATASET_HOME", str(example[0] / "own"))
    assert call(script, "--name", "MyACDC", "--output_dir", tmp_path / "runs", *flags) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not (tmp_path / "runs").exists()
