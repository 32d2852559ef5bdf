import argparse
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from dataloaders.files import InputError
from scripts import evidence, jobs, launchers, reproduce, rows
from scripts.jobs import Job, run_job
from scripts.rows import BCP, MT, TARGETS, Row
from utils.reports.results import read_results
from utils.reports.testing import open_test_list
from utils.reports.verification import has_medpy, medpy_differences, medpy_metrics, verify_run
from utils.runs.checkpoints import load_tensors, save_tensors

TINY = "--patch_size 16 16 --batch_size 4 --labeled_bs 2 --val_interval 2 --save_interval 2 --log_interval 2 "
GOOD = Row("ACDC", MT, 5, None, tuple((TINY + "--max_iterations 4 --num_workers 0").split()))
BAD = Row("ACDC", MT, 10, "baseline", (*GOOD.flags, "--base_lr", "1e30"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which a good and a bad row were run, what was printed, and the exit code."""
    folder = tmp_path_factory.mktemp("reproduce")
    patch = pytest.MonkeyPatch()
    patch.setitem(TARGETS, "two", [GOOD, BAD])
    patch.setattr(reproduce, "SMOKE_FLAGS", {2: "", MT: ""})
    patch.setattr(reproduce, "SMOKE_PHANTOMS", {"ACDC": (9, 1, 1, (2, 24, 24))})
    yield folder
    patch.undo()


def call(home, capsys, *flags):
    code = reproduce.main(["two", "--smoke", "--output_dir", str(home), *flags])
    return code, capsys.readouterr().out


@pytest.fixture(scope="module")
def first_call(home):
    """(exit code, what was printed) of the call that trains."""
    with redirect_stdout(StringIO()) as out:
        code = reproduce.main(["two", "--smoke", "--output_dir", str(home)])
    return code, out.getvalue()


@pytest.fixture
def good(home, first_call, tmp_path):
    """The good row's job with a folder of its own to damage."""
    shutil.copytree(home, tmp_path / "copy")
    return Job(GOOD, 1337, str(tmp_path / "copy"), (), str(home / "phantoms" / "ACDC"))


def test_a_failed_row_does_not_stop_the_rest(home, first_call):
    code, out = first_call
    assert code == 1
    assert "ACDC Ours_MT_5 seed_1337: trained and tested" in out
    assert re.search(r"FAILED: ACDC Ours_MT_10_baseline seed_1337: train: exit code 1\n(    .*\n)*.*not finite", out)
    assert "whole log:" in out
    markdown, latex, table, page = (
        (home / "tables" / f"two.{suffix}").read_text() for suffix in ("md", "tex", "csv", "html")
    )
    assert "| Ours_MT_10_baseline | - | 0 | failed |" in markdown and "| Ours_MT_5 | best | 1 |" in markdown
    assert "published: SPC (MT), 10 %" in markdown and r"\bottomrule" in latex and "Ours_MT_5,Ours_MT" in table
    assert "<h1>Results on ACDC (phantoms)</h1>" in page and "ACDC (phantoms), measured" in latex
    assert "Dice of RV over test cases" in page and page.count('class="grid tiles"') == 2  # the worst cases


def test_what_is_there_is_not_made_again(home, first_call, capsys):
    weights = home / "ACDC" / "Ours_MT_5" / "seed_1337" / "best.pth"
    before = weights.stat().st_mtime_ns
    code, out = call(home, capsys)
    assert code == 1 and "2 rows and seeds, 1 of them already done" in out and weights.stat().st_mtime_ns == before


def test_dry_run_prints_commands_and_measured_hours_and_runs_nothing(home, first_call, capsys, monkeypatch):
    config = json.loads((home / "ACDC" / "Ours_MT_5" / "seed_1337" / "config.json").read_text())
    monkeypatch.setattr(reproduce, "describe_device", lambda _: config["device"])
    before = sorted(home.rglob("*"))
    code, out = call(home, capsys, "--dry-run", "--seeds", "1337,7")
    assert code == 0 and sorted(home.rglob("*")) == before
    assert "# ACDC Ours_MT_5 seed_1337: trained and tested; training left: 0.00 h" in out
    assert "# ACDC Ours_MT_5 seed_7: not started; training left: 0.0" in out  # as the other seed's speed has it
    assert out.count("training left: not measured") == 2 and "# 2 rows and seeds: not measured" in out
    commands = [line for line in out.splitlines() if line.startswith("python ")]
    assert len(commands) == 8 and all((jobs.ROOT / command.split()[1]).is_file() for command in commands)


def test_state_is_read_from_the_folder(good):
    run = good.folder
    assert good.state == "trained and tested"
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "code_sha256": "of other code"}))
    assert good.state == "trained and tested"  # what is done is not asked again after an edit
    summary = run / "test_best" / "summary.json"
    stored = json.loads(summary.read_text())
    summary.write_text(json.dumps({**stored, "unit": "mm"}))
    assert good.state == "trained, not tested"
    summary.write_text(json.dumps(stored))
    best = load_tensors(run / "best.pth")
    save_tensors({**best, "iteration": 1}, run / "best.pth")  # other weights than were tested
    assert good.state == "trained, not tested"
    (run / "best.pth").unlink()
    assert good.state == "iteration 3 of 4"
    save_tensors({**load_tensors(run / "last.pth"), "iteration": 2}, run / "last.pth")
    assert good.state == "iteration 2 of 4"
    config["flags"]["base_lr"] = 0.5
    (run / "config.json").write_text(json.dumps(config))
    assert good.state == "not started"  # another run's folder: training refuses it by name
    outcome = run_job(good)
    assert "train: exit code 2" in outcome.failure and "made with --base_lr = 0.5, now it is 0.01" in outcome.failure


