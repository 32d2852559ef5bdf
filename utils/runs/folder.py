"""A run's folder, the contract between all scripts: its name, config.json, log.txt, metrics.jsonl.

runs/<dataset>/<method>_<labelnum>[_<exp>]/seed_<seed>/ with config.json, log.txt, metrics.jsonl, TensorBoard's
events.*, checkpoint.pth, checkpoint_prev.pth, best.pth, last.pth.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from errno import EIO
from pathlib import Path
from typing import Container, Iterator, Mapping, Optional

import h5py
import numpy
import scipy
import torch
from tqdm import tqdm

from dataloaders.files import InputError, write_json, write_text
from utils.runs.code_hash import code_sha256
from utils.runs.device import describe_device
from utils.runs.lock import hold
from utils.runs.stopping import STOP

# These flags may differ on resume: they do not change what is computed (max_iterations may only grow).
FREE_ON_RESUME = (
    "gpu", "num_workers", "save_interval", "log_interval", "max_iterations", "output_dir", "stage", "profile",
    "time_limit", "accept_code_change",
)  # fmt: skip
# Flags that older runs did not have yet, with the value that those runs had in effect.
YOUNGER_FLAGS = {"proto_features": "encoder", "cuda_graphs": False}
# These parts of config.json must agree on resume, and how an error names an entry of each.
FIXED_ON_RESUME = {"flags": "--{}", "lists": "the {} list's SHA-256", "data": "the {} data's SHA-256"}
# Who made a run: these stay as they were at its first start; later starts that differ are listed under later_starts.
MADE_BY = ("command", "commit", "uncommitted_changes", "code_sha256", "versions", "device")


def run_path(args: argparse.Namespace, method: str) -> Path:
    """Where a run with these flags lives. A preset's name stands for <exp> unless one is given."""
    amount = f"{args.labeled_cases}cases" if args.labeled_cases is not None else args.labelnum
    exp = args.exp or args.preset
    name = f"{method}_{amount}" + (f"_{exp}" if exp else "")
    return Path(args.output_dir) / args.name / name / f"seed_{args.seed}"


class RunFolder:
    """Opens or creates a run's folder. `config` describes the run; flags, lists, data and code must agree on resume.

    Raises InputError, with nothing written, where another process is at work in the folder, or where it holds a run of
    another configuration or, without the flag accept_code_change, of other code. `note`: what to say of the code.
    """

    def __init__(self, path: Path, config: dict):
        self.path, self.config, self.note = Path(path), config, ""
        hold(self.path)
        begun = any(self.path.glob("[!.]*.pth"))
        self.existing = self._read_config()
        if self.existing is not None:
            self._compare(self.existing, config)
            if begun:
                self.note = self._compare_code(self.existing, config)
        elif begun:
            raise InputError(f"{self.path}: holds weights but no config.json; move it away or name another --exp")
        if not begun:
            self.existing = None  # no step is kept: this is the first start
            write_json(self.path / "config.json", config)

    def _read_config(self) -> Optional[dict]:
        path = self.path / "config.json"
        if not path.exists():
            return None
        try:
            config = json.loads(path.read_text())
            if not isinstance(config, dict) or not isinstance(config.get("flags"), dict):
                raise ValueError("no flags in it")
        except ValueError as error:
            raise InputError(
                f"{path}: not a run's configuration ({error}); move the folder elsewhere or name another --exp"
            ) from error
        return config

    def _compare(self, old: dict, new: dict) -> None:
        old = {**old, "flags": recorded_flags(old, new["flags"])}
        unused = unused_flags(new["flags"], new.get("dataset", {}).get("dims"))
        changed = [
            f"{name.format(key)} = {was}, now it is {now}"
            for part, name in FIXED_ON_RESUME.items()
            for key, was, now in differences(old.get(part), new[part])
            if key not in unused or part != "flags"
        ]
        if changed:
            raise InputError(
                f"{self.path}: this run was made with {'; '.join(changed)}: use the same values to resume it, or start "
                "another run with --exp NAME"
            )
        if new["flags"]["max_iterations"] < old["flags"]["max_iterations"]:
            raise InputError(
                f"{self.path}: --max_iterations {new['flags']['max_iterations']} is less than this run's "
                f"{old['flags']['max_iterations']}; it may only grow"
            )

    def _compare_code(self, old: dict, new: dict) -> str:
        known = {start.get("code_sha256") for start in (old, *old.get("later_starts", []))} - {None}
        if not known:
            return "note: this run was begun by a version that did not record its code; it may have changed since"
        if new.get("code_sha256") in known:
            return ""
        if not new["flags"].get("accept_code_change"):
            raise InputError(
                f"{self.path}: the training's code has changed since this run was started; name another --exp for a "
                "new run, or add --accept_code_change to resume this one under the new code"
            )
        return "note: the training's code has changed since this run was started (--accept_code_change)"

    def record_start(self, iteration: int) -> None:
        """Add this start, whose first step follows `iteration`, to the config.json of a run that was begun before."""
        if self.existing is not None:
            write_json(self.path / "config.json", _with_history(self.existing, self.config, iteration))

    def say(self, line: str, printed: bool = True) -> None:
        """Keep a line in log.txt and print it above the progress bar."""
        with open(self.path / "log.txt", "a") as file:
            file.write(line + "\n")
        if not printed:
            return
        try:
            tqdm.write(line)
            sys.stdout.flush()
        except OSError as error:  # the terminal has gone, or in Ctrl-C the program that we are piped to
            if error.errno != EIO and not STOP.signalled:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def record(self, row: dict) -> None:
        """Append one row to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

    def cut_back(self, iteration: int) -> None:
        """Drop the rows of metrics.jsonl beyond `iteration`, and a last one that was not written whole."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [row for row in read_metrics(path) if row["iteration"] <= iteration]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def unused_flags(flags: Mapping, dims: Optional[int]) -> dict[str, str]:
    """The flags that have no effect next to the others, and why. Refused where typed, not compared when a run resumes.

    flags: all of a run's by name; dims: of its dataset.
    """
    found = {}
    if flags.get("labeled_cases") is not None:
        found["labelnum"] = "--labeled_cases says which cases are labelled"
    if flags.get("protocol") in ("paper", "last"):
        found["holdout_cases"] = "only --protocol holdout takes cases out of training"
    if dims == 2:
        found["val_stride"] = "slices are validated whole, without windows"
    return found


