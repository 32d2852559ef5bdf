"""train_DuCiSC.py and test_3d.py as programs: 3-D phantoms and 2-D ones, resume with thresholds, refusals, tables."""

import json
import shutil
from dataclasses import asdict

import h5py
import numpy as np
import pytest
import torch

import test_2d
import test_3d
from dataloaders.registry import PREPARATIONS
from dataloaders.training_data import load_training_data
from networks import net_factory
from train_DuCiSC import PRESETS, draw_fuse_weight, main, parse_args

SMALL = "--labeled_cases 2 --patch_size 16 16 16 --num_workers 0 --warmup_iterations 3 --val_stride 16 16".split()
SMALL += "--max_iterations 12 --val_start 4 --val_interval 4 --save_interval 5 --log_interval 2 --val_cases 1".split()
SHAPE = (28, 26, 20)


@pytest.fixture
def home(phantoms, monkeypatch):
    home = phantoms("LA", shape=SHAPE)
    monkeypatch.setenv("DATASET_HOME", str(home))
    return home


def folder(out, name="DuCiSC_2cases", dataset="LA"):
    return out / dataset / name / "seed_1337"


def weights(path):
    return torch.load(path, weights_only=True)


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole_run(phantoms, tmp_path_factory, start):
    out = tmp_path_factory.mktemp("whole")
    process = start("train_DuCiSC.py", phantoms("LA", shape=SHAPE), "--dataset_name", "LA", *SMALL, "--output_dir", out)
    assert process.wait(timeout=200) == 0, process.stderr.read()
    return out


def test_records_thresholds_and_the_rule_of_selection(whole_run):
    run = folder(whole_run)
    rows = rows_of(run)
    losses = [row for row in rows if "loss/total" in row]
    assert [row["iteration"] for row in losses] == [2, 4, 6, 8, 10, 12]
    assert {name for name in losses[0] if name.startswith("loss/")} == {"loss/total", "loss/supervised"}
    assert losses[0]["loss/total"] == pytest.approx(1.0)
    after = {name for name in losses[-1] if name.startswith("loss/")}
    names = ("supervised", "consistency", "fused", "proto_labelled_unlabelled", "proto_labelled_fused")
    assert after == {"loss/total", *(f"loss/{name}" for name in names)}
    assert losses[-1]["loss/total"] == pytest.approx(sum(losses[-1][f"loss/{name}"] for name in names), abs=1e-5)
    for scale in range(4):
        assert losses[0][f"monitor/threshold_scale{scale}_class0"] == 0.5  # frozen until the warm-up ends
        assert 0 <= losses[-1][f"monitor/certain_share_scale{scale}"] <= 1
    assert any(losses[-1][f"monitor/threshold_scale{s}_class{c}"] != 0.5 for s in range(4) for c in range(2))
    assert "monitor/weighted_sum" in losses[0] and "monitor/dice_teacher" in losses[0]
    assert [row["iteration"] for row in rows if "val/dice" in row] == [4, 8, 12]
    state = weights(run / "checkpoint.pth")
    assert state["thresholds"]["tau"].shape == (4, 2) and not torch.equal(
        state["thresholds"]["tau"], torch.full((4, 2), 0.5)
    )
    log = (run / "log.txt").read_text()
    assert "mean Dice on the TEST list test.list (2 volumes)" in log and "only its first 1" in log
    assert "labelled: 2 cases (--labeled_cases 2) (33.3%)" in log
    assert "warm-up takes the whole run" not in log


def test_weights_say_how_a_scan_is_prepared_and_cut(whole_run):
    dataset = weights(folder(whole_run) / "last.pth")["dataset"]
    assert dataset["stride"] == [18, 4] and dataset["preparation"] == asdict(PREPARATIONS["LA"])


def test_killed_and_resumed_equals_uninterrupted(whole_run, tmp_path, phantoms, start, kill_after, assert_same_state):
    command = ["train_DuCiSC.py", phantoms("LA", shape=SHAPE), *SMALL, "--output_dir", tmp_path]
    kill_after(start(*command), folder(tmp_path) / "checkpoint.pth")
    assert start(*command).wait(timeout=200) == 0
    for name in ("checkpoint.pth", "best.pth", "last.pth"):
        assert_same_state(weights(folder(whole_run) / name), weights(folder(tmp_path) / name))


