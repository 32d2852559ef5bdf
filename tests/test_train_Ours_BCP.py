"""train_Ours_BCP.py as a program: two stages in two folders, resume across the boundary, Synapse in both layouts."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import test_2d
import train_Ours_MT
from train_Ours_BCP import PRESETS, main, parse_args
from utils.runs.stopping import STOP

SMALL = (
    "--labeled_cases 2 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --consistency_rampup 1 --num_workers 0".split()
)
SMALL += "--pretrain_iterations 12 --max_iterations 12 --val_interval 4 --save_interval 5 --log_interval 4".split()


@pytest.fixture
def home(phantoms, monkeypatch):
    home = phantoms("ACDC")
    monkeypatch.setenv("DATASET_HOME", str(home))
    return home


def train(tmp_path, *flags):
    assert main([*SMALL, "--output_dir", str(tmp_path), *flags]) == 0


def folder(tmp_path, name="Ours_BCP_2cases", dataset="ACDC"):
    return tmp_path / dataset / name / "seed_1337"


def weights(path):
    return torch.load(path, weights_only=True)


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole_run(phantoms, tmp_path_factory, start):
    out = tmp_path_factory.mktemp("whole")
    process = start("train_Ours_BCP.py", phantoms("ACDC"), *SMALL, "--output_dir", out)
    assert process.wait(timeout=120) == 0, process.stderr.read()
    return out


def test_each_stage_has_its_own_folder_and_records(whole_run):
    for stage, terms in (("pretrain", {"loss/supervised"}), ("self", {"loss/mix", "loss/contrast"})):
        run = folder(whole_run) / stage
        names = {path.name for path in run.iterdir()}
        assert {"config.json", "log.txt", "metrics.jsonl", "checkpoint.pth", "best.pth", "last.pth"} <= names
        rows = rows_of(run)
        assert max(row["iteration"] for row in rows) == 12
        logged = {name for row in rows for name in row if name.startswith("loss/")}
        assert logged == {"loss/total", *terms}
        for row in rows:
            if "loss/total" in row:
                assert row["loss/total"] == pytest.approx(sum(row[name] for name in terms), abs=1e-5)
    assert rows_of(folder(whole_run) / "self")[0]["monitor/ramp"] == pytest.approx(np.exp(-5))  # begins again at 0


def test_self_training_starts_from_the_best_weights_with_the_optimisers_state(
    whole_run, tmp_path, phantoms, assert_same_state
):
    log = (folder(whole_run) / "self" / "log.txt").read_text()
    assert "pretrain/best.pth: loaded 152 of 152 parameters, with the optimiser's state" in log
    best = weights(folder(whole_run) / "pretrain" / "best.pth")
    dice = [row["val/dice"] for row in rows_of(folder(whole_run) / "pretrain") if "val/dice" in row]
    assert best["val_dice"] == max(dice) and best["opt"]["state"]
    assert not any("opt" in weights(folder(whole_run) / "self" / name) for name in ("best.pth", "last.pth"))
    state = weights(folder(whole_run) / "self" / "checkpoint.pth")
    key = "decoder.out_conv.weight"
    assert not torch.equal(state["student"][key], state["teacher"][key])
    assert state["memory_w"]["pointer"].item() == 12


@pytest.mark.parametrize("moment", ["pretrain/checkpoint.pth", "self/config.json", "self/checkpoint.pth"])
def test_killed_at_any_point_and_resumed_equals_uninterrupted(
    whole_run, tmp_path, phantoms, start, kill_after, assert_same_state, moment
):
    command = ["train_Ours_BCP.py", phantoms("ACDC"), *SMALL, "--output_dir", tmp_path]
    kill_after(start(*command), folder(tmp_path) / moment)
    assert start(*command).wait(timeout=120) == 0
    for stage in ("pretrain", "self"):
        whole, run = folder(whole_run) / stage, folder(tmp_path) / stage
        for name in ("checkpoint.pth", "best.pth", "last.pth"):
            assert_same_state(weights(whole / name), weights(run / name))


def test_stages_one_by_one_equal_both_at_once(whole_run, phantoms, tmp_path, start, assert_same_state):
    for stage in ("pretrain", "self"):
        assert not (folder(tmp_path) / "self").exists()
        command = ["train_Ours_BCP.py", phantoms("ACDC"), *SMALL, "--output_dir", tmp_path, "--stage", stage]
        assert start(*command).wait(timeout=120) == 0
    name = "self/checkpoint.pth"
    assert_same_state(weights(folder(whole_run) / name), weights(folder(tmp_path) / name))


def test_the_time_limit_spans_both_stages(home, tmp_path, capsys, monkeypatch):
    flags = [*SMALL, "--output_dir", str(tmp_path), "--pretrain_iterations", "2", "--max_iterations", "2"]
    monkeypatch.setattr(STOP, "reset", lambda: None)  # the second stage's clock is the first one's
    for stage in ("pretrain", "self"):
        STOP.signalled, STOP.started = False, time.monotonic() - 60
        assert main([*flags, "--time_limit", "1"]) == 3  # the call that ends pre-training begins self-training
        assert "time limit reached at iteration 1;" in (folder(tmp_path) / stage / "log.txt").read_text()
    assert main([*flags, "--time_limit", "1"]) == 0 and "finished: 2 iterations" in capsys.readouterr().out


def test_self_training_without_its_start_and_from_elsewhere(whole_run, home, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(tmp_path), "--stage", "self"])
    assert (
        stop.value.code == 2
        and "run --stage pretrain first, or give a weights file with --pretrained" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(tmp_path), "--pretrained", "nowhere.pth"])
    assert stop.value.code == 2 and "--pretrained nowhere.pth: no such file" in capsys.readouterr().err
    assert not folder(tmp_path).exists()
    # weights of the family's plain U-Net: no head, no optimiser
    best = weights(folder(whole_run) / "pretrain" / "best.pth")["net"]
    plain = {f"module.{name}": value for name, value in best.items() if not name.startswith("proj_head")}
    torch.save(plain, tmp_path / "plain.pth")
    train(tmp_path, "--pretrained", str(tmp_path / "plain.pth"), "--max_iterations", "1")
    out = capsys.readouterr().out
    assert "loaded 136 of 152 parameters; left as initialised: proj_head.0.weight" in out
    assert not (folder(tmp_path) / "pretrain").exists()


@pytest.mark.parametrize("preset", [name for name in PRESETS if not name.startswith("memory-")])
def test_presets(home, tmp_path, preset):
    train(tmp_path, "--preset", preset, "--pretrain_iterations", "1", "--max_iterations", "1")
    run = folder(tmp_path, f"Ours_BCP_2cases_{preset}")
    assert (run / "self").exists() == (preset != "supervised")
    row = rows_of(run / ("pretrain" if preset == "supervised" else "self"))[-1]
    summed = {name for name in row if name.startswith("loss/")} - {"loss/total"}
    with_contrast = preset not in ("supervised", "baseline", "no-contrast")
    expected = {"supervised": {"loss/supervised"}}.get(
        preset, {"loss/mix"} | ({"loss/contrast"} if with_contrast else set())
    )
    assert summed == expected
    if preset in ("weak-to-strong", "strong-to-weak"):
        assert row["monitor/contrast"] == row[f"monitor/{preset}"]


def test_everything_labelled(home, tmp_path):
    train(tmp_path, "--labeled_cases", "6", "--pretrain_iterations", "1", "--max_iterations", "1")
    row = rows_of(folder(tmp_path, "Ours_BCP_6cases") / "self")[-1]
    assert {name for name in row if name.startswith("loss/")} == {"loss/total", "loss/supervised"}


def test_batches_that_cannot_be_paired_are_refused(home, tmp_path, capsys):
    for flags in (["--batch_size", "6", "--labeled_bs", "2"], ["--batch_size", "6", "--labeled_bs", "3"]):
        with pytest.raises(SystemExit) as stop:
            main([*SMALL, "--output_dir", str(tmp_path / "runs"), *flags])
        assert stop.value.code == 2
        assert "copy-paste pairs quarters of the batch" in capsys.readouterr().err


def test_a_network_without_a_head_is_refused_before_pre_training(home, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(tmp_path), "--net", "unet"])
    assert stop.value.code == 2 and "--net unet: no proj_head in this network" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_configuration_is_refused_by_name(whole_run, home, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(whole_run), "--u_weight", "0.5"])
    assert stop.value.code == 2 and "made with --u_weight = 0.1, now it is 0.5" in capsys.readouterr().err


def test_defaults_are_the_papers():
    args = parse_args([])
    assert (args.pretrain_iterations, args.max_iterations, args.batch_size, args.labeled_bs) == (10000, 30000, 24, 12)
    assert (args.u_weight, args.contrast_weight, args.ema_decay, args.memory_size) == (0.1, 1.0, 0.99, 128)


@pytest.mark.parametrize("layout", ["h5", "transunet"])
@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_synapse_in_both_layouts_with_nine_classes(tmp_path, own_phantom, monkeypatch, capsys, layout, protocol):
    """Both methods train and are tested: all nine classes in loss, memory, pseudo labels and table."""
    root = own_phantom("Synapse", train=4, test=2, shape=(12, 96, 96), layout=layout)
    monkeypatch.setenv("DATASET_HOME", str(root.parent))
    flags = "--name Synapse --labelnum 10 --patch_size 64 64 --batch_size 4 --labeled_bs 2 --num_workers 0".split()
    flags += [
        "--max_iterations",
        "2",
        "--val_interval",
        "2",
        "--log_interval",
        "1",
        "--output_dir",
        str(tmp_path / "runs"),
    ]
    flags += ["--protocol", protocol, *(["--holdout_cases", "1"] if protocol == "holdout" else [])]
    assert train_Ours_MT.main(flags) == 0
    assert main([*flags, "--pretrain_iterations", "2"]) == 0
    out = capsys.readouterr().out
    rule = "on the TEST list" if protocol == "paper" else "held out of training: case0033"
    assert out.count(f"selection of the best weights: mean Dice on {rule}"[:44]) == 3 and rule in out
    assert "labelled: 2 cases (protocol 10 per cent), 24 slices" in out and "case0030" in out and "case0023" in out
    runs = tmp_path / "runs" / "Synapse"
    for run in (runs / "Ours_MT_10" / "seed_1337", runs / "Ours_BCP_10" / "seed_1337" / "self"):
        state = weights(run / "checkpoint.pth")
        assert state["memory_w"]["features"].shape == (9, 128, 16)
        assert state["student"]["decoder.out_conv.bias"].shape == (9,)
        organs = "Aorta GB KL KR Liver PC SP SM".split()
        assert [name for name in rows_of(run)[-1] if name.startswith("val/dice/")] == [f"val/dice/{o}" for o in organs]
    assert test_2d.main(["--name", "Synapse", "--output_dir", str(runs), "--columns", "dice", "asd"]) == 0
    table = capsys.readouterr().out
    header = [line for line in table.splitlines() if "DSC %" in line][0].split()
    assert header == "DSC % ASD (voxel) Aorta % GB % KL % KR % Liver % PC % SP % SM % empty".split()
    assert "published: SPC (MT), 10 %" in table and "published: SPC (BCP), 10 %" in table and rule in table


def test_synapse_slices_cover_all_classes(phantoms, monkeypatch):
    from dataloaders.training_data import load_training_data

    monkeypatch.setenv("DATASET_HOME", str(phantoms("Synapse", shape=(6, 32, 48))))
    data = load_training_data(parse_args(["--name", "Synapse", "--labelnum", "10"]))
    assert set(
        np.unique(
            np.concatenate(
                [data.train.labels[data.train.starts[i] : data.train.starts[i + 1]].numpy() for i in data.labelled]
            )
        )
    ) == set(range(9))


def test_faulty_npz_is_refused(own_phantom, tmp_path, monkeypatch, capsys):
    root = own_phantom("Synapse", train=2, test=1, shape=(4, 32, 32), layout="transunet")
    monkeypatch.setenv("DATASET_HOME", str(root.parent))
    path = root / "train_npz" / "case0030_slice001.npz"
    good = path.read_bytes()

    def refused():
        with pytest.raises(SystemExit) as stop:
            main(
                [
                    "--name",
                    "Synapse",
                    "--labelnum",
                    "5",
                    "--patch_size",
                    "32",
                    "32",
                    "--output_dir",
                    str(tmp_path / "runs"),
                ]
            )
        assert stop.value.code == 2 and not (tmp_path / "runs").exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    np.savez(path, image=np.array([{"code": 1}], dtype=object), label=np.zeros((32, 32)))
    assert "case0030_slice001.npz: not a readable npz file" in refused()
    np.savez(path, image=np.zeros((32, 32)))
    assert "no 'label' in this file, but case case0030 is to be labelled" in refused()
    np.savez(path, picture=np.zeros((32, 32)))
    assert "no 'image' in this file" in refused()
    path.write_bytes(good[: len(good) // 2])
    assert "not a readable npz file" in refused()
    path.write_bytes(good)
    text = (root / "lists_Synapse/train.txt").read_text()
    (root / "lists_Synapse/train.txt").write_text("\n".join(e for e in text.split() if "case0030" not in e))
    assert "the training list lacks the labelled cases case0030" in refused()


def test_shell_script_for_synapse(root, tmp_path):
    env = {**os.environ, "PYTHON": sys.executable, "RUNS": str(tmp_path)}
    result = subprocess.run(["bash", "test_Synapse.sh"], cwd=root, env=env, capture_output=True, text=True)
    assert (
        result.returncode == 2 and "train first: python train_Ours_MT.py --name Synapse --labelnum 5" in result.stderr
    )
