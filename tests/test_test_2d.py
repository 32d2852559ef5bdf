"""test_2d.py, test_ACDC.sh and the pictures, on a small run on phantoms."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

import test_2d
import test_3d
import train_Ours_MT
from networks import net_factory
from scripts import make_tables, reproduce
from scripts import plot_run as plot_run_script
from test_2d import main
from utils.prediction.colour_tables import ITK_SNAP
from utils.reports import testing
from utils.reports.results import read_results
from utils.reports.verification import verify_run
from utils.runs.folder import read_metrics

TRAIN = (
    "--labeled_cases 2 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --consistency_rampup 1 --num_workers 0".split()
)
TRAIN += "--max_iterations 30 --val_interval 10".split()


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    """runs/ with two seeds of one setting; copy it before changing it."""
    out = tmp_path_factory.mktemp("runs")
    for seed in ("1", "2"):
        flags = [*TRAIN, "--root_path", str(phantoms("ACDC") / "ACDC"), "--seed", seed, "--output_dir", str(out)]
        assert train_Ours_MT.main(flags) == 0
    return out / "ACDC" / "Ours_MT_2cases"


@pytest.fixture
def runs(trained, tmp_path, phantoms, monkeypatch):
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    return shutil.copytree(trained, tmp_path / "runs" / "ACDC" / "Ours_MT_2cases")


def per_case(folder):
    with open(folder / "per_case.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_validation_and_test_are_one_evaluation(runs, phantoms):
    """The score in training is the score of the test, for the same weights and list."""
    run = runs / "seed_1"
    val_list = phantoms("ACDC") / "ACDC" / "val.list"
    assert main(["--output_dir", str(run), "--test_list", str(val_list)]) == 0
    best = torch.load(run / "best.pth", weights_only=True)
    summary = json.loads((run / "test_best/summary.json").read_text())
    assert summary["metrics"]["dice"]["mean"] == best["val_dice"]
    (row,) = [
        row for row in read_metrics(run / "metrics.jsonl") if row["iteration"] == best["iteration"] and "val/asd" in row
    ]
    for label in ("RV", "Myo", "LV"):
        for name in ("dice", "asd"):
            mean = summary["metrics"][name]["by_class"][label]["mean"]
            assert mean == pytest.approx(row[f"val/{name}/{label}"], nan_ok=True) or (
                mean is None and np.isnan(row[f"val/{name}/{label}"])
            )


def test_the_table_agrees_with_medpy_on_the_saved_predictions(runs, phantoms, capsys):
    metric = pytest.importorskip("medpy.metric", reason="MedPy is the reference implementation")
    assert main(["--output_dir", str(runs)]) == 0
    out = capsys.readouterr().out
    data = phantoms("ACDC") / "ACDC" / "data"
    for seed in ("seed_1", "seed_2"):
        for kind in ("best", "last"):
            folder = runs / seed / f"test_{kind}"
            dice = []
            for row in per_case(folder):
                with h5py.File(folder / "predictions" / f"{row['case']}.h5") as file:
                    pred = file["prediction"][()]
                with h5py.File(data / f"{row['case']}.h5") as file:
                    label = file["label"][()]
                index = ("RV", "Myo", "LV").index(row["class"]) + 1
                a, b = pred == index, label == index
                if a.any() and b.any():
                    assert float(row["dice"]) == pytest.approx(metric.dc(a, b), abs=1e-12)
                    assert float(row["hd95"]) == pytest.approx(metric.hd95(a, b), abs=1e-9)
                    assert float(row["asd"]) == pytest.approx(metric.asd(a, b), abs=1e-9)
                else:
                    assert float(row["dice"]) == float(a.any() == b.any()) and row["asd"] == row["hd95"] == ""
                dice.append(float(row["dice"]))
            assert f"{np.mean(dice) * 100:.2f} ±" in out
    assert "Ours_MT_2cases best, mean ± std over 2 runs" in out
    assert "best: chosen by mean Dice on val.list (4 volumes); last: the end of training, not chosen" in out
    assert "classes by label value: 1 RV, 2 Myo, 3 LV" in out
    assert "2 labelled cases, 30 iterations, batch 4, 32x32, seed 1" in out


def test_tested_twice_gives_the_same_files(runs):
    run = runs / "seed_1"
    assert main(["--output_dir", str(run)]) == 0
    first = (run / "test_best/per_case.csv").read_bytes()
    assert main(["--output_dir", str(run)]) == 0
    assert (run / "test_best/per_case.csv").read_bytes() == first
    assert not list(run.glob("test_*.new")) and not list(run.glob("test_*.old"))


def test_best_weights_that_are_the_last_are_tested_once(runs, capsys, monkeypatch):
    run, calls = runs / "seed_1", []
    evaluate = testing.evaluate
    monkeypatch.setattr(testing, "evaluate", lambda *args, **more: calls.append(1) or evaluate(*args, **more))
    last = torch.load(run / "last.pth", weights_only=True)
    other = {name: value + 1 for name, value in last["net"].items()}
    torch.save({**last, "iteration": 10, "net": other}, run / "best.pth")
    assert main(["--output_dir", str(run)]) == 0 and len(calls) == 2
    assert "weights of iteration: best at 10, last at 30" in capsys.readouterr().out
    torch.save({**last, "val_dice": 0.5}, run / "best.pth")
    before = (run / "test_last/per_case.csv").read_bytes()
    assert main(["--output_dir", str(run), "--save_nifti"]) == 0 and len(calls) == 3
    out = capsys.readouterr().out
    assert "seed_1 best  " in out and "seed_1 last  " in out and "weights of iteration: best and last at 30" in out
    best, last = (read_results(run / f"test_{kind}").summary for kind in ("best", "last"))
    own = {"run", "weights", "weights_sha256", "val_dice"}
    assert {key for key in best if best[key] != last[key]} == own and best["val_dice"] == 0.5
    assert (run / "test_best/per_case.csv").read_bytes() == before == (run / "test_last/per_case.csv").read_bytes()
    files = (run / "test_last/nifti").glob("*.nii.gz"), (run / "test_last/predictions").iterdir()
    assert [len(list(found)) for found in files] == [4, 4]
    assert not any(verdict.found for verdict in verify_run(run))


def test_a_run_without_best_weights(runs, capsys):
    (runs / "seed_1" / "best.pth").unlink()
    assert main(["--output_dir", str(runs / "seed_1")]) == 0
    out = capsys.readouterr().out
    assert "seed_1 last" in out and "seed_1 best" not in out and not (runs / "seed_1/test_best").exists()


def test_bare_weights_of_the_family(tmp_path, phantoms, monkeypatch, capsys):
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    torch.save({"net": net_factory("unet", 1, 4).state_dict(), "opt": {}}, tmp_path / "unet_best_model.pth")
    assert main(["--output_dir", str(tmp_path), "--patch_size", "32", "32"]) == 0
    summary = json.loads((tmp_path / "test_unet_best_model/summary.json").read_text())
    assert summary["patch_size"] == [32, 32] and summary["cases"] == 4
    assert "unet_best_model" in capsys.readouterr().out


def test_millimetres_from_the_flag_and_from_the_file(runs, own_phantom, tmp_path, capsys):
    root = own_phantom("ACDC", shape=(1, 48, 80))  # volumes of one slice, not square
    flags = ["--output_dir", str(runs / "seed_1"), "--root_path", str(root)]
    one = tmp_path / "one.list"
    one.write_text("patient005_frame01\n")
    flags += ["--test_list", str(one)]  # a list with one case
    folder = runs / "seed_1" / "test_best"
    assert main(flags) == 0
    voxels = per_case(folder)
    assert main([*flags, "--spacing", "2", "2", "2"]) == 0
    assert json.loads((folder / "summary.json").read_text())["unit"] == "mm"
    for a, b in zip(voxels, per_case(folder)):
        assert a["dice"] == b["dice"]
        assert (a["asd"] == b["asd"] == "") or float(b["asd"]) == pytest.approx(2 * float(a["asd"]))
    with pytest.raises(SystemExit) as stop:
        main([*flags, "--unit", "mm"])
    assert stop.value.code == 2 and "no voxel size in this file; give --spacing" in capsys.readouterr().err
    by_flag = per_case(folder)
    with h5py.File(root / "data/patient005_frame01.h5", "a") as file:
        file.attrs["spacing"] = (2.0, 2.0, 2.0)
    assert main([*flags, "--unit", "mm"]) == 0
    assert per_case(folder) == by_flag


def test_empty_predictions_are_counted_on_screen(tmp_path, phantoms, monkeypatch, capsys):
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    net = net_factory("unet", 1, 4)
    torch.nn.init.zeros_(net.decoder.out_conv.weight)
    with torch.no_grad():
        net.decoder.out_conv.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.save(net.state_dict(), tmp_path / "nothing.pth")
    assert main(["--output_dir", str(tmp_path), "--patch_size", "32", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith(f"{tmp_path.name} nothing")]
    assert row.split()[-1] == "12" and "undefined" in row  # 4 volumes, 3 classes
    assert any("with the volume's diagonal for empty masks" in line for line in lines)
    assert main(["--output_dir", str(tmp_path), "--patch_size", "32", "32", "--empty", "release"]) == 0
    assert "undefined" not in [line for line in capsys.readouterr().out.splitlines() if " nothing " in line][0]


def test_a_runs_weights_are_all_that_a_new_scan_needs(runs, phantoms, root, tmp_path):
    """The same volumes as scans, without DATASET_HOME, in a process of their own: the same label maps."""
    sitk = pytest.importorskip("SimpleITK", reason="the test reads the files that it is about")
    pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")
    run = runs / "seed_1"
    assert main(["--output_dir", str(run)]) == 0
    for path in (phantoms("ACDC") / "ACDC" / "data").glob("patient009*.h5"):
        with h5py.File(path) as file:
            image = sitk.GetImageFromArray(file["image"][()])
        image.SetSpacing((1.4, 1.5, 10.0))
        (tmp_path / "scans").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / "scans" / f"{path.stem}.nii.gz"))
    env = {key: value for key, value in os.environ.items() if key != "DATASET_HOME"}
    command = [sys.executable, root / "test_2d.py", "--predict", "scans", "--weights", run / "best.pth"]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "[2/2] scans/patient009_frame02.nii.gz -> predictions/patient009_frame02.nii.gz: RV " in result.stdout
    for frame in ("01", "02"):
        with h5py.File(run / f"test_best/predictions/patient009_frame{frame}.h5") as file:
            expected = file["prediction"][()]
        label = sitk.ReadImage(str(tmp_path / f"predictions/patient009_frame{frame}.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(label), expected)


def test_refusals(runs, tmp_path, capsys):
    def refused(*flags):
        with pytest.raises(SystemExit) as stop:
            main(list(flags))
        assert stop.value.code == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        return error[0]

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no weights found (looked for best.pth and last.pth" in refused("--output_dir", str(empty))
    assert "python train_Ours_MT.py --name ACDC --labelnum 5" in refused("--output_dir", str(empty))
    assert "no such folder" in refused("--output_dir", str(tmp_path / "nowhere"))
    assert "required: --output_dir" in refused()
    for kind in ("best", "last"):
        (runs / "seed_1" / f"{kind}.pth").write_bytes(b"nothing")
    assert "best.pth: damaged" in refused("--output_dir", str(runs / "seed_1"))


@pytest.mark.parametrize("file, content", [("best.pth", b"nothing"), ("config.json", b'{"flags": {"seed": 1}}')])
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_tested(runs, capsys, file, content):
    (runs / "seed_1" / file).write_bytes(content)
    assert main(["--output_dir", str(runs.parent)]) == 1
    out, error = capsys.readouterr()
    assert len(error.splitlines()) == 1 and str(runs / "seed_1" / file) in error
    rows = [line for line in out.splitlines() if line.startswith("Ours_MT_2cases")]
    assert any("seed_2 best" in row for row in rows) and any("seed_2 last" in row for row in rows)
    assert not any("seed_1 best" in row or "best, mean ±" in row for row in rows)


def test_seeds_trained_with_other_flags_are_shown_but_not_averaged(runs, capsys):
    path = runs / "seed_2" / "config.json"
    config = json.loads(path.read_text())
    config["flags"]["consistency"] = 0.7
    path.write_text(json.dumps(config))
    assert main(["--output_dir", str(runs)]) == 1
    out, error = capsys.readouterr()
    reason = "seed_2: trained with --consistency 0.7, but "
    assert reason in error and "seed_1 best" in out and "seed_2 best" in out and "mean ± std" not in out
    with pytest.raises(SystemExit) as stop:
        make_tables.main([str(runs)])
    assert stop.value.code == 2 and reason in capsys.readouterr().err


def test_phantoms_are_recorded_and_said_and_the_size_is(runs, capsys):
    assert json.loads((runs / "seed_1" / "config.json").read_text())["kind"] == "phantoms"
    assert "data: ACDC (phantoms) in" in (runs / "seed_1" / "log.txt").read_text()
    assert main(["--output_dir", str(runs / "seed_1")]) == 0
    out = capsys.readouterr().out
    assert json.loads((runs / "seed_1/test_best/summary.json").read_text())["kind"] == "phantoms"
    assert out.startswith("ACDC (phantoms): 4 volumes") and "[1] ACDC (phantoms), 4 test volumes" in out
    assert "32x32, batch 4, 30 iterations: a small-size check, not the papers' setting" in out
    assert make_tables.main([str(runs), "--format", "html"]) == 0
    assert "<h1>Results on ACDC (phantoms)</h1>" in capsys.readouterr().out


def test_published_rows_follow_below_a_line_of_their_own(runs, capsys):
    path = runs / "seed_1" / "config.json"
    config = json.loads(path.read_text())
    config["flags"].update(labeled_cases=None, labelnum=5)
    path.write_text(json.dumps(config))
    assert main(["--output_dir", str(runs / "seed_1")]) == 0
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    place = lines.index("published, at the papers' size on patients' data:")
    assert lines[place + 1] == "published: SPC (MT), 5 % best" and "published: CrossMatch, 5 % last" in lines[place:]
    assert not any(line.startswith("published: ") for line in lines[:place])


def test_label_maps_as_nifti_of_files_without_a_geometry(runs, capsys):
    sitk = pytest.importorskip("SimpleITK", reason="the test reads the files that it is about")
    pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")
    run = runs / "seed_1"
    assert main(["--output_dir", str(runs), "--save_nifti"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--save_nifti")]
    assert len(said) == 1 and "4 of 4 files state no geometry of a scan" in said[0]
    paths = sorted((run / "test_last" / "predictions").iterdir())
    for path in paths:
        with h5py.File(path) as file:
            expected = file["prediction"][()]
        written = sitk.ReadImage(str(run / "test_last" / "nifti" / f"{path.stem}.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(written), expected) and written.GetSpacing() == (1, 1, 1)
    assert '"Myo"' in (run / "test_last" / "nifti" / ITK_SNAP).read_text()


def test_the_other_95hd_is_recorded_and_named(runs, phantoms, capsys):
    run = runs / "seed_1"
    assert main(["--output_dir", str(run)]) == 0
    pooled = per_case(run / "test_best")
    assert main(["--output_dir", str(run), "--hd95", "max"]) == 0
    assert "95HD max (voxel)" in capsys.readouterr().out
    summary = json.loads((run / "test_best/summary.json").read_text())
    assert summary["hd95"] == "max"
    pairs = [(a["hd95"], b["hd95"]) for a, b in zip(pooled, per_case(run / "test_best")) if a["hd95"]]
    assert all(float(b) >= float(a) for a, b in pairs) and any(float(b) > float(a) for a, b in pairs)


def test_weights_of_another_dataset_are_refused(runs, phantoms, capsys):
    root = phantoms("Synapse", shape=(6, 32, 48)) / "Synapse"
    with pytest.raises(SystemExit) as stop:
        main(["--name", "Synapse", "--output_dir", str(runs / "seed_1"), "--root_path", str(root)])
    assert stop.value.code == 2 and "weights of ACDC, not of Synapse" in capsys.readouterr().err


def test_pictures_and_page(runs, capsys):
    run = runs / "seed_1"
    assert main(["--output_dir", str(run), "--figures"]) == 0
    assert f"page: {run / 'report.html'}" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    pictures = page.count("data:image/jpeg;base64,")
    assert pictures == 3 * 4 * page.count("best, median and worst case") and page.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "<script" not in page and "<table>" in page
    assert "RV %" in page and "2 labelled cases, 30 iterations" in page and "&quot;labelnum&quot;" in page
    assert re.search(r'alt="patient\d+_frame\d+, slice \d+ of \d+ along Z, errors: [\d,]+ pixels missed', page)
    assert len(list((run / "test_best/figures").glob("*.png"))) == 3
    assert (run / "figures/validation_dice.png").stat().st_size > 10_000
    before = page
    assert plot_run_script.main([str(run)]) == 0
    assert len((run / "report.html").read_text()) == pytest.approx(len(before), rel=0.01)


def without_pictures(monkeypatch, *missing):
    """As on a machine without these packages."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("figures", "report_page"):
        monkeypatch.delitem(sys.modules, f"utils.reports.{name}", raising=False)
        monkeypatch.delattr(f"utils.reports.{name}", raising=False)