@pytest.mark.parametrize(
    "preset", [name for name in PRESETS if name not in ("num-proto-2", "num-proto-3", "num-proto-4")]
)
def test_presets(home, tmp_path, preset):
    flags = [
        *SMALL,
        "--output_dir",
        str(tmp_path),
        "--preset",
        preset,
        "--max_iterations",
        "2",
        "--warmup_iterations",
        "0",
    ]
    assert main([*flags, "--log_interval", "1"]) == 0
    row = rows_of(folder(tmp_path, f"DuCiSC_2cases_{preset}"))[-1]
    summed = {name.split("/")[1] for name in row if name.startswith("loss/")} - {"total"}
    off = {
        "supervised": {"consistency", "fused", "proto_labelled_unlabelled", "proto_labelled_fused"},
        "no-consistency": {"consistency"},
        "no-fusion": {"fused"},
        "no-proto": {"proto_labelled_unlabelled", "proto_labelled_fused"},
        "no-fused-proto": {"proto_labelled_fused"},
    }.get(preset, set())
    everything = {"supervised", "consistency", "fused", "proto_labelled_unlabelled", "proto_labelled_fused"}
    assert summed == everything - off
    if preset == "fixed-threshold":
        assert row["monitor/threshold_scale0_class1"] == 0.5


@pytest.mark.parametrize("name", ["Pancreas", "IAN"])
def test_other_3d_datasets_and_holdout(tmp_path, own_phantom, monkeypatch, capsys, name):
    root = own_phantom(name, train=5, test=1, shape=(20, 14, 24))  # an axis shorter than the patch
    monkeypatch.setenv("DATASET_HOME", str(root.parent))
    flags = [*SMALL, "--name", name, "--output_dir", str(tmp_path), "--max_iterations", "4"]
    assert main([*flags, "--protocol", "holdout", "--holdout_cases", "2"]) == 0
    out = capsys.readouterr().out
    assert "held out of training" in out and "training list: train.list, 3 cases" in out
    assert folder(tmp_path, dataset=name).exists()


def test_folder_spellings(own_phantom):
    root = own_phantom("LA", train=3, test=1, shape=(20, 20, 18))
    args = parse_args(["--name", "LA", "--root_path", str(root), "--labeled_cases", "1"])
    for spelling in ("2018LA_Seg_TrainingSet", "Training Set"):
        next(path for path in root.iterdir() if path.is_dir()).rename(root / spelling)
        data = load_training_data(args)
        assert len(data.train) == 3 and data.patch_size == (112, 112, 80)


def test_everything_labelled_and_unlabelled_without_label(own_phantom, tmp_path, monkeypatch):
    root = own_phantom("LA", train=3, test=1, shape=(20, 20, 18))
    monkeypatch.setenv("DATASET_HOME", str(root.parent))
    names = (root / "train.list").read_text().split()
    with h5py.File(root / "2018LA_Seg_Training Set" / names[2] / "mri_norm2.h5", "a") as file:
        del file["label"]
    flags = [*SMALL, "--output_dir", str(tmp_path), "--max_iterations", "2", "--log_interval", "1"]
    assert main([*flags, "--labeled_cases", "2"]) == 0
    row = rows_of(folder(tmp_path))[-1]
    assert np.isnan(row["monitor/dice_teacher"])  # no labels to compare with
    assert (
        "WARNING: the supervised warm-up takes the whole run: --warmup_iterations 3"
        in (folder(tmp_path) / "log.txt").read_text()
    )
    (root / "train.list").write_text("\n".join(names[:2]))
    assert main([*flags, "--labeled_cases", "2", "--exp", "all"]) == 0
    assert "loss/consistency" not in rows_of(folder(tmp_path, "DuCiSC_2cases_all"))[-1]


