"""A run's folder, the contract between all scripts: its name, config.json, log.txt, metrics.jsonl.

runs/<dataset>/<method>_<labelnum>[_<exp>]/seed_<seed>/ with config.json, log.txt, metrics.jsonl, TensorBoard's
events.*, checkpoint.pth, checkpoint_prev.pth, best.pth, last.pth.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Iterator, Optional

import h5py
import numpy
import PIL
import scipy
import torch
from tqdm import tqdm

from dataloaders.errors import InputError
from dataloaders.writing import write_json, write_text
from utils.device import describe_device

# These flags may differ on resume: they do not change what is computed (max_iterations may only grow).
FREE_ON_RESUME = (
    "gpu", "num_workers", "save_interval", "log_interval", "max_iterations", "output_dir", "stage", "profile",
)  # fmt: skip
# These parts of config.json must agree on resume, and how an error names an entry of each.
FIXED_ON_RESUME = {"flags": "--{}", "lists": "the {} list's SHA-256", "data": "the {} data's SHA-256"}
# Who made a run: these stay as they were at its first start; later starts that differ are listed under later_starts.
MADE_BY = ("command", "commit", "uncommitted_changes", "versions", "device")


def run_path(args: argparse.Namespace, method: str) -> Path:
    """Where a run with these flags lives. A preset's name stands for <exp> unless one is given."""
    amount = f"{args.labeled_cases}cases" if args.labeled_cases is not None else args.labelnum
    exp = args.exp or args.preset
    name = f"{method}_{amount}" + (f"_{exp}" if exp else "")
    return Path(args.output_dir) / args.name / name / f"seed_{args.seed}"


class RunFolder:
    """Opens or creates a run's folder. `config` describes the run; its flags, lists and data must agree on resume.

    Raises InputError, with nothing written, where the folder holds a run of another configuration.
    """

    def __init__(self, path: Path, config: dict):
        self.path = Path(path)
        existing = self._read_config()
        if existing is not None:
            self._compare(existing, config)
            config = _with_history(existing, config)
        elif self.path.exists() and any(self.path.glob("*.pth")):
            raise InputError(f"{self.path}: holds weights but no config.json; move it away or name another --exp")
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", config)

    def _read_config(self) -> Optional[dict]:
        path = self.path / "config.json"
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise InputError(
                f"{path}: not readable as JSON ({error}); move the folder away or name another --exp"
            ) from error

    def _compare(self, old: dict, new: dict) -> None:
        for part, name in FIXED_ON_RESUME.items():
            for key, was, now in differences(old.get(part), new[part]):
                raise InputError(
                    f"{self.path}: this run was made with {name.format(key)} = {was}, now it is {now}; "
                    "give the same to go on, or name another --exp for another run"
                )
        if new["flags"]["max_iterations"] < old["flags"]["max_iterations"]:
            raise InputError(
                f"{self.path}: --max_iterations {new['flags']['max_iterations']} is less than this run's "
                f"{old['flags']['max_iterations']}; it may only grow"
            )

    def say(self, line: str) -> None:
        """Print a line above the progress bar and keep it in log.txt."""
        tqdm.write(line)
        sys.stdout.flush()
        with open(self.path / "log.txt", "a") as file:
            file.write(line + "\n")

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


def differences(old: Optional[dict], new: dict) -> Iterator[tuple]:
    """(key, was, now) of what may not differ on resume; nothing where the old run did not record this part."""
    if old is not None:
        for key in sorted({*old, *new} - set(FREE_ON_RESUME)):
            if old.get(key) != new.get(key):
                yield key, old.get(key), new.get(key)


def _with_history(old: dict, new: dict) -> dict:
    """The new description with the first start's MADE_BY, and this start's among the later ones if it is another."""
    first, this = ({key: config.get(key) for key in MADE_BY} for config in (old, new))
    later = old.get("later_starts", [])
    if this not in (first, *later):
        later = [*later, this]
    return {**new, **first, **({"later_starts": later} if later else {})}


def open_run(
    args: argparse.Namespace, method: str, network: str, data, student, device, path: Optional[Path] = None
) -> tuple[RunFolder, dict]:
    """Open the folder of this run and say what it is going to do, before the first step.

    `data` is a TrainingData; `path` defaults to the run's own. Returns the folder and the description that goes into
    the weights files. Raises InputError, with nothing written, where the folder holds another configuration.
    """
    info = data.info
    dataset = {"name": info.name, "dims": info.dims, "classes": list(info.classes), "patch_size": list(data.patch_size)}
    dataset["stride"] = list(info.stride) if info.dims == 3 else None
    dataset["preparation"] = data.preparation and asdict(data.preparation)
    dataset["orientation"] = data.orientation
    description = {"method": method, "network": network, "dataset": dataset, "selection": data.selection_rule}
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
        **environment(),
    }
    run = RunFolder(path or run_path(args, method), config)
    run.say(f"{method} -> {run.path}")
    run.say("flags: " + " ".join(f"{key}={value}" for key, value in sorted(config["flags"].items())))
    for line in data.summary:
        run.say(line)
    if device.type == "cpu":
        run.say("WARNING: NO CUDA DEVICE IS USED, too slow for full-size training")
    changed = " with uncommitted changes" if config["uncommitted_changes"] else ""
    run.say(f"network: {network}, {parameters:,} parameters; {config['device']}; commit {config['commit']}{changed}")
    return run, description


def read_metrics(path: Path) -> list[dict]:
    """The whole rows of a metrics.jsonl, in order."""
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
    root = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
        changed: Optional[bool] = bool(changes.stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        commit, changed = "unknown (not a git checkout)", None
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    versions.update(cudnn=torch.backends.cudnn.version(), numpy=numpy.__version__, scipy=scipy.__version__)
    versions.update(h5py=h5py.__version__, pillow=PIL.__version__, platform=f"{platform.system()} {platform.machine()}")
    return {"commit": commit, "uncommitted_changes": changed, "versions": versions}
