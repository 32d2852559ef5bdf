"""A run's pictures: curves, cases, and one self-contained page. Needs matplotlib."""

from __future__ import annotations

import csv
import html
import json
from pathlib import Path
from typing import Mapping, Sequence

import h5py
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

from dataloaders.datasets import get_dataset  # noqa: E402
from dataloaders.errors import InputError  # noqa: E402
from dataloaders.training_data import open_volumes  # noqa: E402
from dataloaders.writing import write_text  # noqa: E402
from utils.pages import html_image, html_page  # noqa: E402
from utils.panels import PALETTE, overlay, window  # noqa: E402
from utils.reports import (  # noqa: E402
    footnotes,
    format_table,
    published_row,
    published_rows,
    table_header,
    table_row,
)
from utils.run_folder import folder_size, read_metrics  # noqa: E402
from utils.runs import Run, describe_run  # noqa: E402

# Kinds of error, in colours that the palette of classes does not use.
ERRORS = {"missed": (0.84, 0.15, 0.16), "added": (0.12, 0.47, 0.96), "wrong class": (0.99, 0.99, 0.99)}


def plot_run(path: Path) -> Path:
    """Draw the curves of a run and, where it was tested, its best, median and worst case; returns the page's path.

    Writes figures/ in the run's folder and report.html. Raises InputError for a folder without anything to draw.
    """
    path = Path(path)
    tested = [kind for kind in sorted(path.glob("test_*")) if (kind / "summary.json").exists()]
    metrics = read_metrics(path / "metrics.jsonl") if (path / "metrics.jsonl").exists() else []
    if not tested and not metrics:
        raise InputError(f"{path}: no metrics.jsonl and no test_*/summary.json: not a run's folder, or nothing ran yet")
    pictures = []
    if metrics:
        pictures.append(("Training", save(draw_curves(metrics), path / "figures" / "curves.png")))
    for folder in tested:
        picture = save(draw_cases(folder, pick_cases(folder)), folder / "figures" / "cases.png")
        pictures.append((f"{folder.name}: best, median and worst case by Dice", picture))
    page = path / "report.html"
    write_text(page, render_page(path, tested, pictures))
    return page


def save(figure, path: Path) -> Path:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return path


