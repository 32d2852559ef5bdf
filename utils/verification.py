"""Is a test's result what its weights give? Tests them again, elsewhere, and compares number by number."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Iterator, Mapping

import numpy as np

from dataloaders.errors import InputError
from dataloaders.reading import file_hash
from utils.reports import Results, read_results
from utils.testing import MakePredictor, open_test_list, score_weights

TOLERANCE = 1e-6  # relative; the same device gives the very numbers, another one may round otherwise
HASHES = {"test_list_sha256": "the test list", "test_data_sha256": "the test data"}


def verify_run(path: Path, predictors: Mapping[int, MakePredictor]) -> Iterator[tuple[Results, list[str]]]:
    """Every test at or below this folder with what differs now: nothing where the table is the same.

    predictors: of the test scripts, by the data's dimension. The flags are those of the test; the run is not touched.
    Raises InputError where nothing was tested, or by a version that did not record its flags.
    """
    folders = [file.parent for file in sorted(Path(path).rglob("test_*/summary.json")) if not file.parent.suffix]
    if not folders:
        raise InputError(f"{path}: no test_*/summary.json at or below; test it first")
    opened: dict[str, tuple] = {}
    for folder in folders:
        stored = read_results(folder)
        flags, weights = stored.summary.get("flags"), folder.parent / stored.summary["weights"]
        if flags is None:
            raise InputError(f"{folder}: tested by a version that did not record its flags; test the run again")
        if not weights.is_file():
            raise InputError(f"{weights}: no such weights, {folder.name} cannot be verified")
        args = argparse.Namespace(**{**flags, "gpu": None})
        data = args.name, args.root_path, args.test_list
        if str(data) not in opened:
            opened[str(data)] = open_test_list(args)
        volumes, device, about = opened[str(data)]
        found = [
            f"{what}: SHA-256 was {stored.summary[key]}, now {about[key]}"
            for key, what in HASHES.items()
            if stored.summary[key] != about[key]
        ]
        if stored.summary["weights_sha256"] != file_hash(weights):
            found.append(f"{weights.name}: SHA-256 is not the one that was tested, {stored.summary['weights_sha256']}")
        with tempfile.TemporaryDirectory() as temporary:
            new = Path(temporary) / folder.name
            predict = predictors[volumes.info.dims]
            score_weights(weights, new, volumes, args, device, {**about, "run": stored.summary["run"]}, predict)
            found += differences(stored, read_results(new))
        if found and stored.summary["device"] != about["device"]:
            found.append(f"{stored.summary['device']} then, {about['device']} now: rounding may differ")
        yield stored, found


def differences(stored: Results, new: Results) -> list[str]:
    """What differs between two results, in words: cases, classes, numbers of per_case.csv and of summary.json."""
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
    for key in ("metrics", "empty_predictions", "predictions_of_absent_classes"):
        was, now = _numbers(stored.summary[key]), _numbers(new.summary[key])
        for name in sorted({*was, *now}):
            pair = [np.nan if values.get(name) is None else values[name] for values in (was, now)]
            if not np.isclose(*pair, rtol=TOLERANCE, atol=1e-9, equal_nan=True):
                found.append(f"summary.json: {key} {name}: {pair[0]:.6g}, now {pair[1]:.6g}")
    return found


def _numbers(tree: dict, prefix: str = "") -> dict:
    """A nested dictionary as one of paths."""
    flat = {}
    for key, value in tree.items():
        flat.update(_numbers(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
