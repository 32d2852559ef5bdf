"""Finding runs: a run's folder, a folder of runs, or one with a bare .pth. What their config.json says of them."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping, Optional, Sequence

from dataloaders.files import InputError
from dataloaders.reading import file_hash
from dataloaders.registry import DATASETS, DatasetInfo
from utils.reports.results import find_tests
from utils.runs.folder import FREE_ON_RESUME, recorded_flags


@dataclass
class Run:
    """A folder with weights. `group` is shared by the seeds of one setting; `training` tells how it was trained.

    size: what of it is smaller than the paper's, "96x96, 3,000 iterations"; "" at full size and for other datasets than
    the published ones. fault: why its config.json cannot be read.
    """

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
    size: str = ""
    fault: str = ""

    @property
    def home(self) -> Path:
        """The folder that the seeds of its setting share."""
        return self.folder.parent if self.seed else self.folder


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
    stated = [run.config.get("dataset", {"name": info.name, "dims": info.dims}) for run in runs]
    of_dataset = [run for run, dataset in zip(runs, stated) if dataset["name"] == info.name]
    if of_dataset:
        return of_dataset
    if runs:
        others = sorted({(dataset["name"], dataset["dims"]) for dataset in stated})
        use = " or ".join(f"test_{dims}d.py --name {name}" for name, dims in others)
        names = ", ".join(name for name, _ in others)
        raise InputError(f"{folder}: weights of {names}, not of {info.name}: use {use}")
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
    found = sorted({path.parent for path in (*folder.rglob("metrics.jsonl"), *find_tests(folder))})
    if not found:
        raise InputError(f"{folder}: no metrics.jsonl and no test_*/summary.json in it or below, nothing has run yet")
    return found


def describe_run(path: Path, whole: bool = False) -> Optional[Run]:
    """The run in this folder, by its config.json where it has one; None for the first stage of a run of two.

    whole: the first stage too.
    """
    weights = {kind: path / f"{kind}.pth" for kind in ("best", "last") if (path / f"{kind}.pth").exists()}
    stage = path.name if path.name in ("pretrain", "self") else ""
    if stage == "pretrain" and not whole and (path.parent / "self" / "last.pth").exists():
        return None  # only the start of a run of two stages
    folder = path.resolve().parent if stage else path.resolve()
    seed = folder.name if folder.name.startswith("seed_") else ""
    group = folder.parent.name if seed else folder.name
    name = " ".join(part for part in (group, seed, stage if stage == "pretrain" else "") if part)
    run = Run(path, name, group, weights, folder, seed)
    try:
        return _described(run, json.loads((path / "config.json").read_text()), stage)
    except FileNotFoundError:
        return run
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{path / 'config.json'}: not a run's description ({error!r}); restore it or move it away"
        return replace(run, fault=fault)


def _described(run: Run, config: dict, stage: str) -> Run:
    flags = config.get("flags", {})
    if not flags:
        return run
    labelnum = None if flags.get("labeled_cases") is not None else flags.get("labelnum")
    patch = "x".join(str(size) for size in config["dataset"]["patch_size"])
    training = (
        f"{len(config['labelled_cases'])} labelled cases, {flags['max_iterations']} iterations, "
        f"batch {flags['batch_size']}, {patch}, seed {flags['seed']}, code {code_of(config)}"
    )
    preset, network = flags.get("preset"), config.get("network")
    if network and network != usual_network(config):
        training = f"network {network}, {training}"
    if preset:
        training = f"preset {preset}, {training}"
    size = _small_size(config, stage)
    return replace(
        run,
        method=config["method"],
        labelnum=labelnum,
        preset=preset,
        config=config,
        size=size,
        training=training + (f"; {SMALL}" if size else ""),
    )


SMALL = "a small-size check, not the papers' setting"


def train_script(method: str):
    """The train script of a method as a module: it alone knows the paper's sizes and its flags' defaults. Or None."""
    try:
        return importlib.import_module(f"train_{method}")
    except ImportError:
        return None


def usual_network(config: dict) -> Optional[str]:
    """The network that the method's script takes by default on this dataset; None for a method without a script."""
    script, dims = train_script(config.get("method", "")), config.get("dataset", {}).get("dims")
    return None if script is None else script.DEFAULTS.get(dims, {}).get("net")


