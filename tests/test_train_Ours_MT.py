"""train_Ours_MT.py as a program: the run's folder, resume, refusals. Small phantoms, few iterations."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import test_2d
from train_Ours_MT import main, parse_args
from utils.runs.stopping import SIGNALS
from utils.training.loop import NonFiniteLoss, Trainer

SMALL = (
    "--labeled_cases 2 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --consistency_rampup 1 --num_workers 0".split()
)
SHORT = "--max_iterations 8 --val_interval 4 --save_interval 3 --log_interval 2".split()
SMALL += "--max_iterations 24 --val_interval 8 --save_interval 5 --log_interval 4".split()


@pytest.fixture
def home(phantoms, monkeypatch):
    home = phantoms("ACDC")
    monkeypatch.setenv("DATASET_HOME", str(home))
    return home


def train(tmp_path, *flags):
    assert main([*SMALL, "--output_dir", str(tmp_path), *flags]) == 0


def folder(tmp_path, name="Ours_MT_2cases"):
    return tmp_path / "ACDC" / name / "seed_1337"


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def whole_run(phantoms, tmp_path_factory, start):
    """An uninterrupted run, made once as a subprocess."""
    out = tmp_path_factory.mktemp("whole")
    result = start("train_Ours_MT.py", phantoms("ACDC"), *SMALL, "--output_dir", out)
    assert result.wait(timeout=120) == 0, result.stderr.read()
    return out, result.stdout.read()


def test_the_folder_is_the_contract(whole_run):
    out, stdout = whole_run
    run = folder(out)
    names = {path.name for path in run.iterdir() if not path.name.startswith("events.")}
    assert names == {
        "config.json",
        "log.txt",
        "metrics.jsonl",
        "checkpoint.pth",
        "checkpoint_prev.pth",
        "best.pth",
        "last.pth",
    }
    assert stdout == (run / "log.txt").read_text()
    assert "labelled: 2 cases (--labeled_cases 2), 40 slices (33.3%): patient001, patient002" in stdout
    assert "terms: loss/total, loss/supervised" in stdout and "finished: 24 iterations, best validation Dice" in stdout
    size = sum(path.stat().st_size for path in run.iterdir())
    assert stdout.endswith(f"weights in {run} ({size / 1e6:.1f} MB)\n")
    config = json.loads((run / "config.json").read_text())
    assert config["flags"]["batch_size"] == 4 and config["dataset"]["classes"] == ["RV", "Myo", "LV"]
    assert config["parameters"] == 1_814_596 and set(config["lists"]) == {"train", "selection"}
    assert config["versions"]["torch"] == torch.__version__ and config["commit"]


def test_records_agree_with_each_other_and_with_the_best_weights(whole_run):
    run = folder(whole_run[0])
    rows = rows_of(run)
    assert [row["iteration"] for row in rows if "loss/total" in row] == [4, 8, 12, 16, 20, 24]
    validations = {row["iteration"]: row["val/dice"] for row in rows if "val/dice" in row}
    assert list(validations) == [8, 16, 24]
    for row in rows:
        if "loss/total" in row:
            parts = sum(value for name, value in row.items() if name.startswith("loss/") and name != "loss/total")
            assert row["loss/total"] == pytest.approx(parts, abs=1e-5)
    best, last = weights(run / "best.pth"), weights(run / "last.pth")
    assert best["val_dice"] == max(validations.values()) == validations[best["iteration"]]
    assert last["iteration"] == 24 and last["dataset"]["name"] == "ACDC" and last["method"] == "Ours_MT"
    assert "opt" not in best and "opt" not in last
    events = EventAccumulator(str(run)).Reload()
    assert {"loss/total", "loss/contrast", "val/dice/Myo", "monitor/lr", "monitor/ramp"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Tags()["images"] == ["panel/image_labels_truth"]
    assert [event.value for event in events.Scalars("val/dice")] == pytest.approx(list(validations.values()))


def test_teacher_is_not_the_student(whole_run):
    state = weights(folder(whole_run[0]) / "checkpoint.pth")
    key = "decoder.out_conv.weight"
    assert not torch.equal(state["student"][key], state["teacher"][key])
    assert state["memory_w"]["pointer"].item() == 24


@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_and_resumed_equals_uninterrupted(
    whole_run, tmp_path, phantoms, workers, start, kill_after, assert_same_state
):
    """SIGKILL at some moment, then the same command: the same weights bit for bit, with and without workers."""
    run = folder(tmp_path)
    command = ["train_Ours_MT.py", phantoms("ACDC"), *SMALL, "--output_dir", tmp_path, "--num_workers", workers]
    kill_after(start(*command), run / "checkpoint.pth")
    assert start(*command).wait(timeout=120) == 0
    whole = folder(whole_run[0])
    assert_same_state(weights(whole / "checkpoint.pth"), weights(run / "checkpoint.pth"))
    for name in ("best.pth", "last.pth"):
        assert_same_state(weights(whole / name), weights(run / name))
    clocks = {"monitor/images_per_s", "monitor/iterations_per_s", "val/seconds"}
    records = [[{**row, **dict.fromkeys(clocks & row.keys())} for row in rows_of(path)] for path in (whole, run)]
    assert str(records[0]) == str(records[1])  # as text: NaN equals NaN


def test_signals_to_the_group_end_in_one_checkpoint_and_one_line(tmp_path, phantoms, start):
    """Workers ignore them; a second call meanwhile is refused; nothing is left behind, no process either."""
    run = folder(tmp_path)
    command = ["train_Ours_MT.py", phantoms("ACDC"), *SMALL, "--output_dir", tmp_path, "--num_workers", "2"]
    command += ["--val_interval", "100000"]  # last.pth would wait for a validation that a signal interrupts
    process = start(*command, "--max_iterations", "100000")
    deadline = time.time() + 120
    while not (run / "checkpoint.pth").exists() and time.time() < deadline:
        time.sleep(0.05)
    second = start(*command, "--max_iterations", "100000")
    assert second.wait(timeout=60) == 2 and f"{run}: in use by process {process.pid} on" in second.stderr.read()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.killpg(process.pid, number)
        time.sleep(0.02)
    out, error = process.communicate(timeout=60)
    done = weights(run / "checkpoint.pth")["iteration"]
    assert process.returncode == 130 and "Traceback" not in error and "error" not in error
    assert out.endswith(f"\ninterrupted at iteration {done}; rerun the same command to resume\n")
    assert done >= 5 and weights(run / "last.pth")["iteration"] == done
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.fixture
def signals():
    """signals(): the first and a second one to this process; signals.restore(): its handlers are as before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def send():
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            time.sleep(0.001)

    send.restore = lambda: [signal.signal(number, handler) for number, handler in before.items()]
    yield send
    send.restore()