def draw_boxes(classes: Sequence[str], scores: Mapping[str, np.ndarray]):
    """Dice over the test cases as box plots, a panel a class, a box a setting. scores: name -> (cases, classes)."""
    columns = min(len(classes), 4)
    rows = -(-len(classes) // columns)
    size = (columns * max(2.4, 0.45 * len(scores) + 0.8), rows * 3.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(classes):
            axis.axis("off")
            continue
        colour = PALETTE[(index + 1) % len(PALETTE)]
        columns_of = [table[:, index][~np.isnan(table[:, index])] for table in scores.values()]
        boxes = axis.boxplot(columns_of, patch_artist=True, widths=0.6, medianprops={"color": "black"})
        for box in boxes["boxes"]:
            box.set_facecolor((*colour, 0.6))
        axis.set_title(classes[index])
        axis.set_xticks(range(1, len(scores) + 1), list(scores), rotation=45, ha="right", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylabel("Dice")
    axes[0, 0].set_ylim(0, 1)
    figure.tight_layout()
    return figure


def draw_runs(runs: Mapping[str, Sequence[Sequence[dict]]]):
    """Total loss and validation Dice over the iterations: a colour a setting, a line a run. Rows of metrics.jsonl."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
    colours = plt.cm.tab10 if len(runs) <= 10 else plt.cm.tab20
    for number, (name, of_setting) in enumerate(runs.items()):
        for index, rows in enumerate(of_setting):
            for axis, key in zip(axes, ("loss/total", "val/dice")):
                points = [(row["iteration"], row[key]) for row in rows if key in row]
                style = {"color": colours(number % colours.N), "linewidth": 1.2}
                style.update(label="_" if index else name, marker="." if len(points) < 20 else "")
                axis.plot(*zip(*points) if points else ([], []), **style)
    for axis, title in zip(axes, ("loss, as summed", "validation Dice")):
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    axes[1].set_ylim(0, 1)
    axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def draw_curves(rows: Sequence[dict]):
    """Loss terms, Dice of the pseudo labels, and validation Dice over the iterations."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))
    groups = (
        ("loss terms, as summed", [("loss/", "")], axes[0]),
        (
            "Dice of the batch's label maps (training)",
            [("monitor/dice_student", ""), ("monitor/dice_teacher", "")],
            axes[1],
        ),
        ("validation Dice", [("val/dice/", ""), ("val/dice", "mean")], axes[2]),
    )
    for title, prefixes, axis in groups:
        names = list(dict.fromkeys(name for row in rows for name in row))
        for prefix, label in prefixes:
            chosen = [n for n in names if (n == prefix if label else n.startswith(prefix))]
            for name in chosen:
                points = [(row["iteration"], row[name]) for row in rows if name in row]
                style = {"color": "black", "linewidth": 2} if label or name == "loss/total" else {"linewidth": 1.2}
                axis.plot(*zip(*points), label=label or name.split("/")[-1], **style)
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    axes[1].set_ylim(0, 1)
    axes[2].set_ylim(0, 1)
    figure.tight_layout()
    return figure


def rank_cases(folder: Path) -> list[tuple[float, str]]:
    """(mean Dice, case) of a test's per_case.csv, best first."""
    scores: dict[str, list] = {}
    with open(folder / "per_case.csv", newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["case"], []).append(float(row["dice"]))
    return sorted(((float(np.mean(values)), case) for case, values in scores.items()), reverse=True)


def pick_cases(folder: Path) -> dict[str, tuple[str, float]]:
    """The cases with the best, median and worst mean Dice of a test: title -> (case, Dice)."""
    ranked = rank_cases(folder)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen: dict[str, tuple[str, float]] = {}
    for title, place in places.items():
        dice, case = ranked[place]
        if case not in {name for name, _ in chosen.values()}:
            chosen[title] = (case, dice)
    return chosen


def error_map(image: np.ndarray, truth: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """The image darkened, with each kind of error in its colour: (H, W, 3)."""
    picture = overlay(image, np.zeros_like(truth)) * 0.6
    kinds = {
        "missed": (truth > 0) & (pred == 0),
        "added": (truth == 0) & (pred > 0),
        "wrong class": (truth > 0) & (pred > 0) & (truth != pred),
    }
    for name, where in kinds.items():
        picture[where] = ERRORS[name]
    return picture


def planes(case, pred: np.ndarray, dims: int) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(name, image, truth, prediction) of the planes with the most foreground: one slice in 2-D data, three in 3-D."""
    image = case.image
    if dims == 3:
        image = window(image)
    mask = case.label > 0 if (case.label > 0).any() else pred > 0
    found = []
    for axis in range(3) if dims == 3 else (0,):
        index = int(np.argmax(mask.sum(axis=tuple(other for other in range(3) if other != axis))))
        arrays = (np.take(array, index, axis=axis) for array in (image, case.label, pred))
        found.append((f"slice {index}" if dims == 2 else f"axis {axis}, plane {index}", *arrays))
    return found


def draw_cases(folder: Path, chosen: dict[str, tuple[str, float]]):
    """A row a case and plane: image, ground truth, prediction, errors. chosen: title -> (case, Dice)."""
    summary = json.loads((folder / "summary.json").read_text())
    info = get_dataset(summary["dataset"], summary["root"])
    volumes = open_volumes(info, Path(summary["root"]), Path(summary["test_list"]))
    rows = []
    for title, (name, dice) in chosen.items():
        case = volumes[volumes.names.index(name)]
        with h5py.File(folder / "predictions" / f"{name}.h5", "r") as file:
            pred = file["prediction"][()]
        rows += [(f"{title}: {name}", dice, *plane) for plane in planes(case, pred, info.dims)]
    figure, axes = plt.subplots(len(rows), 4, figsize=(12, 3.2 * len(rows)), squeeze=False)
    for row, (title, dice, where, image, truth, guess) in zip(axes, rows):
        pictures = (
            overlay(image, truth * 0),
            overlay(image, truth),
            overlay(image, guess),
            error_map(image, truth, guess),
        )
        titles = f"{title}\n{where}", "ground truth", f"prediction, Dice {dice:.3f}", "errors"
        for axis, picture, text in zip(row, pictures, titles):
            axis.imshow(np.clip(picture, 0, 1), interpolation="none")
            axis.set_title(text, fontsize=9)
            axis.axis("off")
    handles = [Patch(color=PALETTE[index + 1], label=label) for index, label in enumerate(info.classes)]
    handles += [Patch(facecolor=colour, edgecolor="grey", label=name) for name, colour in ERRORS.items()]
    figure.tight_layout(h_pad=2)
    figure.legend(handles=handles, loc="upper center", ncol=6, fontsize=9, bbox_to_anchor=(0.5, 0.0), frameon=False)
    return figure


def render_page(path: Path, tested: Sequence[Path], pictures: Sequence[tuple[str, Path]]) -> str:
    """One HTML page that needs no other file: table, pictures, flags."""
    config = json.loads((path / "config.json").read_text()) if (path / "config.json").exists() else {}
    parts = [f"<h1>{html.escape(_title(path, config))}</h1>"]
    if tested:
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in tested]
        rows = [table_header(summaries[0]["classes"], summaries[0]["unit"])]
        rows += [table_row(folder.name, summary) for folder, summary in zip(tested, summaries)]
        run = describe_run(path) or Run(path, path.name, path.name, {}, path)
        for row in published_rows(summaries[0]["dataset"], [(run.method, run.labelnum, run.preset)]):
            rows.append(published_row(row, summaries[0]["classes"]))
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in footnotes(summaries))
        parts += [f"<pre>{html.escape(format_table(rows))}</pre>", f"<ol>{notes}</ol>"]
    for title, picture in pictures:
        parts += [f"<h2>{html.escape(title)}</h2>", html_image(picture.read_bytes(), "png", title)]
    if config:
        parts += ["<h2>Configuration</h2>", f"<p>The run's folder takes {folder_size(path)}.</p>"]
        parts += [f"<pre>{html.escape(json.dumps(config, indent=2))}</pre>"]
    return html_page(_title(path, config), parts)


def _title(path: Path, config: dict) -> str:
    return f"{config.get('method', 'Weights')} · {path.resolve().parent.name} · {path.resolve().name}"
