"""From case results to means, files and tables. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Iterable, NamedTuple, Optional, Sequence

import h5py
import numpy as np

from dataloaders.datasets import DATASETS
from dataloaders.errors import InputError
from dataloaders.writing import write_json
from utils.evaluation import CaseResult, defined_mean

DISTANCES = ("hd95", "asd")
PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "published.json"


def spread(values: np.ndarray) -> Optional[float]:
    """The sample standard deviation of what is defined, None below two values."""
    values = values[~np.isnan(values)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _number(value: float) -> Optional[float]:
    return None if np.isnan(value) else float(value)


def summarise(results: Sequence[CaseResult], classes: Sequence[str], empty: str = "ours") -> dict:
    """Means and standard deviations over cases, by class and overall (a mean over classes).

    empty "ours": undefined distances are left out and counted, and a second mean puts the volume's diagonal in their
    place where one of the two masks is empty. empty "release": as the released programs, distance 0.
    """
    pred_empty = np.stack([result.pred_empty for result in results])
    label_empty = np.stack([result.label_empty for result in results])
    one_empty = pred_empty ^ label_empty
    diagonals = np.array([result.diagonal for result in results])[:, None]
    metrics = {}
    for name in results[0].values:
        table = np.stack([result.values[name] for result in results])  # cases, classes
        if empty == "release" and name in DISTANCES:
            table = np.where(np.isnan(table), 0.0, table)
        entry = means(table, classes)
        if empty == "ours" and name in DISTANCES and one_empty.any():
            entry["mean_with_penalty"] = _number(defined_mean(defined_mean(np.where(one_empty, diagonals, table))))
        metrics[name] = entry
    return {
        "cases": len(results),
        "classes": list(classes),
        "metrics": metrics,
        "empty_rule": empty,
        "empty_predictions": dict(zip(classes, (pred_empty & ~label_empty).sum(axis=0).tolist())),
        "predictions_of_absent_classes": dict(zip(classes, (~pred_empty & label_empty).sum(axis=0).tolist())),
    }


def means(table: np.ndarray, classes: Sequence[str]) -> dict:
    """Of one metric's table (cases, classes): mean and standard deviation over cases, overall and by class."""
    by_class = {
        label: {"mean": _number(defined_mean(column)), "std_over_cases": spread(column)}
        for label, column in zip(classes, table.T)
    }
    return {
        "mean": _number(defined_mean(defined_mean(table))),  # over cases, then over classes
        "std_over_cases": spread(defined_mean(table, axis=1)),
        "by_class": by_class,
    }