def test_without_libraries_for_pictures_all_else_runs(phantoms, tmp_path, monkeypatch, capsys):
    home = phantoms("ACDC")
    monkeypatch.setenv("DATASET_HOME", str(home))
    without_pictures(monkeypatch, "torchvision", "torchvision.utils", "matplotlib", "matplotlib.figure")
    short = ["--max_iterations", "4", "--val_interval", "2", "--output_dir", str(tmp_path)]
    assert train_Ours_MT.main([*TRAIN, *short]) == 0
    assert main(["--output_dir", str(tmp_path)]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        plot_run_script.main([str(tmp_path / "ACDC" / "Ours_MT_2cases" / "seed_1337")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "pictures need matplotlib and torchvision" in error and error.count("\n") == 1


@pytest.mark.parametrize("missing", ["matplotlib", "torchvision"])
@pytest.mark.parametrize(
    "script, flags", [(test_2d, ["--figures"]), (test_3d, ["--name", "LA", "--figures"]), (reproduce, ["spc-acdc"])]
)
def test_missing_libraries_for_pictures_are_named_before_the_work(
    script, flags, missing, monkeypatch, tmp_path, capsys
):
    without_pictures(monkeypatch, missing, f"{missing}.figure", f"{missing}.utils")
    with pytest.raises(SystemExit) as stop:
        script.main([*flags, "--output_dir", str(tmp_path)])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and list(tmp_path.iterdir()) == []
    assert "pictures need matplotlib and torchvision" in said.err and said.err.count("\n") == 1


def test_picture_of_a_run_that_was_not_tested_and_of_none(runs, tmp_path, capsys):
    assert plot_run_script.main([str(runs / "seed_2")]) == 0
    page = (runs / "seed_2/report.html").read_text()
    assert page.count("<svg") == 3 and "data:image" not in page
    capsys.readouterr()
    assert plot_run_script.main([str(runs), str(runs / "seed_2")]) == 0  # a method's folder, and one of its runs again
    assert capsys.readouterr().out.count("page: ") == 2
    test = runs / "seed_1" / "test_best"  # a damaged test
    test.mkdir()
    (test / "summary.json").write_text("{")
    assert plot_run_script.main([str(runs)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("page: ") == 1 and f"{test / 'summary.json'}: not a test's result" in captured.err
    assert plot_run_script.main([str(runs / "seed_1")]) == 2


def test_shell_script_tests_what_it_finds(runs, root, tmp_path):
    env = {**os.environ, "PYTHON": sys.executable, "RUNS": str(runs.parent.parent)}
    result = subprocess.run(["bash", "test_ACDC.sh"], cwd=root, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Ours_MT_2cases last, mean ± std over 2 runs" in result.stdout
    env["RUNS"] = str(tmp_path / "nothing")
    result = subprocess.run(["bash", "test_ACDC.sh"], cwd=root, env=env, capture_output=True, text=True)
    assert result.returncode == 2 and "no such folder; train first: python train_Ours_MT.py" in result.stderr