def test_a_run_whose_settings_fast_chose_is_known_again(good):
    fast = replace(good, extra=("--fast",))
    config = json.loads((fast.folder / "config.json").read_text())
    chosen = {"fast": True, "amp": "bf16", "channels_last": True, "cuda_graphs": True, "fused": True}  # as on a GPU
    edit(fast.folder / "config.json", flags={**config["flags"], **chosen})
    assert fast.state == "trained and tested" and good.state == "not started"


def test_two_calls_at_once_wait_for_each_other(good, capsys):
    fcntl = pytest.importorskip("fcntl")
    ended = []
    with open(good.log, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: ended.append(run_job(good)))
        thread.start()
        time.sleep(0.3)
        assert not ended
    thread.join(timeout=20)
    assert ended[0].failure == "" and "another process is running it" in capsys.readouterr().out


def test_stages_of_two_stage_methods(tmp_path):
    both = Job(Row("ACDC", BCP, 5), 1, str(tmp_path))
    floor = Job(Row("ACDC", BCP, 5, "supervised"), 1, str(tmp_path))
    assert [(stage.folder.name, stage.iterations) for stage in both.stages] == [("pretrain", 10000), ("self", 30000)]
    assert [(stage.folder.name, stage.iterations) for stage in floor.stages] == [("pretrain", 10000)]