def _small_size(config: dict, stage: str) -> str:
    """See Run.size."""
    flags, dataset = config["flags"], config["dataset"]
    script, info = train_script(config["method"]), DATASETS.get(dataset.get("name"))
    if script is None or info is None:
        return ""
    paper, patch, parts = {**vars(script.parse_args([])), **script.DEFAULTS[info.dims]}, dataset["patch_size"], []
    if any(size < full for size, full in zip(patch, info.patch_size)):
        parts.append("x".join(map(str, patch)))
    if flags["batch_size"] < paper["batch_size"]:
        parts.append(f"batch {flags['batch_size']}")
    names = [name for name in ("pretrain_iterations", "max_iterations") if name in flags]
    if stage == "pretrain":
        names = ["pretrain_iterations"]
    if any(flags[name] < paper[name] for name in names):
        parts.append(" + ".join(f"{flags[name]:,}" for name in names) + " iterations")
    return ", ".join(parts)


def size_notes(runs: Sequence[Run]) -> list[str]:
    """A note for each size below the papers', naming the settings that have it where not all have the same."""
    named: dict[str, list[str]] = {}
    for run in runs:
        named.setdefault(run.size, []).append(run.group)
    return [
        ("" if len(named) == 1 else f"{', '.join(dict.fromkeys(groups))}: ") + f"{size}: {SMALL}"
        for size, groups in named.items()
        if size
    ]


def disagreement(runs: Sequence[Run]) -> str:
    """Why these runs are not seeds of one setting: the first flag in which two differ; "" where none does.

    A flag that an older run lacks has its default there.
    """
    free = set(FREE_ON_RESUME) - {"max_iterations"} | {"seed", "root_path"}
    flags = [run.config.get("flags", {}) for run in runs]
    known = {key for one in flags for key in one} - free
    if any(known - one.keys() for one in flags if one):
        script = train_script(runs[0].method)
        defaults = vars(script.parse_args([])) if script else {}
        recorded = [recorded_flags(run.config, known) if one else one for run, one in zip(runs, flags)]
        flags = [{**{key: defaults.get(key) for key in known}, **one} if one else one for one in recorded]
    for run, own in zip(runs[1:], flags[1:]):
        for key in sorted(known):
            if own.get(key) != flags[0].get(key):
                return (
                    f"{run.path}: trained with --{key} {own.get(key)}, but {runs[0].path} with "
                    f"{flags[0].get(key)}: not seeds of one setting, so not averaged; move one away, or name the "
                    "folders that belong together"
                )
    return ""


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
            kinds: dict[int, list[str]] = {}
            for summary in summaries:
                if summary["run"].startswith(run.name + " "):
                    kinds.setdefault(summary["iteration"], []).append(summary["run"].split()[-1])
            made = ", ".join(f"{' and '.join(of_one)} at {iteration}" for iteration, of_one in kinds.items())
            notes.append(f"{run.name}: {run.training}; weights of iteration: {made}")
    return notes


def unfinished(run: Run, last: Mapping) -> str:
    """A note where this test of a run's last weights is not one of the end of its training, otherwise ""."""
    wanted, iteration = run.config.get("flags", {}).get("max_iterations"), last["iteration"]
    if not wanted or iteration is None or iteration >= wanted:
        return ""
    weights = run.weights.get("last")
    if weights is not None and last.get("weights_sha256") not in (None, file_hash(weights)):
        return f"{run.name}: TESTED TOO EARLY, at iteration {iteration}; its weights have changed since: test it again"
    return f"{run.name}: NOT FINISHED, iteration {iteration} of {wanted}"