def write_results(
    folder: Path, evaluated: Iterable[tuple[CaseResult, np.ndarray]], classes: Sequence[str], empty: str, about: dict
) -> dict:
    """Write per_case.csv, summary.json and predictions/ of what `evaluate` yields; returns the summary.

    As one folder: the old one stays until the new one is whole. Predictions are written as they come. `about` goes
    into the summary.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "predictions").mkdir(parents=True)
    results = []
    for result, pred in evaluated:
        results.append(result)
        with h5py.File(new / "predictions" / f"{result.name}.h5", "w") as file:
            file.create_dataset("prediction", data=pred, compression="gzip")
    summary = {**about, **summarise(results, classes, empty)}
    write_json(new / "summary.json", summary)
    with open(new / "per_case.csv", "w", newline="") as file:
        writer = csv.writer(file)
        names = list(results[0].values)
        writer.writerow(["case", "class", *names, "prediction_empty", "label_empty"])
        for result in results:
            for index, label in enumerate(classes):
                values = [result.values[name][index] for name in names]
                empties = int(result.pred_empty[index]), int(result.label_empty[index])
                writer.writerow(
                    [result.name, label, *("" if np.isnan(v) else repr(float(v)) for v in values), *empties]
                )
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
    return summary


class Results(NamedTuple):
    """What `write_results` wrote. tables: metric -> (cases, classes), NaN where a distance is undefined."""

    folder: Path
    summary: dict
    cases: list
    tables: dict


def read_results(folder: Path) -> Results:
    """Read a test's summary.json and per_case.csv; raises InputError that names the file if one is damaged."""
    try:
        path = folder / "summary.json"
        summary = json.loads(path.read_text())
        classes, metrics = summary["classes"], list(summary["metrics"])
        path = folder / "per_case.csv"
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        cases = list(dict.fromkeys(row["case"] for row in rows))
        names = [(row["case"], row["class"]) for row in rows]
        if len(cases) != summary["cases"] or names != [(case, label) for case in cases for label in classes]:
            raise ValueError(f"expected a row for each case and each of {', '.join(classes)}, in this order")
        tables = {
            name: np.array([float(row[name] or "nan") for row in rows]).reshape(len(cases), len(classes))
            for name in metrics
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a test's result, test the run again ({error})") from error
    if summary["empty_rule"] == "release":
        tables.update({name: np.nan_to_num(tables[name], nan=0.0) for name in DISTANCES if name in tables})
    return Results(Path(folder), summary, cases, tables)


def published_rows(dataset: str, settings: Iterable[tuple]) -> list[dict]:
    """The published results of these (method, labelnum, preset) and of the neighbours on the same splits.

    The full method's row stands beside its presets, too. From results/published.json; empty where nothing is published.
    """
    wanted = set()
    for method, labelnum, preset in settings:
        if method is not None:
            wanted |= {(method, labelnum, preset), (method, labelnum, None), ("neighbour", labelnum, None)}
    rows = json.loads(PUBLISHED.read_text())["rows"]
    return [
        row
        for row in rows
        if row["dataset"] == dataset and (row["method"], row["labelnum"], row.get("preset")) in wanted
    ]


COLUMNS = {"dice": "DSC %", "jaccard": "Jaccard %", "hd95": "95HD ({unit})", "asd": "ASD ({unit})"}


def table_header(classes: Sequence[str], unit: str, columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """The columns of the rows below: the metrics chosen, then Dice by class, then the number of empty predictions."""
    return ["", *(COLUMNS[name].format(unit=unit) for name in columns), *(f"{label} %" for label in classes), "empty"]


def table_row(
    name: str, summary: dict, columns: Sequence[str] = tuple(COLUMNS), class_spread: bool = False
) -> list[str]:
    """One row of `format_table`: mean ± standard deviation over cases, overlaps in per cent.

    class_spread: the classes' standard deviations, too.
    """
    metrics, classes = summary["metrics"], summary["classes"]
    cells = [_cell(metrics[metric]["mean"], metrics[metric]["std_over_cases"], metric) for metric in columns]
    for entry in (metrics["dice"]["by_class"][label] for label in classes):
        cells.append(_cell(entry["mean"], entry["std_over_cases"] if class_spread else None, "dice"))
    return [name, *cells, str(sum(summary["empty_predictions"].values()))]


def over_runs(values: Iterable[Optional[float]]) -> tuple[Optional[float], Optional[float]]:
    """Mean and sample standard deviation of the runs' values that are defined; None where too few are."""
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    return _number(defined_mean(array)), spread(array)


def over_runs_row(name: str, summaries: Sequence[dict], columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """Mean ± sample standard deviation over runs (seeds) of one setting; of a single run the mean alone."""
    metrics = [summary["metrics"] for summary in summaries]
    cells = [_cell(*over_runs(entry[metric]["mean"] for entry in metrics), metric) for metric in columns]
    for label in summaries[0]["classes"]:
        cells.append(_cell(*over_runs(entry["dice"]["by_class"][label]["mean"] for entry in metrics), "dice"))
    return [name, *cells, str(sum(sum(summary["empty_predictions"].values()) for summary in summaries))]


def published_row(row: dict, classes: Sequence[str], columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """The same of a published result, whose numbers are in per cent already; `-` where none is published."""
    values = [row.get(metric) for metric in columns]
    values += [row.get("by_class", {}).get(label) for label in classes]
    per_cent = " %" if DATASETS[row["dataset"]].labelnum_unit == "per cent" else ""
    return [
        f"published: {row['name']}, {row['labelnum']}{per_cent}",
        *("-" if value is None else f"{value:.2f}" for value in values),
        "-",
    ]


def _cell(mean: Optional[float], std: Optional[float], metric: str) -> str:
    if mean is None:
        return "undefined"
    scale = 1 if metric in DISTANCES else 100
    return f"{mean * scale:.2f}" + ("" if std is None else f" ± {std * scale:.2f}")


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text, the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def footnotes(summaries: Sequence[dict], spread_over: str = "standard deviation over cases") -> list[str]:
    """What a reader has to know to trust a table of these summaries, all of one dataset, test list and rule."""
    first = summaries[0]
    expected = DATASETS[first["dataset"]].expected if first["dataset"] in DATASETS else {}
    undefined = "undefined and left out" if first["empty_rule"] == "ours" else "0, as in the releases (--empty release)"
    published = expected.get("test", first["cases"])
    count = f"{first['cases']} test volumes"
    if first["cases"] != published:
        count += f", not the {published} of the published list"
    notes = [
        f"{first['dataset']}, {count}; mean ± {spread_over}; classes by label "
        "value: " + ", ".join(f"{index + 1} {label}" for index, label in enumerate(first["classes"])),
        f"empty: predictions that miss a class the case has; distances to an empty mask are {undefined}",
    ]
    windows = dict.fromkeys(summary.get("windows") or "" for summary in summaries)
    notes += [text for text in windows if text]
    if first["nms"]:
        notes.append("kept of a prediction: the largest object of each class (--nms)")
    notes += dict.fromkeys(summary["note"] for summary in summaries if summary.get("note"))
    best = [summary for summary in summaries if summary.get("selection") and summary["run"].endswith(" best")]
    unchosen = [summary for summary in best if summary.get("val_dice", 0) is None]
    for rule in dict.fromkeys(summary["selection"] for summary in best if summary not in unchosen):
        notes.append(f"best: chosen by {rule}; last: the end of training, not chosen")
    if unchosen:
        names = ", ".join(summary["run"] for summary in unchosen)
        notes.append(f"{names}: not chosen: no validation was run, these are the last weights")
    for summary in summaries:
        penalty = summary["metrics"]["asd"].get("mean_with_penalty")
        if penalty is not None:
            hd95 = summary["metrics"]["hd95"]["mean_with_penalty"]
            notes.append(
                f"{summary['run']}: with the volume's diagonal for empty masks 95HD {hd95:.2f}, ASD {penalty:.2f}"
            )
    return notes