def test_verify_says_the_same_or_what_differs(good, capsys):
    folder = good.folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert reproduce.main(["--verify", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.count(": the same: 2 cases, 4 metrics, Dice ") == 2
    assert out.count(", recomputed with MedPy") == (2 if has_medpy() else 0)
    assert out.count("the metrics by MedPy: not installed") == (0 if has_medpy() else 2)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    table = folder / "test_last" / "per_case.csv"
    lines = table.read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:2], "0.987", *lines[1].split(",")[3:]])
    table.write_text("\n".join(lines) + "\n")
    assert reproduce.main(["--verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "test_best: the same" in out and "test_last: DIFFERS" in out
    assert "per_case.csv: dice in 1 of 6 places, first patient011_frame01 RV: 0.987" in out

    best = load_tensors(folder / "best.pth")
    name = next(name for name in best["net"] if name.endswith("out_conv.bias"))
    best["net"][name] += torch.tensor([0.0, 9.0, 0.0, 0.0])
    save_tensors(best, folder / "best.pth")
    best, _ = verify_run(folder)
    assert "best.pth: SHA-256 is not the one that was tested" in best.found[0]
    assert any(line.startswith("summary.json: metrics dice mean: ") for line in best.found)


@pytest.mark.skipif(not has_medpy(), reason="MedPy is the reference implementation")
@pytest.mark.parametrize("column, name", [(2, "dice"), (3, "jaccard"), (4, "hd95"), (5, "asd")])
def test_medpy_judges_every_metric_of_the_saved_label_maps(good, column, name):
    """The first case's label map becomes the shifted truth, its rows what MedPy makes of it; then one is changed."""
    folder, names = good.folder / "test_last", ("dice", "jaccard", "hd95", "asd")
    volumes = open_test_list(argparse.Namespace(**read_results(folder).summary["flags"]))[0]
    pred = np.roll(volumes[0].label, 1, axis=2)
    with h5py.File(folder / "predictions" / f"{volumes.names[0]}.h5", "r+") as file:
        file["prediction"][...] = pred
    rows = [line.split(",") for line in (folder / "per_case.csv").read_text().splitlines()]
    present = [label for label in (1, 2, 3) if (volumes[0].label == label).any()]
    for label in present:
        values = medpy_metrics(pred == label, volumes[0].label == label)
        rows[label][2:6] = [str(values[each]) for each in names]

    def differences():
        (folder / "per_case.csv").write_text("\n".join(map(",".join, rows)) + "\n")
        return medpy_differences(read_results(folder), volumes)

    assert differences() == []
    row = rows[present[-1]]
    row[column] = str(float(row[column]) + 1e-4)
    (found,) = differences()
    assert f"first {name} of {volumes.names[0]} {row[1]}: " in found


def edit(path, **entries):
    """Change entries of a JSON file; ... takes one out."""
    stored = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({key: value for key, value in stored.items() if value is not ...}))


EDITS = {
    "selection": "mean Dice on a list of ours",
    "iteration": 3,
    "val_dice": 0.99,
    "note": "as published",
    "method": "DuCiSC",
    "run": "Ours_MT_5 seed_1337 best",
    "unit": "mm",
    "kind": ...,
    "hd95": "max",
    "nms": True,
    "windows": "windows with stride 1 1 1",
    "patch_size": [256, 256],
    "weights": "best.pth",
    "test_list_sha256": "0",
    "test_data_sha256": "0",
    "weights_sha256": "0",
    "empty_predictions": {"RV": 0, "Myo": 0, "LV": 9},
}


@pytest.fixture(scope="module")
def tested_again(home, first_call, tmp_path_factory):
    """The good row's folder, to be put back as it was after each change."""
    folder = tmp_path_factory.mktemp("verified") / "copy"
    shutil.copytree(home, folder)
    return Job(GOOD, 1337, str(folder), (), str(home / "phantoms" / "ACDC")).folder


@pytest.fixture
def damaged(tested_again):
    """damaged(path) -> the file, which is put back at the end; the best weights are verified by other tests."""
    kept = {path: path.read_bytes() for path in tested_again.rglob("*") if path.is_file()}
    shutil.rmtree(tested_again / "test_best")
    yield lambda path: tested_again / path
    for path, content in kept.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def verdict(folder):
    (found,) = verify_run(folder)
    return found


@pytest.mark.parametrize("entry", EDITS)
def test_verify_finds_every_entry_that_a_table_shows(damaged, tested_again, entry):
    edit(damaged("test_last/summary.json"), **{entry: EDITS[entry]})
    assert any(re.search(rf"{entry}|SHA-256", line) for line in verdict(tested_again).found)


@pytest.mark.parametrize(
    "entries",
    [
        {"empty_predictions": 0},
        {"metrics": {}},
        {"flags": ...},
        {"flags": {}},
        {"flags": {"name": 3}},
        {"classes": 3},
        {"run": ...},
    ],
)
def test_verify_says_in_a_line_what_it_cannot_read(damaged, tested_again, entries, capsys):
    edit(damaged("test_last/summary.json"), **entries)
    assert reproduce.main(["--verify", str(tested_again)]) == 1
    out, error = capsys.readouterr()
    assert error == "" and len(out.splitlines()) == 2 and "test_last: CANNOT BE VERIFIED" in out


def test_verify_finds_predictions_that_are_not_those_of_the_weights(damaged, tested_again):
    path = damaged("test_last/predictions/patient011_frame01.h5")
    with h5py.File(path, "r+") as file:
        file["prediction"][...] = 0
    line = r"predictions: 1 of 2 differ, first patient011_frame01.h5 in \d+ of 1152 voxels"
    assert re.fullmatch(line, verdict(tested_again).found[0])
    path.write_bytes(b"")
    assert "patient011_frame01.h5 cannot be read" in verdict(tested_again).found[0]
    path.unlink()
    assert "patient011_frame01.h5 cannot be read" in verdict(tested_again).found[0]


@pytest.mark.parametrize(
    "entries, line",
    [
        (
            {"labelled_cases": ["patient077"]},
            "config.json: labelled_cases: patient077; the training list gives patient001",
        ),
        ({"commit": "0" * 40}, "config.json: commit: 0000000"),
        ({"method": "DuCiSC"}, "config.json: method: DuCiSC, last.pth has Ours_MT"),
        (
            {"selection": "mean Dice of ours"},
            "config.json: selection: mean Dice of ours, last.pth has mean Dice on val",
        ),
        ({"dataset": {"patch_size": [256, 256]}}, "config.json: dataset: "),
    ],
)
def test_verify_compares_what_config_json_says_of_the_training(damaged, tested_again, entries, line):
    edit(damaged("config.json"), **entries)
    assert any(found.startswith(line) for found in verdict(tested_again).found)


def test_verify_lists_what_nothing_proves(damaged, tested_again, monkeypatch, tmp_path):
    config = damaged("config.json")
    found = verdict(tested_again)
    assert found.state.startswith("the same: ") and not found.found
    summary = damaged("test_last/summary.json")
    kept = summary.read_text()
    edit(summary, run="Ours_BCP_5 seed_1 last")
    assert (
        verdict(tested_again).unverifiable[0]
        == "run: Ours_BCP_5 seed_1 last; by its folder it is Ours_MT_5 seed_1337 last"
    )
    summary.write_text(kept)
    assert re.fullmatch(
        "the training's flags, commit, .*log.txt says the same of flags and commit.*", *found.unverifiable
    )
    flags = json.loads(config.read_text())["flags"]
    edit(config, flags={**flags, "batch_size": 24})
    assert any("config.json: flags: " in line and "batch_size=24" in line for line in verdict(tested_again).found)
    edit(config, flags={**flags, "root_path": str(tmp_path)})  # the data is elsewhere now
    damaged("log.txt").unlink()
    assert [line.split(":")[0] for line in verdict(tested_again).unverifiable][0] == "labelled_cases"
    assert verdict(tested_again).unverifiable[1].endswith("(no log.txt)")
    config.unlink()
    assert verdict(tested_again).unverifiable == ["how the weights were trained: no config.json"]


def test_verify_takes_tests_of_bare_weights(good):
    (best,) = good.folder.glob("best.pth")
    best.rename(good.folder / "iter_4_dice_0.5.pth")
    (good.folder / "test_best").rename(good.folder / "test_iter_4_dice_0.5")
    names = [verdict.folder.name for verdict in verify_run(good.folder)]
    assert names == ["test_iter_4_dice_0.5", "test_last"]


def test_verify_names_what_it_cannot_verify(good, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["--verify", str(tmp_path / "nothing")])
    assert stop.value.code == 2 and "no test_*/summary.json at or below" in capsys.readouterr().err
    edit(good.folder / "test_best" / "summary.json", flags=...)
    (good.folder / "last.pth").unlink()
    assert reproduce.main(["--verify", str(good.folder)]) == 1
    out = capsys.readouterr().out
    assert "did not record its flags" in out and "last.pth: no such weights" in out


def test_a_signal_reaches_the_training_and_the_same_command_goes_on(home, first_call, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "SMOKE_FLAGS", rows.SMOKE_FLAGS)
    (tmp_path / "phantoms").mkdir()
    (tmp_path / "phantoms" / "ACDC").symlink_to(home / "phantoms" / "ACDC")
    command = [sys.executable, "scripts/reproduce.py", "spc-acdc", "--smoke", "--output_dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=jobs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "ACDC" / "Ours_MT_5" / "seed_1337"
    deadline = time.time() + 60
    while not (run / "checkpoint.pth").exists() and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and out.endswith("interrupted; rerun the same command to resume\n")
    assert "interrupted at iteration" in (tmp_path / "reproduce" / "ACDC_Ours_MT_5_seed_1337.log").read_text()
    assert [path.name for path in (tmp_path / "ACDC").iterdir()] == ["Ours_MT_5"]
    job = reproduce.plan(reproduce.parse_args(command[2:]))[0]
    assert re.fullmatch(r"iteration \d+ of 60", job.state)


def test_cluster_jobs_by_submitit_s_local_executor(good, tmp_path):
    pytest.importorskip("submitit")
    bad = Job(BAD, 1337, good.output_dir, (), good.root_path)
    ends = launchers.run_cluster([good, bad], tmp_path / "cluster", 0, {}, "local", poll_seconds=0.1)
    ends = {job.name: outcome for job, outcome in ends}
    assert ends[good.name].failure == ""
    assert "train: exit code 1" in ends[bad.name].failure and "not finite" in ends[bad.name].failure


def test_a_training_that_ends_at_its_own_limit_is_run_again(good, monkeypatch):
    shutil.rmtree(good.folder)
    codes, commands = [3, 3, 1], []
    monkeypatch.setattr(jobs.Stopper, "run", lambda _self, command, _log: (commands.append(command), codes.pop(0))[1])
    assert "train: exit code 1" in run_job(good).failure and len(commands) == 3
    codes[:] = [3]
    assert run_job(good, time_limit=7).failure == jobs.TIME_IS_UP and commands[-1][-2:] == ["--time_limit", "7"]


def test_a_cluster_job_that_reached_the_time_limit_is_submitted_again(monkeypatch, tmp_path, capsys):
    pytest.importorskip("submitit")
    calls, failures = [], [jobs.TIME_IS_UP, jobs.TIME_IS_UP, "", ""]

    def pretend(job, gpu, stopper, time_limit):
        calls.append((job, gpu, time_limit))
        return jobs.Outcome(failures.pop(0), 1.0)

    monkeypatch.setattr(launchers, "run_job", pretend)
    todo = [Job(GOOD, seed, str(tmp_path)) for seed in (1, 2)]
    ends = list(launchers.run_cluster(todo, tmp_path, 1, {"timeout_min": 60}, "debug", poll_seconds=0))
    assert {job for job, outcome in ends if outcome.failure == ""} == set(todo) and len(calls) == 4
    assert {call[1:] for call in calls} == {(0, 55)}
    assert capsys.readouterr().out.count("time limit reached; cluster job") == 2


@pytest.mark.parametrize(
    "options, minutes", [({}, 1435), ({"timeout_min": 6}, 3), ({"slurm_time": "1-00"}, None), ({"slurm_time": 90}, 85)]
)
def test_a_training_ends_some_minutes_before_its_cluster_job(options, minutes):
    assert launchers.time_limit(options) == minutes


def test_accepting_a_code_change_is_passed_on():
    (job, *_) = reproduce.plan(reproduce.parse_args(["spc-acdc", "--accept_code_change"]))
    assert "--accept_code_change" in job.commands()["train"] and job.args.accept_code_change


def test_without_submitit_or_gpus_the_mend_is_named(good, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError) as error:
        next(launchers.run_cluster([good], tmp_path, 1, {}))
    assert str(error.value) == "--launcher slurm needs submitit: pip install submitit"
    with pytest.raises(InputError, match="--gpus 99: PyTorch .* sees"):
        next(launchers.run_local([good], 99))


def test_jobs_run_side_by_side_on_a_gpu_each(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    busy, seen = set(), []

    def pretend(job, gpu, _stopper):
        assert gpu not in busy
        busy.add(gpu)
        time.sleep(0.05)
        seen.append((gpu, len(busy)))
        busy.discard(gpu)
        return jobs.Outcome("", 0.0)

    monkeypatch.setattr(launchers, "run_job", pretend)
    ends = list(launchers.run_local([Job(GOOD, seed, str(tmp_path)) for seed in range(6)], 2))
    assert len(ends) == 6 and {gpu for gpu, _ in seen} == {0, 1} and max(count for _, count in seen) == 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_under_nohup_a_hang_up_stays_ignored(monkeypatch, tmp_path):
    handlers = []

    def pretend(*_):
        handlers.extend(signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM))
        return jobs.Outcome("", 0.0)

    monkeypatch.setattr(launchers, "run_job", pretend)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        list(launchers.run_local([Job(GOOD, 1, str(tmp_path))], 0))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert handlers[0] is signal.SIG_IGN and callable(handlers[1])


def test_a_stop_reaches_a_command_that_is_being_started(monkeypatch):
    stopper, sent = jobs.Stopper(), []

    class Started:
        def __init__(self, *_args, **_options):
            stopper.stop()

        def send_signal(self, number):
            sent.append(number)

        def wait(self):
            return 130

    monkeypatch.setattr(subprocess, "Popen", Started)
    assert stopper.run(["train.py"], None) == 130 and sent == [signal.SIGTERM]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["spc-mnist"], "no target spc-mnist: choose from spc-acdc"),
        ([], "name tables to make, or runs to --verify"),
        (["spc-acdc", "--seeds", "0"], "must be a whole number from 1 to 10"),
        (["spc-acdc", "--slurm", "partition"], "expected KEY=VALUE"),
    ],
)
def test_wrong_flags_are_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        reproduce.main(flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1


def test_data_that_is_not_there_is_named_before_anything_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("DATASET_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["ducisc-la", "--output_dir", str(tmp_path / "runs")])
    assert stop.value.code == 2 and "has no folder LA" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="nowhere: no such folder"):
        reproduce.prepare_data(SimpleNamespace(smoke=False), [Job(GOOD, 1, "runs", root_path="nowhere")])


def test_seeds():
    assert reproduce.seed_list("3") == [1337, 1, 2] and reproduce.seed_list("7,") == [7]
    assert reproduce.seed_list("5,7,5") == [5, 7]


@pytest.mark.parametrize("target", TARGETS)
def test_every_row_is_a_command_that_its_script_takes(target):
    found = [Job(row, 1, "runs") for row in TARGETS[target]]
    assert len({job.folder for job in found}) == len(found)
    for job in found:
        assert job.args.name == job.row.dataset and job.args.preset == job.row.preset
        assert shlex.split(shlex.join(job.commands(0)["train"]))[-2:] == ["--gpu", "0"]
        assert job.row.dataset in rows.SMOKE_PHANTOMS and job.row.script in rows.SMOKE_FLAGS


def test_published_rows_are_declared_and_the_declared_ones_published(root):
    wanted = {
        (row["dataset"], row["method"], row["labelnum"], row.get("preset"))
        for row in json.loads((root / "results/published.json").read_text())["rows"]
        if row["method"] != "neighbour"
    }
    declared = {
        (job.row.dataset, job.method, job.row.labelnum, job.row.preset)
        for target in TARGETS.values()
        for job in (Job(row, 1, "runs") for row in target)
    }
    assert len(wanted) == 18 and wanted <= declared
    ablations = {row.preset for row in TARGETS["spc-synapse-ablations"]} - {"supervised"}
    assert ablations == {preset for dataset, *_, preset in wanted if dataset == "Synapse"}


def test_report_and_check(home, first_call, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(TARGETS, "two", [GOOD])
    flags = ["two", "--output_dir", str(home)]
    monkeypatch.setattr(reproduce, "plan", lambda args, plan=reproduce.plan: with_root(plan(args), home))
    monkeypatch.setattr(reproduce, "find_root", None)  # not asked: rows that are trained and tested need no data
    assert reproduce.main([*flags, "--report", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "two.json").read_text())
    (seed,) = record["settings"]["Ours_MT_5"]["seeds"].values()
    summary = json.loads((home / "ACDC/Ours_MT_5/seed_1337/test_last/summary.json").read_text())
    assert seed["last"]["dice"] == summary["metrics"]["dice"]["mean"] and list(seed["validation_dice"]) == ["2", "4"]
    page = (tmp_path / "two.md").read_text()
    assert "train_Ours_MT.py --name ACDC --labelnum 5" in page and "| Ours_MT_5 | 1 |" in page
    assert "case" not in record["settings"]["Ours_MT_5"] and (tmp_path / "two.svg").read_text().startswith("<?xml")
    capsys.readouterr()

    earlier = {**seed, "best": {**seed["best"], "dice": 0.5}}
    record["settings"] = {"Ours_MT_5": {**record["settings"]["Ours_MT_5"], "seeds": {"1337": earlier, "7": earlier}}}
    record["differences"] = [{"difference": "a - b", "weights": "best", "mean": 0.01, "low": 0, "high": 0.02}]
    record["differences"][0].update(p_value=0.04, count=20)
    (tmp_path / "two.json").write_text(json.dumps(record))
    (tmp_path / "two.md").write_text(page.replace("# two", "# By hand"))
    assert reproduce.main([*flags, "--report", str(tmp_path), "--check", str(tmp_path / "two.json")]) == 0
    assert re.search("2 seeds recorded on a [CG]PU, too few to compare with", capsys.readouterr().out)
    page, merged = (tmp_path / "two.md").read_text(), json.loads((tmp_path / "two.json").read_text())
    assert (
        "# By hand" in page
        and "| Ours_MT_5 | 2 |" in page
        and "| a - b | best | +1.00 | +0.00 to +2.00 | 0.04 | 20 |" in page
    )
    seeds = merged["settings"]["Ours_MT_5"]["seeds"]
    assert seeds["7"] == earlier and seeds["1337"] == seed  # what is at hand replaces what was recorded
    dice = seed["best"]["dice"]
    for values, code in (((dice - 0.01, dice, dice + 0.01), 0), ((dice + 0.1, dice + 0.11, dice + 0.12), 1)):
        device = seed["device"]
        several = {str(n): {"best": {"dice": value}, "device": device} for n, value in enumerate(values)}
        record["settings"]["Ours_MT_5"]["seeds"] = several
        (tmp_path / "three.json").write_text(json.dumps(record))
        assert reproduce.main([*flags, "--check", str(tmp_path / "three.json")]) == code
        out = capsys.readouterr().out
        assert ("DIFFERS: " in out) == bool(code) and "of 3 recorded seeds" in out

    (tmp_path / "two.md").write_text("my own page")
    for wrong, words in (
        (["--report", str(tmp_path)], "its mark is missing"),
        (["--check", str(tmp_path / "two.md")], "not a record of --report"),
        (["--only", "Ours_MT_7"], "--only Ours_MT_7: no such setting; there are Ours_MT_5"),
        (["--only", "Ours_MT_5", "--report", str(tmp_path)], "one whole target"),
    ):
        with pytest.raises(SystemExit) as stop:
            reproduce.main([*flags, *wrong])
        assert stop.value.code == 2 and words in capsys.readouterr().err
    assert (tmp_path / "two.md").read_text() == "my own page"


def with_root(jobs, home):
    """These jobs on the smoke run's phantoms."""
    return [replace(job, root_path=str(home / "phantoms" / "ACDC")) for job in jobs]


def test_prediction_interval_by_hand():
    setting = SimpleNamespace(
        name="x",
        runs=[SimpleNamespace(name="x seed_9", config={"device": "device: CPU, threads: 1"})],
        tests={"last": [SimpleNamespace(summary={"metrics": {"dice": {"mean": 0.5}}})]},
    )

    def record(values, device="CPU, threads: 2"):
        return {str(n): {"last": {"dice": value}, "device": device} for n, value in enumerate(values)}

    ((line, expected),) = evidence.check({"x": record((0.60, 0.62, 0.64))}, [setting])
    # t(0.975, 2) = 4.3027, deviation 2, sqrt(1 + 1/3) = 1.1547: 62 +- 9.94
    assert "prediction interval 52.06 to 71.94" in line and "outside the range of 3 recorded seeds" in line
    assert expected is False
    # with y, whose deviation is 6: t(0.975, 4) = 2.7764, deviation sqrt((4 + 36) / 2) = 4.4721: 62 +- 14.34
    both = {"x": record((0.60, 0.62, 0.64)), "y": record((0.30, 0.36, 0.42))}
    ((line, expected),) = evidence.check(both, [setting])
    assert "prediction interval 47.66 to 76.34" in line and expected is True
    # seeds of another kind of device do not count
    ((line, expected),) = evidence.check({"x": record((0.60, 0.62, 0.64), "NVIDIA H100 (cuda:0)")}, [setting])
    assert "0 seeds recorded on a CPU, too few" in line and expected is None