MOMENTS = {
    "in a step": "utils.training.loop.Trainer._note",
    "in a validation": "utils.evaluation.evaluate.case_metrics",
    "in a save": "torch.save",
    "between two files": "os.replace",
}


@pytest.fixture(scope="module")
def short_run(phantoms, tmp_path_factory):
    """An uninterrupted run in this process, shorter."""
    out = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASET_HOME", str(phantoms("ACDC")))
        train(out, *SHORT)
    return folder(out)


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_at_any_point_and_resumed_equals_uninterrupted(
    short_run, home, tmp_path, capsys, monkeypatch, signals, assert_same_state, moment
):
    module, name = MOMENTS[moment].rsplit(".", 1)
    owner = importlib.import_module(module) if module in sys.modules else Trainer
    function, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(name)
        if len(calls) == 2:
            signals()
        return function(*args, **kwargs)

    run = folder(tmp_path)
    monkeypatch.setattr(owner, name, interrupted)
    for _ in range(2):
        calls.clear()
        assert main([*SMALL, *SHORT, "--output_dir", str(tmp_path)]) == 130
        done = weights(run / "checkpoint.pth")["iteration"]
        captured = capsys.readouterr()
        assert captured.out.endswith(f"\ninterrupted at iteration {done}; rerun the same command to resume\n")
        assert captured.err == ""
        signals.restore()
    monkeypatch.setattr(owner, name, function)
    train(tmp_path, *SHORT)
    for file in ("checkpoint.pth", "best.pth", "last.pth"):
        assert_same_state(weights(short_run / file), weights(run / file))
    assert [list(row) for row in rows_of(run)] == [list(row) for row in rows_of(short_run)]


def test_interrupted_while_data_is_read(home, tmp_path, monkeypatch, capsys, signals):
    monkeypatch.setattr("train_Ours_MT.load_training_data", lambda *args, **kwargs: signals())
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(tmp_path / "runs")])
    error = capsys.readouterr().err
    assert stop.value.code == 130 and error.startswith("interrupted") and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_killed_worker_and_a_bug_end_the_run_with_its_workers(root, tmp_path, phantoms):
    """The other worker may wait for a lock for ever, and ignores what Python would end it with."""
    code = f"""
import multiprocessing, os, time
import train_Ours_MT

def kill(*args, **kwargs):
    os.kill(multiprocessing.active_children()[0].pid, 9)
    time.sleep(60)

def bug(*args, **kwargs):
    raise TypeError("a bug")

for name, objective in (("kill", kill), ("bug", bug)):
    train_Ours_MT.compute_losses = objective
    try:
        train_Ours_MT.main([*{SMALL}, "--output_dir", {str(tmp_path)!r}, "--num_workers", "2", "--exp", name])
    except SystemExit as stop:
        print(stop.code)
"""
    env = {**os.environ, "DATASET_HOME": str(phantoms("ACDC"))}
    result = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stderr.endswith("TypeError: a bug\n")
    assert "\n2\n" in result.stdout and "a process that loads data was killed" in result.stderr


