"""From case results to means, files and tables. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from dataloaders.files import InputError, csv_text, write_arrays, write_json, write_text
from dataloaders.registry import DATASETS
from utils.evaluation.evaluate import CaseResult, defined_mean
from utils.evaluation.metrics import HD95, METRICS

BUILT_IN = {"dice", "jaccard", "hd95", "asd"}  # in every test; further metrics may have been added since, or removed
DISTANCES = tuple(name for name, metric in METRICS.items() if metric.is_distance)
PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published.json"


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
    folder: Path,
    evaluated: Iterable[tuple[CaseResult, np.ndarray]],
    classes: Sequence[str],
    empty: str,
    about: dict,
    save: Optional[Callable[[Path, str, np.ndarray], None]] = None,
) -> dict:
    """Write per_case.csv, summary.json and predictions/ of what `evaluate` yields; returns the summary.

    As one folder: the old one stays until the new one is whole. Predictions are written as they come. `about` goes
    into the summary. save(folder, case, prediction) may write more of each prediction.
    """
    with _whole_folder(folder) as new:
        results = []
        for result, pred in evaluated:
            results.append(result)
            write_arrays(new / "predictions" / f"{result.name}.h5", {"prediction": pred})
            if save is not None:
                save(new, result.name, pred)
        summary = {**about, **summarise(results, classes, empty)}
        write_json(new / "summary.json", summary)
        names = list(results[0].values)
        rows = [["case", "class", *names, "prediction_empty", "label_empty"]]
        for result in results:
            for index, label in enumerate(classes):
                values = [float(result.values[name][index]) for name in names]
                empties = int(result.pred_empty[index]), int(result.label_empty[index])
                rows.append([result.name, label, *("" if np.isnan(v) else v for v in values), *empties])
        write_text(new / "per_case.csv", csv_text(rows))
    return summary


def copy_results(source: Path, folder: Path, about: dict) -> dict:
    """Write what `write_results` wrote into `source` as another test of the same network; returns its summary."""
    with _whole_folder(folder) as new:
        shutil.copytree(source, new)
        summary = {**json.loads((source / "summary.json").read_text()), **about}
        write_json(new / "summary.json", summary)
    return summary


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """The name of a folder to make, which takes the place of `folder` when the block ends."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    yield new
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def find_tests(folder: Path) -> list[Path]:
    """The folders of the tests at or below this folder, in order, without any that is being written or replaced."""
    tests = (path.parent for path in sorted(Path(folder).rglob("test_*/summary.json")))
    return [test for test in tests if test.suffix not in (".new", ".old")]


class Results(NamedTuple):
    """What `write_results` wrote. tables: metric -> (cases, classes), NaN where a distance is undefined."""

    folder: Path
    summary: dict
    cases: list
    tables: dict


# The types of what a summary.json holds next to numbers by class, as far as tables show it; OPTIONAL may be missing.
SUMMARY = {"dataset": str, "run": str, "unit": str, "empty_rule": str, "cases": int, "nms": bool, "classes": list}
OPTIONAL = {"iteration": int, "selection": str, "note": str, "kind": str, "windows": str, "hd95": str, "method": str}
OPTIONAL.update(val_dice=float, weights=str, flags=dict, device=str)


def check_summary(summary: dict) -> None:
    """Raise ValueError, or KeyError, where a summary is not what `write_results` writes."""
    given = {name: summary[name] for name in OPTIONAL if summary.get(name) is not None}
    if "iteration" not in summary:
        raise KeyError("iteration")
    for name, value in {**given, **{name: summary[name] for name in SUMMARY}}.items():
        if type(value) is not {**SUMMARY, **OPTIONAL}[name]:
            raise ValueError(f"'{name}' is {json.dumps(value)}")
    for name, known in {"hd95": HD95, "empty_rule": ("ours", "release")}.items():
        if summary.get(name, known[0]) not in known:
            raise ValueError(f"'{name}' is {json.dumps(summary[name])}, not {' or '.join(known)}")
    classes = summary["classes"]
    counts = {name: summary[name] for name in ("empty_predictions", "predictions_of_absent_classes")}
    for name, values in counts.items():
        if not isinstance(values, dict) or list(values) != classes or {type(v) for v in values.values()} != {int}:
            raise ValueError(f"'{name}' is {json.dumps(values)}, not a number for each of {', '.join(classes)}")
    if not BUILT_IN <= summary["metrics"].keys():
        raise ValueError(f"'metrics' has {', '.join(summary['metrics'])}, not all of {', '.join(sorted(BUILT_IN))}")
    for name, entry in summary["metrics"].items():
        entries = {"": entry, **entry["by_class"]}
        if list(entry["by_class"]) != classes:
            raise ValueError(f"'metrics' has other classes in {name}")
        for where, values in entries.items():
            numbers = [values["mean"], values["std_over_cases"], values.get("mean_with_penalty")]
            if not all(value is None or type(value) in (int, float) for value in numbers):
                raise ValueError(f"'metrics' holds {json.dumps(numbers)} in {name} {where}".rstrip())


