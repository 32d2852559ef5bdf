"""Finding runs: a run's folder, a folder of runs, or one with a bare .pth."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

from dataloaders.datasets import DatasetInfo
from dataloaders.errors import InputError


@dataclass
class Run:
    """A folder with weights. `group` is shared by the seeds of one setting; `training` tells how it was trained."""

    path: Path
    name: str
    group: str
    weights: dict[str, Path]  # "best", "last" or a bare file's stem -> file
    folder: Path  # the seed's, above the folder of a stage
    seed: str = ""  # of its folder's name
    method: Optional[str] = None
    labelnum: Optional[int] = None
    preset: Optional[str] = None
    config: dict = field(default_factory=dict)
    training: str = ""


def find_runs(folder: Path, info: DatasetInfo) -> list[Run]:
    """The runs of a dataset at or below `folder`, in order of their names.

    `folder` may be any on the way to them: of all datasets, of one, of a method, a seed, a stage. Pre-training counts
    where it is named itself or nothing followed it. Raises InputError, with what was looked for, where there is none.
    """
    script = "train_Ours_MT.py" if info.dims == 2 else "train_DuCiSC.py"
    usual = next((number for number in (5, 6, 8) if number in info.protocols), 8)
    labelled = f"--labelnum {usual}" if info.protocols or info.any_labelnum else "--labeled_cases 4"
    advice = f"train first: python {script} --name {info.name} {labelled}"
    if folder.is_file():
        raise InputError(f"--output_dir {folder}: a file, name the folder that holds it")
    if not folder.is_dir():
        raise InputError(f"--output_dir {folder}: no such folder; {advice}")
    found = sorted({path.parent for name in ("best.pth", "last.pth") for path in folder.rglob(name)})
    runs = [run for run in (describe_run(path, whole=path == folder) for path in found) if run is not None]
    named = [run.config.get("dataset", {}).get("name", info.name) for run in runs]
    of_dataset = [run for run, name in zip(runs, named) if name == info.name]
    if of_dataset:
        return of_dataset
    if runs:
        raise InputError(f"{folder}: weights of {', '.join(sorted(set(named)))}, not of {info.name}; give its --name")
    bare = sorted(path for path in folder.glob("*.pth") if not path.name.startswith("checkpoint"))
    if bare:
        name = folder.resolve().name
        return [Run(folder, name, name, {path.stem: path for path in bare}, folder)]
    raise InputError(
        f"{folder}: no weights found (looked for best.pth and last.pth in it and below, and *.pth in it); {advice}"
    )


def find_records(folder: Path) -> list[Path]:
    """The folders at or below `folder` that hold a run's records or tests, in order: what can be drawn.

    Raises InputError where there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    tests = [path.parent for path in folder.rglob("test_*/summary.json") if not path.parent.suffix]
    found = sorted({path.parent for path in (*folder.rglob("metrics.jsonl"), *tests)})
    if not found:
        raise InputError(f"{folder}: no metrics.jsonl and no test_*/summary.json in it or below, nothing ran yet")
    return found


def describe_run(path: Path, whole: bool = False) -> Optional[Run]:
    """The run in this folder, by its config.json where it has one; None for the first stage of a run of two.

    whole: the first stage too.
    """
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        config = {}
    weights = {kind: path / f"{kind}.pth" for kind in ("best", "last") if (path / f"{kind}.pth").exists()}
    flags = config.get("flags", {})
    stage = path.name if path.name in ("pretrain", "self") else ""
    if stage == "pretrain" and not whole and (path.parent / "self" / "last.pth").exists():
        return None  # only the start of a run of two stages
    folder = path.resolve().parent if stage else path.resolve()
    seed = folder.name if folder.name.startswith("seed_") else ""
    group = folder.parent.name if seed else folder.name
    name = " ".join(part for part in (group, seed, stage if stage == "pretrain" else "") if part)
    if not flags:
        return Run(path, name, group, weights, folder, seed)
    labelnum = None if flags.get("labeled_cases") is not None else flags.get("labelnum")
    patch = "x".join(str(size) for size in config["dataset"]["patch_size"])
    training = (
        f"{len(config['labelled_cases'])} labelled cases, {flags['max_iterations']} iterations, "
        f"batch {flags['batch_size']}, {patch}, seed {flags['seed']}, code {code_of(config)}"
    )
    preset = flags.get("preset")
    if preset:
        training = f"preset {preset}, {training}"
    return Run(path, name, group, weights, folder, seed, config["method"], labelnum, preset, config, training)


def code_of(config: dict) -> str:
    """The code of a run, in words: its commit, and what the commit does not say."""
    starts = [config, *config.get("later_starts", [])]
    text = config["commit"].split(" (")[0][:10]  # or "unknown (not a git checkout)"
    if config.get("uncommitted_changes"):
        text += " with uncommitted changes"
    if len({start.get("code_sha256") or start["commit"] for start in starts}) > 1:
        text += ", resumed under other code"
    return text


def training_notes(runs: Sequence[Run], summaries: Sequence[dict]) -> list[str]:
    """A footnote for each run that tells how its weights were trained."""
    notes = []
    for run in runs:
        if run.training:
            made = [
                f"{s['run'].split()[-1]} at {s['iteration']}" for s in summaries if s["run"].startswith(run.name + " ")
            ]
            notes.append(f"{run.name}: {run.training}; weights of iteration: {', '.join(made)}")
    return notes