def test_defaults_are_the_papers():
    args = parse_args(["--name", "LA"])
    assert (args.batch_size, args.labeled_bs, args.max_iterations, args.warmup_iterations) == (4, 2, 15000, 2000)
    assert (args.consistency, args.fused_weight, args.proto_weight, args.fused_proto_weight) == (0.3, 0.1, 0.1, 0.1)
    assert (args.num_proto, args.ema_decay, args.val_start, args.val_interval, args.base_lr) == (
        4,
        0.99,
        800,
        200,
        0.01,
    )
    args = parse_args(["--name", "ACDC"])
    assert (args.batch_size, args.labeled_bs, args.max_iterations, args.val_start) == (24, 12, 30000, 200)
    draws = draw_fuse_weight(np.random.default_rng(0), 4000)
    assert 0.25 <= draws.min() < 0.26 and 0.74 < draws.max() <= 0.75


def refused(capsys, function, *flags):
    with pytest.raises(SystemExit) as stop:
        function(list(flags))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_refusals(home, own_phantom, tmp_path, capsys):
    flags = [*SMALL, "--output_dir", str(tmp_path / "runs")]
    assert "--patch_size 24 16 16: each must be divisible by 16" in refused(
        capsys, main, *flags, "--patch_size", "24", "16", "16"
    )
    assert "--patch_size 32 32: LA needs 3 numbers" in refused(capsys, main, *flags, "--patch_size", "32", "32")
    root = own_phantom("LA", train=3, test=1, shape=(20, 20, 18))
    names = (root / "train.list").read_text().split()
    path = root / "2018LA_Seg_Training Set" / names[1] / "mri_norm2.h5"
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = np.zeros((20, 20)), np.zeros((20, 20))
    error = refused(capsys, main, *flags, "--root_path", str(root))
    assert f"{path}: expected a volume with three axes, got an image of shape (20, 20); check the list" in error
    (root / "train.list").write_text("\n".join(reversed(names[:2])))
    assert "lists slices" in refused(capsys, main, *flags, "--root_path", str(root), "--labeled_cases", "1")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "empty").mkdir()
    error = refused(capsys, test_3d.main, "--name", "LA", "--output_dir", str(tmp_path / "empty"))
    assert "looked for best.pth and last.pth in it and below, and *.pth in it" in error
    assert "python train_DuCiSC.py --name LA --labelnum 8" in error


def test_test_3d_table_files_and_page(whole_run, home, tmp_path, capsys):
    runs = shutil.copytree(whole_run, tmp_path / "runs")
    flags = ["--name", "LA", "--output_dir", str(runs), "--stride", "8", "8"]
    assert test_3d.main([*flags, "--figures"]) == 0
    out = capsys.readouterr().out
    assert "windows with stride 8 8 8" in out and "TEST list" in out
    assert "DuCiSC_2cases seed_1337 best" in out and "DuCiSC_2cases seed_1337 last" in out
    page = (folder(runs) / "report.html").read_text()
    pictures = page.count("data:image/jpeg;base64,")
    assert pictures == 2 * 3 * 4 * page.count("best, median and worst case")  # cases, axes, tiles
    assert "along X" in page and "along Z" in page and page.count("<svg") == 3
    summary = json.loads((folder(runs) / "test_best/summary.json").read_text())
    assert summary["cases"] == 2 and summary["metrics"]["hd95"] and not summary["nms"]
    assert test_3d.main([*flags, "--nms"]) == 0
    assert "largest object of each class (--nms)" in capsys.readouterr().out


def test_bare_weights_of_the_release(home, tmp_path, capsys):
    torch.save(net_factory("ducisc", 1, 2).state_dict(), tmp_path / "DuCiSC_best_model.pth")
    flags = ["--name", "LA", "--output_dir", str(tmp_path), "--patch_size", "16", "16", "16", "--stride", "16", "16"]
    assert test_3d.main(flags) == 0
    assert (tmp_path / "test_DuCiSC_best_model" / "per_case.csv").exists()
    torch.save(net_factory("unet", 1, 2).state_dict(), tmp_path / "DuCiSC_best_model.pth")
    assert "weights of a 2-D network, LA is 3-D" in refused(capsys, test_3d.main, *flags)