def read_results(folder: Path) -> Results:
    """Read a test's summary.json and per_case.csv; raises InputError that names the file if one is damaged."""
    try:
        path = folder / "summary.json"
        summary = json.loads(path.read_text())
        check_summary(summary)
        classes, stored = summary["classes"], summary["metrics"]
        undefined = means(np.full((1, len(classes)), np.nan), classes)
        summary["metrics"] = {name: stored.get(name, undefined) for name in METRICS}
        path = folder / "per_case.csv"
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        cases = list(dict.fromkeys(row["case"] for row in rows))
        names = [(row["case"], row["class"]) for row in rows]
        if len(cases) != summary["cases"] or names != [(case, label) for case in cases for label in classes]:
            raise ValueError(f"expected a row for each case and each of {', '.join(classes)}, in this order")
        tables = {
            name: np.array([float(row[name] or "nan") if name in stored else np.nan for row in rows])
            for name in METRICS
        }
        tables = {name: values.reshape(len(cases), len(classes)) for name, values in tables.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a test's result, test the run again ({what})") from error
    if summary["empty_rule"] == "release":
        tables.update({name: np.nan_to_num(tables[name], nan=0.0) for name in DISTANCES if name in tables})
    return Results(Path(folder), summary, cases, tables)


def published_rows(dataset: str, settings: Iterable[tuple]) -> list[dict]:
    """The published results of these (method, labelnum, preset) and of the neighbours on the same splits.

    The full method's row is among them for its presets, too. `rule` says how a row's weights were chosen, `weights`
    which of ours they are comparable with: best, last or "-". From results/published.json; empty where nothing is
    published.
    """
    wanted = set()
    for method, labelnum, preset in settings:
        if method is not None:
            wanted |= {(method, labelnum, preset), (method, labelnum, None), ("neighbour", labelnum, None)}
    published = json.loads(PUBLISHED.read_text())
    return [
        {**row, **published["selections"][row["selection"]]}
        for row in published["rows"]
        if row["dataset"] == dataset and setting_of(row) in wanted
    ]


def setting_of(row: dict) -> tuple:
    """Of a published row: (method, labelnum, preset)."""
    return row["method"], row["labelnum"], row.get("preset")


COLUMNS = {name: metric.title for name, metric in METRICS.items()}
ALL_COLUMNS = (*COLUMNS, "classes", "empty")  # the metrics, Dice by class, the number of empty predictions


def _row(name: str, columns: Sequence[str], classes: Sequence[str], metric: Callable, label: Callable, empty) -> list:
    """A row's cells: metric(name) of each metric among `columns`, label(name) of each class, and the count `empty`."""
    cells = {"classes": lambda: [label(one) for one in classes], "empty": lambda: [str(empty)]}
    parts = [cells[column]() if column in cells else [metric(column)] for column in columns]
    return [name, *(cell for part in parts for cell in part)]


def metric_title(metric: str, unit: str, hd95: str = HD95[0]) -> str:
    """A metric's name over its column."""
    title = COLUMNS[metric].format(unit=unit)
    return title.replace("95HD", "95HD max") if hd95 == "max" else title


def table_header(
    classes: Sequence[str], unit: str, columns: Sequence[str] = ALL_COLUMNS, hd95: str = HD95[0]
) -> list[str]:
    """The columns of the rows below."""
    label = ("{} %" if "dice" in columns else "{} DSC %").format
    return _row("", columns, classes, lambda metric: metric_title(metric, unit, hd95), label, "empty")


def table_row(name: str, summary: dict, columns: Sequence[str] = ALL_COLUMNS, class_spread: bool = False) -> list[str]:
    """One row of `format_table`: mean ± standard deviation over cases, overlaps in per cent.

    A mean's `interval` follows in brackets, where the summary has one. class_spread: the classes' deviations, too.
    """
    metrics = summary["metrics"]

    def of_metric(name):
        return score_cell(metrics[name]["mean"], metrics[name]["std_over_cases"], name, metrics[name].get("interval"))

    def of_class(label):
        entry = metrics["dice"]["by_class"][label]
        return score_cell(entry["mean"], entry["std_over_cases"] if class_spread else None, "dice")

    return _row(name, columns, summary["classes"], of_metric, of_class, sum(summary["empty_predictions"].values()))


def over_runs(values: Iterable[Optional[float]]) -> tuple[Optional[float], Optional[float]]:
    """Mean and sample standard deviation of the runs' values that are defined; None where too few are."""
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    return _number(defined_mean(array)), spread(array)


def over_runs_row(name: str, summaries: Sequence[dict], columns: Sequence[str] = ALL_COLUMNS) -> list[str]:
    """Mean ± sample standard deviation over runs (seeds) of one setting; of a single run the mean alone."""
    metrics = [summary["metrics"] for summary in summaries]

    def of_metric(name):
        return score_cell(*over_runs(entry[name]["mean"] for entry in metrics), name)

    def of_class(label):
        return score_cell(*over_runs(entry["dice"]["by_class"][label]["mean"] for entry in metrics), "dice")

    empty = sum(sum(summary["empty_predictions"].values()) for summary in summaries)
    return _row(name, columns, summaries[0]["classes"], of_metric, of_class, empty)


def published_row(
    row: dict, classes: Sequence[str], columns: Sequence[str] = ALL_COLUMNS, hd95: str = HD95[0]
) -> list[str]:
    """The same of a published result, whose numbers are in per cent already; `-` where none is published.

    hd95: the table's definition; published 95HD are pooled ones, which do not stand in a column of others.
    """

    def number(value):
        return "-" if value is None else f"{value:.2f}"

    per_cent = " %" if DATASETS[row["dataset"]].labelnum_unit == "per cent" else ""
    values = {**row, "hd95": row.get("hd95") if hd95 == HD95[0] else None}
    return _row(
        f"published: {row['name']}, {row['labelnum']}{per_cent}",
        columns,
        classes,
        lambda metric: number(values.get(metric)),
        lambda label: number(row.get("by_class", {}).get(label)),
        "-",
    )


def published_part(
    published: Sequence[dict], classes: Sequence[str], columns: Sequence[str], hd95: str, kind: str, small: bool
) -> list[list[str]]:
    """Published rows as they follow ours, below a line of their own where ours are of a smaller size or of phantoms.

    kind: what our data are if they are not patients'; small: whether a run is below the paper's size.
    """
    rows = []
    for row in sorted(published, key=lambda row: row["weights"] == "last"):
        rows.append(published_row(row, classes, columns, hd95))
        rows[-1][0] += "" if row["weights"] == "-" else f" {row['weights']}"
    return [size_line(kind, len(rows[0])), *rows] if rows and (small or kind) else rows


def size_line(kind: str, length: int) -> list[str]:
    """The row above published ones of another size than ours, or of patients where ours are of `kind`."""
    what = " on patients' data" if kind else ""
    return [f"published, at the papers' size{what}:", *[""] * (length - 1)]


def score_cell(
    mean: Optional[float], std: Optional[float], metric: str, interval: Optional[Sequence[float]] = None
) -> str:
    """A score as tables show it: overlaps in per cent."""
    if mean is None:
        return "undefined"
    scale = 1 if metric in DISTANCES else 100
    text = f"{mean * scale:.2f}" + ("" if std is None else f" ± {std * scale:.2f}")
    return text + ("" if interval is None else f" [{interval[0] * scale:.2f}, {interval[1] * scale:.2f}]")


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text, the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def unpublished_note(settings: Mapping[str, tuple], published: Sequence[dict]) -> list[str]:
    """A note on those of these settings, name -> (method, labelnum, preset), of a protocol without a published row."""
    known = set(map(setting_of, published))
    names = [name for name, key in settings.items() if key[1] is not None and key not in known]
    return [f"no published value for {', '.join(names)}"] if names else []


def markdown_table(rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def titled(dataset: str, kind: str = "") -> str:
    """A dataset's name for titles, captions and footnotes: with what its data are if they are not patients'."""
    return f"{dataset} ({kind})" if kind else dataset


def footnotes(
    summaries: Sequence[dict],
    spread_over: str = "standard deviation over cases",
    columns: Sequence[str] = ALL_COLUMNS,
    short: bool = False,
) -> list[str]:
    """What a reader has to know to trust a table of these summaries, all of one dataset, test list and set of rules.

    columns: those that the table has; short: only what the numbers cannot be used without.
    """
    first = summaries[0]
    expected = DATASETS[first["dataset"]].expected if first["dataset"] in DATASETS else {}
    published = expected.get("test", first["cases"])
    count = f"{first['cases']} test volumes"
    if first["cases"] != published:
        count += f", not the {published} of the published list"
    notes = [
        f"{titled(first['dataset'], first.get('kind', ''))}, {count}; mean ± {spread_over}; classes by label "
        "value: " + ", ".join(f"{index + 1} {label}" for index, label in enumerate(first["classes"])),
    ]
    notes += [] if short else [_empty_note(first)]
    windows = dict.fromkeys(summary.get("windows") or "" for summary in summaries)
    notes += [text for text in windows if text and not short]
    if first["nms"]:
        notes.append("kept of a prediction: the largest object of each class (--nms)")
    notes += dict.fromkeys(summary["note"] for summary in summaries if summary.get("note"))
    hd95 = first.get("hd95", HD95[0])
    if "hd95" in columns and not (short and hd95 == HD95[0]):
        notes.append(HD95_NOTES[hd95])
    notes += selection_notes(summaries)
    for summary in summaries:
        metrics = {name: summary["metrics"][name] for name in DISTANCES if name in columns}
        means = {name: entry.get("mean_with_penalty") for name, entry in metrics.items()}
        if not short and any(value is not None for value in means.values()):
            text = ", ".join(f"{COLUMNS[name].split()[0]} {value:.2f}" for name, value in means.items())
            notes.append(f"{summary['run']}: with the volume's diagonal for empty masks {text}")
    return notes


HD95_NOTES = {
    "pooled": "95HD: the 95th percentile of both directions' surface distances pooled, MedPy's; libraries that take "
    "the larger of the two directions' percentiles (--hd95 max) can give tens of voxels more",
    "max": "95HD max: the larger of the two directions' 95th percentiles (--hd95 max), not MedPy's pooled 95HD, which "
    "published values are",
}


def _empty_note(summary: dict) -> str:
    rules = {"ours": "undefined and left out", "release": "0, as in the releases (--empty release)"}
    return (
        "empty: predictions that miss a class the case has; distances to an empty mask are "
        f"{rules[summary['empty_rule']]}; every mean is over cases, then over classes, then over runs"
    )


def selection_notes(summaries: Sequence[dict]) -> list[str]:
    """How the best weights of these summaries were chosen; where several rules meet, each note names its rows."""
    best = [summary for summary in summaries if summary.get("selection") and summary["run"].endswith(" best")]
    notes: dict[str, list[str]] = {}
    for summary in best:
        chosen = f"chosen by {summary['selection']}; last: the end of training, not chosen"
        if summary.get("val_dice", 0) is None:
            chosen = "not chosen, a copy of the last weights: no validation was run"
        notes.setdefault(chosen, []).append(summary["run"])
    if len(notes) == 1 and not next(iter(notes)).startswith("not chosen"):
        return [f"best: {chosen}" for chosen in notes]
    return [f"{', '.join(_rows(runs, notes))}: {chosen}" for chosen, runs in notes.items()]


def _rows(runs: Sequence[str], notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of runs without their seeds, where all seeds of a setting are in one note."""
    short = [re.sub(r" seed_\d+", "", run) for run in runs]
    found = [{re.sub(r" seed_\d+", "", run) for run in several} for several in notes.values()]
    return list(
        dict.fromkeys(name if sum(name in names for names in found) == 1 else run for name, run in zip(short, runs))
    )


def published_notes(published: Sequence[dict]) -> list[str]:
    """The sources of published rows, with the rule by which their weights were chosen."""
    notes: dict[tuple, list[str]] = {}
    for row in published:
        notes.setdefault((row["source"], row["rule"]), []).append(row["name"])
    return [
        f"published, {', '.join(dict.fromkeys(names))}: {source}; {rule}" for (source, rule), names in notes.items()
    ]