def test_the_time_limit_saves_and_ends_with_its_own_code(short_run, home, tmp_path, capsys, assert_same_state):
    flags = [*SMALL, *SHORT, "--output_dir", str(tmp_path), "--time_limit"]
    for done in (1, 2):  # one iteration a call at least
        assert main([*flags, "0.0001"]) == 3
        line = f"time limit reached at iteration {done}; rerun the same command to resume\n"
        assert capsys.readouterr().out.endswith(line)
    assert main([*flags, "60"]) == 0
    for name in ("checkpoint.pth", "best.pth", "last.pth"):
        assert_same_state(weights(folder(tmp_path) / name), weights(short_run / name))


def test_progress_is_in_the_log_and_printed_where_no_bar_shows_it(home, tmp_path, capsys, monkeypatch):
    lines = []
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        train(tmp_path / str(terminal), "--max_iterations", "11", "--log_interval", "1")
        log = (folder(tmp_path / str(terminal)) / "log.txt").read_text().splitlines()
        (line,) = (line for line in log if line.startswith("iteration 10 of 11: loss "))
        lines.append(line in capsys.readouterr().out)
    assert lines == [True, False]


def test_a_run_of_older_code_is_resumed_tested_and_tabulated(short_run, home, tmp_path, capsys, assert_same_state):
    """It recorded no code and no new flags, and its weights files hold the optimiser's state."""
    train(tmp_path, *SHORT, "--max_iterations", "6")
    run = folder(tmp_path)
    config = json.loads((run / "config.json").read_text())
    del config["code_sha256"], config["flags"]["time_limit"], config["flags"]["accept_code_change"]
    (run / "config.json").write_text(json.dumps(config))
    state = weights(run / "checkpoint.pth")
    state["best"]["opt"] = state["optimizer"]
    torch.save(state, run / "checkpoint.pth")
    for name in ("best.pth", "last.pth"):
        torch.save({**weights(run / name), "opt": state["optimizer"]}, run / name)
    train(tmp_path, *SHORT)
    assert "note: this run was begun by a version that did not record its code" in capsys.readouterr().out
    assert "opt" not in weights(run / "last.pth")
    assert_same_state(weights(run / "last.pth"), weights(short_run / "last.pth"))
    assert test_2d.main(["--name", "ACDC", "--output_dir", str(run)]) == 0
    out = capsys.readouterr().out
    assert "resumed under other code; a small-size check" in out and "; weights of iteration: best at" in out


def test_longer_run_goes_on_and_a_finished_one_says_so(home, tmp_path, capsys, assert_same_state):
    train(tmp_path, "--max_iterations", "4")
    said = capsys.readouterr().out
    assert "WARNING: no validation in 4 iterations, the first would come at 8 (--val_interval 8)" in said
    assert "WARNING: the unlabelled terms reach only 0.7% of their weight" in said
    assert (
        "no validation was run: best.pth is a copy of the last weights" in said
        and "WARNING: no CUDA device is used" in said
    )
    assert_same_state(weights(folder(tmp_path) / "best.pth"), weights(folder(tmp_path) / "last.pth"))
    before = (folder(tmp_path) / "last.pth").read_bytes()
    (folder(tmp_path) / "best.pth").unlink()  # as a kill before it was written leaves it
    train(tmp_path, "--max_iterations", "4")
    assert "finished:" in capsys.readouterr().out and (folder(tmp_path) / "last.pth").read_bytes() == before
    assert_same_state(weights(folder(tmp_path) / "best.pth"), weights(folder(tmp_path) / "last.pth"))
    train(tmp_path, "--max_iterations", "8")
    assert "resuming at iteration 4" in capsys.readouterr().out
    assert weights(folder(tmp_path) / "last.pth")["iteration"] == 8


def test_damaged_checkpoint_is_named_and_the_one_before_used(home, tmp_path, capsys):
    train(tmp_path, "--max_iterations", "10")
    path = folder(tmp_path) / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:5000])
    train(tmp_path, "--max_iterations", "10")
    out = capsys.readouterr().out
    assert "checkpoint.pth: damaged" in out and "resuming at iteration 5" in out


