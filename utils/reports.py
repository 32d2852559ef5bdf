"""From case results to means, files and tables. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Iterable, Optional, Sequence

import h5py
import numpy as np

from dataloaders.datasets import DATASETS
from utils.checkpoints import save_json
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
        entry = _means(table, classes)
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


def _means(table: np.ndarray, classes: Sequence[str]) -> dict:
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
    save_json(summary, new / "summary.json")
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


def published_rows(dataset: str, settings: Iterable[tuple[Optional[str], Optional[int]]]) -> list[dict]:
    """The published results of these (method, labelnum) and of the neighbours on the same splits.

    From results/published.json; empty where nothing is published.
    """
    settings = set(settings)
    wanted = settings | {("neighbour", labelnum) for method, labelnum in settings if method is not None}
    rows = json.loads(PUBLISHED.read_text())["rows"]
    return [row for row in rows if row["dataset"] == dataset and (row["method"], row["labelnum"]) in wanted]


COLUMNS = {"dice": "DSC %", "jaccard": "Jaccard %", "hd95": "95HD ({unit})", "asd": "ASD ({unit})"}


def table_header(classes: Sequence[str], unit: str, columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """The columns of the rows below: the metrics chosen, then Dice by class, then the number of empty predictions."""
    return ["", *(COLUMNS[name].format(unit=unit) for name in columns), *(f"{label} %" for label in classes), "empty"]


def table_row(name: str, summary: dict, columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """One row of `format_table`: mean ± standard deviation over cases, overlaps in per cent."""
    metrics, classes = summary["metrics"], summary["classes"]
    cells = [_cell(metrics[metric]["mean"], metrics[metric]["std_over_cases"], metric) for metric in columns]
    cells += [_cell(metrics["dice"]["by_class"][label]["mean"], None, "dice") for label in classes]
    return [name, *cells, str(sum(summary["empty_predictions"].values()))]


def over_runs_row(name: str, summaries: Sequence[dict], columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """Mean ± sample standard deviation over runs (seeds) of one setting."""

    def over_runs(pick, metric):
        values = np.array(
            [np.nan if pick(s["metrics"]) is None else pick(s["metrics"]) for s in summaries], dtype=float
        )
        return _cell(_number(defined_mean(values)), spread(values), metric)

    cells = [over_runs(lambda metrics, metric=metric: metrics[metric]["mean"], metric) for metric in columns]
    for label in summaries[0]["classes"]:
        cells.append(over_runs(lambda metrics, label=label: metrics["dice"]["by_class"][label]["mean"], "dice"))
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
