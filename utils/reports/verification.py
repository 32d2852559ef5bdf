"""Is a test's result what its weights give? Tests them again, elsewhere, and compares all that a table shows. MedPy
also computes the metrics of the saved label maps with MedPy, the reference implementation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

import h5py
import numpy as np

from dataloaders.datasets import VolumeDataset
from dataloaders.files import InputError
from dataloaders.reading import file_hash, read_list
from dataloaders.registry import find_root, get_dataset, labelled_cases
from dataloaders.training_data import require_list
from utils.evaluation.metrics import HD95
from utils.reports.results import Results, find_tests, read_results
from utils.reports.runs import Run, describe_run
from utils.reports.testing import open_test_list, score_weights
from utils.runs.weights import WeightsFile

TOLERANCE = 1e-6  # relative; the same device gives the very numbers, another one may round otherwise
# Of a summary.json: numbers by class, which have their own messages, and how the test was started: nothing proves it.
NUMBERS = ("metrics", "empty_predictions", "predictions_of_absent_classes")
STARTED = ("command", "flags", "versions", "commit", "uncommitted_changes", "device", "root", "test_list")
DEFAULTS = {"hd95": HD95[0], "kind": "", "windows": ""}  # of summaries that lack them
UNPROVEN = "the training's flags, commit, versions and device; the test's command, commit, versions and device"


class Verdict(NamedTuple):
    """About one test folder: a line that says how it ended, what differs, and what nothing allows to check."""

    folder: Path
    state: str
    found: list[str]
    unverifiable: list[str]


def verify_run(path: Path) -> Iterator[Verdict]:
    """A verdict on every test at or below this folder. The flags are those of the test; the run is not touched.

    Raises InputError where nothing was tested.
    """
    folders = find_tests(path)
    if not folders:
        raise InputError(f"{path}: no test_*/summary.json at or below; test it first")
    opened: dict[str, tuple] = {}
    for folder in folders:
        try:
            stored = read_results(folder)
            weights = _tested_weights(stored)
            found, unverifiable = verify_training(folder.parent, weights)
            found = _verify_test(stored, weights, opened) + found
            recomputed = has_medpy()
            if recomputed:
                found += medpy_differences(stored, opened[_key(stored)][0])
            missing = [] if recomputed else ["the metrics by MedPy: not installed"]
            unverifiable = _moved(stored) + unverifiable + missing
        except InputError as error:
            yield Verdict(folder, "CANNOT BE VERIFIED", [str(error)], [])
            continue
        dice = stored.summary["metrics"]["dice"]["mean"]
        same = f"the same: {len(stored.cases)} cases, {len(stored.tables)} metrics, Dice {dice * 100:.2f} %"
        same += ", recomputed with MedPy" if recomputed else ""
        yield Verdict(folder, "DIFFERS" if found else same, found, unverifiable)


def _tested_weights(stored: Results) -> Path:
    """The weights file of a test; raises InputError where it is missing or the flags of the test are."""
    weights = stored.folder.parent / f"{stored.folder.name[len('test_') :]}.pth"
    if stored.summary.get("flags") is None:
        raise InputError(f"{stored.folder}: tested by a version that did not record its flags; test the run again")
    if not weights.is_file():
        raise InputError(f"{weights}: no such weights, {stored.folder.name} cannot be verified")
    return weights


def _key(stored: Results) -> str:
    return json.dumps(stored.summary["flags"], sort_keys=True)


def _named(folder: Path) -> str:
    """What a test in this folder calls its run."""
    run = describe_run(folder.parent)
    return f"{run.name if run else folder.parent.resolve().name} {folder.name[len('test_') :]}"


def _moved(stored: Results) -> list[str]:
    was, now = stored.summary["run"], _named(stored.folder)
    return [] if was == now else [f"run: {was}; by its folder it is {now}"]


def _verify_test(stored: Results, weights: Path, opened: dict) -> list[str]:
    """What differs when these weights are tested again. opened: test lists that were read, by their flags."""
    folder, flags = stored.folder, stored.summary["flags"]
    try:
        args = argparse.Namespace(**{"hd95": HD95[0], "save_nifti": False, **flags, "gpu": None})
        key = _key(stored)
        if key not in opened:
            opened[key] = open_test_list(args)
        volumes, device, about = opened[key]
        about = {**about, "run": _named(folder)}
        with tempfile.TemporaryDirectory() as temporary:
            new = Path(temporary) / folder.name
            score_weights(weights, new, volumes, args, device, about)
            found = differences(stored, read_results(new))
            found += prediction_differences(folder / "predictions", new / "predictions", stored.cases)
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'summary.json'}: its flags are not those of a test ({error!r})") from error
    if stored.summary.get("weights_sha256") != file_hash(weights):
        found.insert(
            0, f"{weights.name}: SHA-256 is not the one that was tested, {stored.summary.get('weights_sha256')}"
        )
    if found and stored.summary.get("device") != about["device"]:
        found.append(f"{stored.summary.get('device')} then, {about['device']} now: rounding may differ")
    return found


def differences(stored: Results, new: Results) -> list[str]:
    """What differs between two results, in words: cases, classes, numbers of per_case.csv, entries of summary.json."""
    for what, was, now in (
        ("cases", stored.cases, new.cases),
        ("classes", stored.summary["classes"], new.summary["classes"]),
    ):
        if was != now:
            return [f"the {what}: {len(was)} then, {len(now)} now, or in another order"]
    found = []
    for metric, table in stored.tables.items():
        equal = np.isclose(table, new.tables[metric], rtol=TOLERANCE, atol=1e-9, equal_nan=True)
        if not equal.all():
            case, label = np.argwhere(~equal)[0]
            was, now = table[case, label], new.tables[metric][case, label]
            found.append(
                f"per_case.csv: {metric} in {(~equal).sum()} of {equal.size} places, first {stored.cases[case]} "
                f"{stored.summary['classes'][label]}: {was:.6g}, now {now:.6g}"
            )
    for key in NUMBERS:
        was, now = _numbers(stored.summary[key]), _numbers(new.summary[key])
        for name in sorted({*was, *now}):
            pair = [np.nan if values.get(name) is None else values[name] for values in (was, now)]
            if not np.isclose(*pair, rtol=TOLERANCE, atol=1e-9, equal_nan=True):
                found.append(f"summary.json: {key} {name}: {pair[0]:.6g}, now {pair[1]:.6g}")
    for key in sorted({*stored.summary, *new.summary} - {*NUMBERS, *STARTED, "weights_sha256"}):
        was, now = (summary.get(key, DEFAULTS.get(key)) for summary in (stored.summary, new.summary))
        if key == "run":  # a folder may have been moved since, but best stays best
            was, now = was.split()[-1], now.split()[-1]
        if was != now:
            found.append(f"summary.json: {key}: {was}, now {now}")
    return found


def prediction_differences(stored: Path, new: Path, cases: Sequence[str]) -> list[str]:
    """A line where saved label maps are not those that the weights give: how many, and the first one's voxels."""
    found = []
    for case in cases:
        try:
            with h5py.File(stored / f"{case}.h5", "r") as was, h5py.File(new / f"{case}.h5", "r") as now:
                pair = was["prediction"][()], now["prediction"][()]
            if pair[0].shape != pair[1].shape:
                found.append(f"{case}.h5 has the shape {pair[0].shape}, now {pair[1].shape}")
            elif (pair[0] != pair[1]).any():
                found.append(f"{case}.h5 in {np.count_nonzero(pair[0] != pair[1])} of {pair[0].size} voxels")
        except (OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            found.append(f"{case}.h5 cannot be read ({error})")
    return [f"predictions: {len(found)} of {len(cases)} differ, first {found[0]}"] if found else []


def has_medpy() -> bool:
    return importlib.util.find_spec("medpy") is not None


def medpy_metrics(pred: np.ndarray, label: np.ndarray, spacing=None, names: Optional[Sequence[str]] = None) -> dict:
    """MedPy's metrics of two boolean masks, neither of them empty; all that it has by default."""
    from medpy import metric

    functions = {
        "dice": metric.dc,
        "jaccard": metric.jc,
        "hd95": lambda a, b: metric.hd95(a, b, spacing),
        "asd": lambda a, b: metric.asd(a, b, spacing),
    }
    return {name: float(functions[name](pred, label)) for name in names or functions}


def medpy_differences(stored: Results, volumes: VolumeDataset) -> list[str]:
    """A line where MedPy gives the saved label maps other metrics than per_case.csv holds: how many, and the first.

    Where a mask is empty MedPy has no value, and --hd95 max is not its definition: these are left out.
    """
    flags, found, count = stored.summary["flags"], [], 0
    names = [name for name in ("dice", "jaccard", "hd95", "asd") if name != "hd95" or stored.summary["hd95"] == HD95[0]]
    for row, case in enumerate(volumes):
        scale = None if flags["unit"] == "voxel" else tuple(flags.get("spacing") or case.spacing)
        try:
            with h5py.File(stored.folder / "predictions" / f"{case.name}.h5", "r") as file:
                pred = file["prediction"][()]
        except (OSError, KeyError):
            continue  # named by prediction_differences
        for index, label in enumerate(stored.summary["classes"]):
            masks = pred == index + 1, case.label == index + 1
            if not all(mask.any() for mask in masks):
                continue
            for name, value in medpy_metrics(*masks, scale, names).items():
                count += 1
                ours = stored.tables[name][row, index]
                if not np.isclose(ours, value, rtol=TOLERANCE, atol=1e-9):
                    found.append(f"{name} of {case.name} {label}: {ours:.6g}, MedPy {value:.6g}")
    return [f"per_case.csv: MedPy differs in {len(found)} of {count} values, first {found[0]}"] if found else []


def _numbers(tree: dict, prefix: str = "") -> dict:
    """A nested dictionary as one of paths."""
    flat = {}
    for key, value in tree.items():
        flat.update(_numbers(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def verify_training(folder: Path, weights: Path) -> tuple[list[str], list[str]]:
    """What a run's config.json says otherwise than its weights, log and training list; what none of these tells."""
    run = describe_run(folder)
    if run is None or not (run.config or run.fault):
        return [], ["how the weights were trained: no config.json"]
    if run.fault:
        return [run.fault], []
    config, meta = run.config, WeightsFile.read(weights).meta
    meta = json.loads(
        json.dumps({key: meta[key] for key in ("method", "network", "dataset", "selection") if key in meta})
    )
    found = [
        f"config.json: {key}: {config.get(key)}, {weights.name} has {value}"
        for key, value in meta.items()
        if config.get(key) != value
    ]
    if run.seed and run.seed != f"seed_{config['flags'].get('seed')}":
        found.append(f"config.json: seed: {config['flags'].get('seed')}, its folder is {run.seed}")
    unverifiable = []
    try:
        listed = _labelled(run)
        if config.get("labelled_cases") != listed:
            shown = ", ".join(map(str, config.get("labelled_cases") or ["none"]))
            found.append(f"config.json: labelled_cases: {shown}; the training list gives {', '.join(listed)}")
    except (InputError, AttributeError, TypeError) as error:
        unverifiable.append(f"labelled_cases: {error}")
    agrees = _log_differences(run)
    found += agrees or []
    log = "log.txt says the same of flags and commit" if agrees == [] else "log.txt differs"
    unverifiable.append(f"{UNPROVEN} ({'no log.txt' if agrees is None else log})")
    return found, unverifiable


def _labelled(run: Run) -> list[str]:
    """The labelled cases as the run's flags and the present training list give them."""
    flags = argparse.Namespace(**run.config["flags"])
    info = get_dataset(flags.name, flags.root_path)
    entries = read_list(require_list(info, find_root(info, flags.root_path), "train", flags.train_list))
    return labelled_cases(info, entries, flags.labelnum, flags.labeled_cases)[0]


def _log_differences(run: Run) -> Optional[list[str]]:
    """What log.txt says otherwise than config.json of the last start's flags and the first start's commit."""
    try:
        lines = (run.path / "log.txt").read_text().splitlines()
        flags = [line for line in lines if line.startswith("flags: ")][-1]
        commit = [match[1] for match in (re.search(r"; commit (.+)$", line) for line in lines) if match][0]
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    changed = " with uncommitted changes" if run.config.get("uncommitted_changes") else ""
    pairs = {
        "flags": (" ".join(f"{key}={value}" for key, value in sorted(run.config["flags"].items())), flags[7:]),
        "commit": (f"{run.config.get('commit')}{changed}", commit),
    }
    return [f"config.json: {key}: {was}; log.txt has {now}" for key, (was, now) in pairs.items() if was != now]