def test_a_run_that_cannot_be_resumed_is_not_overwritten(home, tmp_path, capsys):
    """Its checkpoints were deleted, or all were damaged and set aside; only best.pth may come before the first one."""
    train(tmp_path, "--max_iterations", "10")
    run = folder(tmp_path)
    kept = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix == ".pth" or path.suffix == ".jsonl"}
    for damage in (b"", None):
        for name in ("checkpoint.pth", "checkpoint_prev.pth"):
            if damage is None:
                for path in run.glob(f"{name}*"):
                    path.unlink()
            else:
                (run / name).write_bytes(damage)
        for _ in range(2):
            with pytest.raises(SystemExit) as stop:
                train(tmp_path, "--max_iterations", "20")
            error = capsys.readouterr().err
            assert stop.value.code == 2 and "no intact checkpoint is left to resume this run" in error
        for name in ("best.pth", "last.pth", "metrics.jsonl"):
            assert (run / name).read_bytes() == kept[name]
    (run / "last.pth").unlink()
    train(tmp_path, "--max_iterations", "10")
    assert weights(run / "last.pth")["iteration"] == 10


def test_a_finished_run_gets_its_last_weights_back(home, tmp_path, capsys, assert_same_state):
    train(tmp_path, "--max_iterations", "4")
    last = folder(tmp_path) / "last.pth"
    before = weights(last)
    last.unlink()
    train(tmp_path, "--max_iterations", "4")
    assert "nothing to do" in capsys.readouterr().out
    assert_same_state(weights(last), before)


@pytest.mark.parametrize("preset", ["supervised", "baseline"])
def test_presets_run_and_name_their_folder(home, tmp_path, preset):
    train(tmp_path, "--preset", preset, "--max_iterations", "2", "--log_interval", "1")
    row = rows_of(folder(tmp_path, f"Ours_MT_2cases_{preset}"))[-1]
    summed = {name for name in row if name.startswith("loss/")} - {"loss/total"}
    assert summed == ({"loss/supervised"} if preset == "supervised" else {"loss/supervised", "loss/consistency"})
    assert "monitor/dice_student" in row and "monitor/dice_teacher" not in row


def test_everything_labelled(home, tmp_path):
    """Both halves of the batch are labelled, the unlabelled terms are off."""
    train(tmp_path, "--labeled_cases", "6", "--max_iterations", "2", "--log_interval", "1")
    row = rows_of(folder(tmp_path, "Ours_MT_6cases"))[-1]
    assert {name for name in row if name.startswith("loss/")} == {"loss/total", "loss/supervised"}


def test_resumed_equals_uninterrupted_in_mixed_precision_too(home, tmp_path, assert_same_state):
    """Dropout draws in another way there."""
    flags = ["--amp", "bf16", "--channels_last", "--log_interval", "1", "--max_iterations"]
    train(tmp_path / "whole", *flags, "6")
    train(tmp_path / "parts", *flags, "2")
    train(tmp_path / "parts", *flags, "6")
    whole, parts = (folder(tmp_path / name) for name in ("whole", "parts"))
    assert_same_state(weights(whole / "checkpoint.pth"), weights(parts / "checkpoint.pth"))
    losses = [[row["loss/total"] for row in rows_of(run)] for run in (whole, parts)]
    assert losses[0] == losses[1] and len(losses[0]) == 6 and np.isfinite(losses[0]).all()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(home, tmp_path, capsys):
    train(tmp_path, "--max_iterations", "5")
    kept = (folder(tmp_path) / "checkpoint.pth").read_bytes()
    state = weights(folder(tmp_path) / "checkpoint.pth")
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(tmp_path), "--exp", "diverge", "--base_lr", "1e30", "--max_iterations", "20"])
    assert stop.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "not finite at iteration" in error and "base_lr" in error
    assert not (folder(tmp_path, "Ours_MT_2cases_diverge") / "checkpoint.pth").exists()
    assert (folder(tmp_path) / "checkpoint.pth").read_bytes() == kept and state["iteration"] == 5
    assert issubclass(NonFiniteLoss, FloatingPointError)


