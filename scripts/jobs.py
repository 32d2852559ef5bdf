"""One row with one seed: its commands, its folder and its progress, which is read from that folder alone."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional

try:
    import fcntl  # not on Windows: nothing keeps two calls apart there
except ImportError:
    fcntl = None

from dataloaders.files import InputError
from dataloaders.reading import file_hash
from dataloaders.registry import get_dataset
from scripts.rows import Row
from utils.runs.checkpoints import load_tensors
from utils.runs.folder import differences, read_metrics, recorded_flags, run_path
from utils.runs.stopping import TIME_LIMIT_REACHED
from utils.training.speed import FAST

ROOT = Path(__file__).resolve().parent.parent
# Flags that set what an iteration costs; an estimate takes only runs that agree in them.
SPEED_FLAGS = (
    "preset", "patch_size", "batch_size", "labeled_bs", "num_workers", "val_stride", "val_cases", "deterministic",
    "fast", "amp", "channels_last", "compile", "cuda_graphs", "fused", "data_on",
)  # fmt: skip


TIME_IS_UP = "time limit reached"  # an Outcome's failure


class Stage(NamedTuple):
    """A folder with weights and the iterations that it is to have."""

    folder: Path
    iterations: int


class Outcome(NamedTuple):
    """How a job ended: an empty `failure`, or why and the log's last lines."""

    failure: str
    seconds: float


@dataclass(frozen=True)
class Job:
    """A row with one seed. `extra`: flags for all rows (the smoke run's); `root_path`: None for $DATASET_HOME's."""

    row: Row
    seed: int
    output_dir: str
    extra: tuple[str, ...] = ()
    root_path: Optional[str] = None

    @property
    def row_flags(self) -> list[str]:
        """What the row asks for, the same for all seeds and on all machines."""
        row = self.row
        flags = ["--name", row.dataset, "--labelnum", str(row.labelnum)]
        return [*flags, *(["--preset", row.preset] if row.preset else []), *row.flags, *self.extra]

    @property
    def train_flags(self) -> list[str]:
        flags = [*self.row_flags, "--seed", str(self.seed)]
        flags += ["--root_path", self.root_path] if self.root_path else []
        return flags + (["--output_dir", self.output_dir] if self.output_dir != "runs" else [])

    @cached_property
    def args(self):
        """The flags as the train script itself understands them."""
        return importlib.import_module(self.row.script).parse_args(self.train_flags)

    def flags_like(self, recorded: dict) -> dict:
        """The flags as a run records them: what --fast chose there counts as chosen."""
        chosen = {flag for choice in FAST.values() for flag in choice} if self.args.fast else ()
        return {**vars(self.args), **{flag: recorded.get(flag) for flag in chosen}}

    @cached_property
    def method(self) -> str:
        return importlib.import_module(self.row.script).METHOD

    @property
    def folder(self) -> Path:
        return run_path(self.args, self.method)

    @property
    def name(self) -> str:
        return f"{self.row.dataset} {self.folder.parent.name} {self.folder.name}"

    @property
    def log(self) -> Path:
        return Path(self.output_dir) / "reproduce" / (self.name.replace(" ", "_") + ".log")

    @property
    def stages(self) -> list[Stage]:
        """The folders with weights, in order; a method without stages has one."""
        if not hasattr(self.args, "stage"):
            return [Stage(self.folder, self.args.max_iterations)]
        iterations = {"pretrain": self.args.pretrain_iterations, "self": self.args.max_iterations}
        chosen = [stage for stage in iterations if self.args.stage in ("all", stage)]
        return [Stage(self.folder / stage, iterations[stage]) for stage in chosen]

    def commands(self, gpu: Optional[int] = None, time_limit: Optional[int] = None) -> dict[str, list[str]]:
        """What a user would type to train, in minutes at a time, and to test, without the interpreter."""
        on = [] if gpu is None else ["--gpu", str(gpu)]
        limited = [] if time_limit is None else ["--time_limit", str(time_limit)]
        test = f"test_{get_dataset(self.row.dataset).dims}d"
        where = ["--root_path", self.root_path] if self.root_path else []
        return {
            "train": [_script(self.row.script), *self.train_flags, *on, *limited],
            "test": [_script(test), "--name", self.row.dataset, "--output_dir", str(self.folder), *where, *on],
        }

    def done(self, stage: Stage) -> int:
        """The iterations that this stage's last weights have; 0 where there are none of these flags."""
        try:
            config = json.loads((stage.folder / "config.json").read_text())
            recorded = recorded_flags(config, vars(self.args))
            if next(differences(recorded, self.flags_like(recorded)), None) is not None:
                return 0  # another run's folder: the train script refuses it by name
            iteration = load_tensors(stage.folder / "last.pth")["iteration"]
        except (OSError, ValueError, KeyError, InputError):
            return 0
        finished = iteration >= stage.iterations
        return iteration if not finished or (stage.folder / "best.pth").exists() else stage.iterations - 1

    @property
    def is_trained(self) -> bool:
        return all(self.done(stage) >= stage.iterations for stage in self.stages)

    @property
    def is_tested(self) -> bool:
        """Whether best and last weights were tested as they are now, by the papers' rules."""
        folder = self.stages[-1].folder
        for kind in ("best", "last"):
            try:
                summary = json.loads((folder / f"test_{kind}" / "summary.json").read_text())
                rules = summary["unit"], summary["empty_rule"], summary["nms"], summary.get("hd95", "pooled")
                same = summary.get("weights_sha256") == file_hash(folder / f"{kind}.pth")
            except (OSError, ValueError, KeyError):
                return False
            if rules != ("voxel", "ours", False, "pooled") or not same:
                return False
        return True

    @property
    def state(self) -> str:
        """In words, from the folder alone."""
        if self.is_trained:
            return "trained and tested" if self.is_tested else "trained, not tested"
        stages = [(stage.folder.name, self.done(stage), stage.iterations) for stage in self.stages]
        if not any(done for _, done, _ in stages):
            return "not started"
        named = [f"{name} " if len(stages) > 1 else "" for name, *_ in stages]
        return ", ".join(f"{name}iteration {done} of {total}" for name, (_, done, total) in zip(named, stages))

    def hours_left(self, device: str) -> Optional[float]:
        """Estimated from runs below --output_dir that had this work on this device; None where none was measured.

        Training with its validations; reading the data and testing are not counted.
        """
        seconds = 0.0
        for stage in self.stages:
            done, interval = self.done(stage), self.args.val_interval
            first = max(done + 1, getattr(self.args, "val_start", None) or 1)
            validations = stage.iterations // interval - (first - 1) // interval
            if done < stage.iterations:
                measured = self._measured(stage, device)
                if measured is None:
                    return None
                seconds += (stage.iterations - done) / measured[0] + max(validations, 0) * measured[1]
        return seconds / 3600

    def _measured(self, stage: Stage, device: str) -> Optional[tuple[float, float]]:
        """(iterations a second, seconds a validation), medians of what like runs recorded."""
        rates, validations = [], []
        place = str(Path("seed_*", stage.folder.relative_to(self.folder), "config.json"))
        for path in sorted((Path(self.output_dir) / self.row.dataset).rglob(place)):
            try:
                config = json.loads(path.read_text())
                rows = read_metrics(path.parent / "metrics.jsonl")
                flags = self.flags_like(config["flags"])
                same = all(config["flags"].get(flag) == flags.get(flag) for flag in SPEED_FLAGS)
                if same and config["method"] == self.method and card(config["device"]) == device:
                    rates += [row["monitor/iterations_per_s"] for row in rows if "monitor/iterations_per_s" in row]
                    validations += [row["val/seconds"] for row in rows if "val/seconds" in row]
            except (OSError, ValueError, KeyError):
                continue
        return (statistics.median(rates), statistics.median(validations)) if rates and validations else None