def test_published_and_neighbours_rows(whole_run, home, tmp_path, capsys):
    runs = shutil.copytree(whole_run, tmp_path / "runs")
    config = json.loads((folder(runs) / "config.json").read_text())
    config["flags"].update(labeled_cases=None, labelnum=8)
    (folder(runs) / "config.json").write_text(json.dumps(config))
    folder(runs).parent.rename(runs / "LA" / "DuCiSC_8")
    assert test_3d.main(["--name", "LA", "--output_dir", str(runs), "--stride", "16", "16"]) == 0
    out = capsys.readouterr().out
    assert (
        "no published value for DuCiSC_8" in out
        and "published: UA-MT, 8" in out
        and "84.25" in out
        and "published: MC-Net+, 8" in out
    )


@pytest.mark.parametrize(
    "extra, network, words",
    [
        ("", "unet_ds", "the release's compiled network (unet_ds), prototypes from encoder features"),
        ("--proto_features decoder", "unet_ds", "prototypes from decoder features"),
        ("--net ducisc", "ducisc", "not the release's 2-D network"),
    ],
)
def test_two_dimensions(phantoms, tmp_path, monkeypatch, capsys, extra, network, words):
    """Multi-class ACDC: the same script and objective, on the release's 2-D network or on the V-Net."""
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    flags = "--name ACDC --labeled_cases 2 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --num_workers 0".split()
    flags += "--warmup_iterations 1 --max_iterations 4 --val_interval 2 --val_start 2 --log_interval 1".split()
    assert main([*flags, *extra.split(), "--output_dir", str(tmp_path)]) == 0
    run = folder(tmp_path, dataset="ACDC")
    rows = [row for row in rows_of(run) if "loss/total" in row]
    assert {f"monitor/threshold_scale{s}_class{c}" for s in range(4) for c in range(4)} <= set(rows[-1])
    assert rows[0]["monitor/threshold_scale0_class0"] == 0.25
    assert "loss/proto_labelled_fused" in rows[-1]
    assert weights(run / "best.pth")["dataset"]["dims"] == 2
    assert test_2d.main(["--name", "ACDC", "--output_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "DuCiSC_2cases seed_1337 best" in out and "our reading" in out
    assert weights(run / "best.pth")["network"] == network and words in out
    assert main([*flags, *extra.split(), "--output_dir", str(tmp_path)]) == 0  # nothing to do
    other = "" if network == "ducisc" else "--net ducisc"
    with pytest.raises(SystemExit):
        main([*flags, *other.split(), "--output_dir", str(tmp_path)])
    assert "--net" in capsys.readouterr().err


def test_a_2d_run_from_before_net_is_resumed_on_its_network_only(phantoms, tmp_path, monkeypatch, capsys):
    """Such a run's config.json names its network, the V-Net, but no --net."""
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    flags = "--name ACDC --labeled_cases 2 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --num_workers 0".split()
    flags += ["--max_iterations", "1", "--output_dir", str(tmp_path)]
    assert main([*flags, "--net", "ducisc"]) == 0
    path = folder(tmp_path, dataset="ACDC") / "config.json"
    config = json.loads(path.read_text())
    for flag in ("net", "proto_features"):
        del config["flags"][flag]
    path.write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        main(flags)
    assert "this run was made with --net = ducisc, now it is unet_ds" in capsys.readouterr().err
    assert main([*flags, "--net", "ducisc"]) == 0


def test_two_dimensions_with_nine_classes(phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("DATASET_HOME", str(phantoms("Synapse", shape=(6, 32, 48))))
    flags = "--name Synapse --labelnum 10 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --num_workers 0".split()
    flags += ["--warmup_iterations", "0", "--max_iterations", "2", "--log_interval", "1", "--output_dir", str(tmp_path)]
    assert main(flags) == 0
    row = rows_of(folder(tmp_path, "DuCiSC_10", "Synapse"))[-1]
    assert np.isfinite(row["loss/total"]) and "monitor/threshold_scale3_class8" in row