def refusal(capsys, out, *flags):
    """The one line with which these flags are refused; nothing may be written."""
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--output_dir", str(out), *flags])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert len(lines) == 1 and captured.out == "", captured
    return lines[0]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--name", "MNMs"], "unknown dataset 'MNMs': choose one of ACDC, Synapse, LA, Pancreas, IAN, or prepare a "),
        (["--name", "LA"], "--name LA: a 3-D dataset; the scripts for it are train_DuCiSC.py, test_3d.py"),
        (["--labeled_bs", "4"], "--labeled_bs 4 must be less than --batch_size 4"),
        (["--patch_size", "40", "32"], "--patch_size 40 32: each must be divisible by 16"),
        (["--batch_size", "0"], "must be a whole number from 1 to 65,536, got '0'"),
        (["--preset", "nothing"], "invalid choice: 'nothing'"),
        (["--labeled_cases", "7"], "--labeled_cases 7 means 7 cases, the training list has 6"),
        (["--train_list", "nowhere.list"], "--train_list nowhere.list: no such file"),
        (["--amp", "fp16"], "--amp fp16 needs a CUDA device"),
        (["--labelnu", "5"], "unrecognized arguments: --labelnu 5"),
    ],
)  # fmt: skip
def test_refused_flags(home, tmp_path, capsys, flags, message):
    if "fp16" in flags and torch.cuda.is_available():
        pytest.skip("fp16 is fine on this machine: it has a CUDA device")
    assert message in refusal(capsys, tmp_path / "runs", *flags)
    assert not (tmp_path / "runs").exists()


def test_refused_number_names_the_possible_ones(home, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--labelnum", "7", "--output_dir", str(tmp_path / "runs")])
    assert stop.value.code == 2
    assert "ACDC has 1, 5, 10, 20, 30, 40, 50, 100 (per cent)" in capsys.readouterr().err


def test_gpu_without_cuda(home, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert "--gpu 0: PyTorch" in refusal(capsys, tmp_path / "runs", "--gpu", "0")


def test_missing_dataset_home(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DATASET_HOME", raising=False)
    assert "DATASET_HOME is not set" in refusal(capsys, tmp_path / "runs")


def test_faulty_data_is_refused_before_anything_is_written(own_phantom, tmp_path, monkeypatch, capsys):
    root = own_phantom("ACDC")
    monkeypatch.setenv("DATASET_HOME", str(root.parent))
    path = root / "data/slices/patient002_frame01_slice_2.h5"
    good = path.read_bytes()
    path.write_bytes(good[:3000])
    assert "patient002_frame01_slice_2.h5: not a readable h5 file" in refusal(capsys, tmp_path / "runs")
    path.write_bytes(good)
    with h5py.File(path, "a") as file:
        file["label"][0, 0] = 9
    assert "label 9 found, this dataset has the classes 0 to 3" in refusal(capsys, tmp_path / "runs")
    path.unlink()
    assert "1 of 60 entries have no file" in refusal(capsys, tmp_path / "runs")
    (root / "train_slices.list").write_text("")
    assert "train_slices.list: the list is empty" in refusal(capsys, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_another_configuration_is_refused_by_name(home, tmp_path, capsys):
    train(tmp_path, "--max_iterations", "4")
    before = {path: path.read_bytes() for path in folder(tmp_path).iterdir()}
    capsys.readouterr()
    assert "made with --memory_size = 128, now it is 8" in refusal(
        capsys, tmp_path, "--max_iterations", "4", "--memory_size", "8"
    )
    assert "--max_iterations 3 is less than this run's 4" in refusal(capsys, tmp_path, "--max_iterations", "3")
    short = tmp_path / "short.list"
    short.write_text("\n".join((home / "ACDC/val.list").read_text().split()[:2]))
    assert "made with --val_list = None" in refusal(capsys, tmp_path, "--max_iterations", "4", "--val_list", str(short))
    assert {path: path.read_bytes() for path in folder(tmp_path).iterdir()} == before


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"flags": []}'])
def test_a_config_that_is_none_is_one_line(home, tmp_path, capsys, text):
    train(tmp_path, "--max_iterations", "1")
    (folder(tmp_path) / "config.json").write_text(text)
    capsys.readouterr()
    assert "config.json: not a run's configuration" in refusal(capsys, tmp_path, "--max_iterations", "2")


def test_a_changed_list_is_refused(own_phantom, tmp_path, monkeypatch, capsys):
    root = own_phantom("ACDC")
    monkeypatch.setenv("DATASET_HOME", str(root.parent))
    train(tmp_path / "runs", "--max_iterations", "1")
    capsys.readouterr()
    path = root / "train_slices.list"
    path.write_text("\n".join(path.read_text().split()[:-1]))
    assert "made with the train list's SHA-256" in refusal(capsys, tmp_path / "runs", "--max_iterations", "1")


def test_help_names_flags_presets_and_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "supervised       --unlabelled off --blend off --contrast off" in text
    assert "--consistency_rampup" in text and "(default: 200)" in text