def card(device: str) -> str:
    """A device's description without its number."""
    return re.sub(r" \(cuda:\d+\)$", "", device)


def _script(name: str) -> str:
    return os.path.relpath(ROOT / f"{name}.py")


class Stopper:
    """Forwards a request to stop to the running commands and waits until they have saved their work."""

    def __init__(self):
        self.processes: set = set()
        self.stopped = threading.Event()

    def stop(self, *_signal) -> None:
        self.stopped.set()
        for process in list(self.processes):
            process.send_signal(signal.SIGTERM)

    def run(self, command: list[str], log) -> int:
        """Run to the end with its output in `log`; the exit code, 130 if it is not to start any more."""
        if self.stopped.is_set():
            return 130
        process = subprocess.Popen(  # a session of its own: Ctrl-C reaches it once, through stop()
            [sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.processes.add(process)
        if self.stopped.is_set():  # while it was being started
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait()
        finally:
            self.processes.discard(process)


def run_job(
    job: Job, gpu: Optional[int] = None, stopper: Optional[Stopper] = None, time_limit: Optional[int] = None
) -> Outcome:
    """Train and test what is missing. Its log is held locked meanwhile, by the commands too: a second call waits.

    time_limit: minutes after which a training saves and ends, and so does this call (failure TIME_IS_UP). Without it a
    training that ended at a limit of its row's flags is run again.
    """
    stopper, started = stopper or Stopper(), time.perf_counter()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a") as log:
        _wait_for(log, job, stopper)
        for what, command in job.commands(gpu, time_limit).items():
            if job.is_trained and (what == "train" or job.is_tested):
                continue
            code = TIME_LIMIT_REACHED
            while code == TIME_LIMIT_REACHED:
                log.write(f"$ python {shlex.join(command)}\n")
                log.flush()
                code = stopper.run(command, log)
                if stopper.stopped.is_set():
                    return Outcome("interrupted", time.perf_counter() - started)
                if code == TIME_LIMIT_REACHED and time_limit is not None:
                    return Outcome(TIME_IS_UP, time.perf_counter() - started)
            if code != 0:
                return Outcome(f"{what}: exit code {code}\n{last_lines(job.log)}", time.perf_counter() - started)
    failure = "" if job.is_trained and job.is_tested else f"its folder is not complete: {job.state}"
    return Outcome(failure, time.perf_counter() - started)


def _wait_for(log, job: Job, stopper: Stopper) -> None:
    """Hold the log's lock. Commands inherit it, so that those of a killed call keep the next one out until they end."""
    said = False
    while fcntl is not None and not stopper.stopped.is_set():
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not said:
                print(f"{job.name}: another process is running it, waiting for it to finish ({job.log})", flush=True)
            said = True
            stopper.stopped.wait(1)


def last_lines(path: Path, count: int = 5) -> str:
    """The last lines of a log, indented."""
    lines = [line for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-count:])