def recorded_flags(config: dict, now: Container) -> dict:
    """The flags of a run's config.json; those of `now` that are younger than the run as they were in effect then."""
    younger = {**YOUNGER_FLAGS, "net": config.get("network")}
    return {**{key: value for key, value in younger.items() if key in now}, **config["flags"]}


def differences(old: Optional[dict], new: dict) -> Iterator[tuple]:
    """(key, was, now) of what may not differ on resume; nothing where the old run did not record this part."""
    if old is not None:
        for key in sorted({*old, *new} - set(FREE_ON_RESUME)):
            if old.get(key) != new.get(key):
                yield key, old.get(key), new.get(key)


def _with_history(old: dict, new: dict, iteration: int) -> dict:
    """The new description with the first start's MADE_BY, and this start's among the later ones if it is another."""
    later = old.get("later_starts", [])
    first, this, *others = ({key: config.get(key) for key in MADE_BY} for config in (old, new, *later))
    if this not in (first, *others):
        later = [*later, {**this, "iteration": iteration}]
    return {**new, **first, **({"later_starts": later} if later else {})}


def open_run(
    args: argparse.Namespace, method: str, data, student, path: Optional[Path] = None
) -> tuple[RunFolder, dict]:
    """Open the folder of this run and say what it is going to do, before the first step.

    `data` is a TrainingData; `path` defaults to the run's own. Returns the folder and the description that goes into
    the weights files. Raises InputError, with nothing written, where the folder holds another configuration.
    """
    info, device = data.info, next(student.parameters()).device
    dataset = {"name": info.name, "dims": info.dims, "classes": list(info.classes), "patch_size": list(data.patch_size)}
    dataset["stride"] = list(info.stride) if info.dims == 3 else None
    dataset["preparation"] = data.preparation and asdict(data.preparation)
    dataset["orientation"] = data.orientation
    description = {"method": method, "network": args.net, "dataset": dataset, "selection": data.selection_rule}
    parameters = sum(value.numel() for value in student.parameters())
    config = {
        **description,
        "kind": data.kind,
        "flags": vars(args),
        "lists": data.lists,
        "data": data.hashes,
        "labelled_cases": data.labelled_names,
        "labelled": len(data.labelled),
        "unlabelled": len(data.unlabelled),
        "parameters": parameters,
        "device": describe_device(device),
        "command": command_line(),
        "code_sha256": code_sha256(method),
        **environment(),
    }
    run = RunFolder(path or run_path(args, method), config)
    run.say(f"{method} -> {run.path}")
    run.say("flags: " + " ".join(f"{key}={value}" for key, value in sorted(config["flags"].items())))
    for line in filter(None, [*data.summary, run.note]):
        run.say(line)
    if device.type == "cpu":
        run.say("WARNING: no CUDA device is used; training at full size would take too long")
    changed = " with uncommitted changes" if config["uncommitted_changes"] else ""
    run.say(f"network: {args.net}, {parameters:,} parameters; {config['device']}; commit {config['commit']}{changed}")
    return run, description


def folder_size(path: Path) -> str:
    """What the files below a folder take, in words; one that another process removes meanwhile does not count."""
    size = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                size += os.stat(os.path.join(parent, name)).st_size
    return f"{size / 1e6:.1f} MB"


def read_metrics(path: Path) -> list[dict]:
    """The complete rows of a metrics.jsonl, in order."""
    rows = []
    for line in Path(path).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break  # a kill in the middle of a write
    return rows


def command_line() -> str:
    """The command by which this process was started, to be pasted into a shell."""
    return shlex.join([Path(sys.executable).name, *sys.argv])


def environment() -> dict:
    """For config.json: the code's commit, whether its files differ from it, versions, platform; never a host's name."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
        changed: Optional[bool] = bool(changes.stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        commit, changed = "unknown (not a git checkout)", None
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    versions.update(cudnn=torch.backends.cudnn.version(), numpy=numpy.__version__, scipy=scipy.__version__)
    try:
        pillow: Optional[str] = importlib.metadata.version("pillow")
    except importlib.metadata.PackageNotFoundError:
        pillow = None
    versions.update(h5py=h5py.__version__, pillow=pillow, platform=f"{platform.system()} {platform.machine()}")
    return {"commit": commit, "uncommitted_changes": changed, "versions": versions}
