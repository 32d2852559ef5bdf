"""A run's pictures: curves, box plots, test cases. Needs matplotlib and torchvision: InputError without them."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import re
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple, Sequence

import h5py
import numpy as np
import torch

from dataloaders.datasets import Case, slice_name
from dataloaders.files import InputError
from dataloaders.registry import get_dataset
from dataloaders.training_data import open_volumes
from utils.pictures import class_colour, error_map, grey, overlay, window
from utils.reports.pages import Html, enlargeable

try:
    import matplotlib
    from matplotlib.figure import Figure
    from torchvision.utils import make_grid, save_image
except (ImportError, OSError, RuntimeError) as error:
    raise InputError(f"pictures need matplotlib and torchvision, pip install -r requirements.txt ({error})") from error

TILE = 256  # pixels of a tile's longer side at least: small slices are enlarged by a whole factor


class Curve(NamedTuple):
    """One line of a chart: (x, y) points and how matplotlib draws them."""

    label: str
    points: list
    style: dict

    def __str__(self) -> str:
        known = [value for _, value in self.points if math.isfinite(value)]
        return f"{self.label} from {known[0]:.3g} to {known[-1]:.3g}" if known else f"{self.label} undefined"


def draw_curves(rows: Sequence[dict]) -> dict[str, tuple[str, Figure]]:
    """Charts of a run over its iterations, those that have any point: file name -> (what is seen, figure).

    The loss terms, the Dice of the batch's label maps, and the validation Dice by class. Rows of metrics.jsonl.
    """
    title, terms = loss_terms(rows)
    batch = [
        Curve(name, series(rows, f"monitor/dice_{name}"), {"color": "black", "linestyle": line})
        for name, line in (("student", "-"), ("teacher", "--"))
    ]
    names = list(
        dict.fromkeys(name[len("val/dice/") :] for row in rows for name in row if name.startswith("val/dice/"))
    )
    scores = [
        Curve(name, series(rows, f"val/dice/{name}"), {"color": class_colour(label)})
        for label, name in enumerate(names, start=1)
    ]
    if len(names) > 1:
        scores.append(Curve("mean", series(rows, "val/dice"), {"color": "black", "linewidth": 2}))
    charts = {
        "loss": (title, terms, None),
        "training_dice": ("Dice of the predicted labels in training batches", batch, (0, 1)),
        "validation_dice": ("validation Dice", scores, (0, 1)),
    }
    drawn = {}
    for name, (title, curves, limits) in charts.items():
        curves = [curve for curve in curves if any(not math.isnan(value) for _, value in curve.points)]
        if curves:
            last = max(curve.points[-1][0] for curve in curves)
            text = f"{title}, up to iteration {last}: {', '.join(map(str, curves))}"
            drawn[name] = text, draw_chart(title, curves, limits)
    return drawn


def draw_chart(title: str, curves: Sequence[Curve], limits=None, beside: bool = False) -> Figure:
    """Lines over iterations. limits: of y; beside: the legend stands at the right instead of within."""
    figure = Figure(figsize=(7.5 if beside else 5, 3.8), layout="constrained")
    axis = figure.subplots()
    for curve in curves:
        marker = "." if len(curve.points) < 20 else ""
        axis.plot(*zip(*curve.points), label=curve.label, marker=marker, **{"linewidth": 1.4, **curve.style})
    axis.set_title(title, fontsize=11)
    axis.set_xlabel("iteration")
    axis.grid(alpha=0.3)
    if limits:
        axis.set_ylim(*limits)
    where = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if beside else {}
    axis.legend(fontsize=8, frameon=False, **where)
    return figure


def series(rows: Sequence[dict], name: str) -> list[tuple[int, float]]:
    """(iteration, value) of the rows that have this entry."""
    return [(row["iteration"], row[name]) for row in rows if name in row]


def loss_terms(rows: Sequence[dict]) -> tuple[str, list[Curve]]:
    """A title, and the loss terms as they are summed with their total last; of terms divided by themselves the
    undivided ones.

    A term that is divided by itself only takes its weight and, where it is left out, 0. Its value is in monitor/.
    """
    recorded = dict.fromkeys(name for row in rows for name in row if name.startswith("loss/"))
    names = [name[len("loss/") :] for name in recorded if name != "loss/total"]
    divided = []
    for name in names:
        values = {f"{value:.3g}" for _, value in series(rows, f"loss/{name}") if value != 0}
        if len(rows) > 1 and len(values) == 1 and series(rows, f"monitor/{name}"):
            divided.append(name)
    terms = [
        Curve(name, series(rows, f"{'monitor' if name in divided else 'loss'}/{name}"), {"color": colour})
        for name, colour in zip(names, itertools.cycle(matplotlib.colormaps["Dark2"].colors))
    ]
    total = Curve("total", series(rows, "loss/total"), {"color": "black", "linewidth": 2})
    if divided:  # the total is the sum of the weights, a constant, too
        total = total._replace(label="weighted sum", points=series(rows, "monitor/weighted_sum") or terms[0].points)
    return "loss terms before normalisation" if divided else "loss terms, as summed", [*terms, total]


def draw_runs(runs: Mapping[str, Sequence[Sequence[dict]]]) -> list[tuple[str, Figure]]:
    """The total loss and the validation Dice of several settings, a colour each, a line per run: (title, figure)."""
    colours = matplotlib.colormaps["tab10" if len(runs) <= 10 else "tab20"]
    losses, scores, titles = [], [], set()
    for number, (name, of_setting) in enumerate(runs.items()):
        for index, rows in enumerate(of_setting):
            label, style = "_" if index else name, {"color": colours(number % colours.N)}
            title, terms = loss_terms(rows)
            titles.add(title)
            losses.append(Curve(label, terms[-1].points, style))
            scores.append(Curve(label, series(rows, "val/dice"), style))
    total = "sum of the " + " or ".join(sorted(titles))
    drawn = []
    for title, curves, limits in ((total, losses, None), ("validation Dice", scores, (0, 1))):
        curves = [curve for curve in curves if curve.points]
        if curves:
            drawn.append((f"{title} of {', '.join(runs)}", draw_chart(title, curves, limits, beside=True)))
    return drawn


def draw_boxes(classes: Sequence[str], scores: Mapping[str, np.ndarray]) -> list[tuple[str, Figure]]:
    """Dice over the test cases as box plots, one chart per class, one box per setting: (what is seen, figure).

    scores: name -> (cases, classes).
    """
    drawn = []
    for index, label in enumerate(classes):
        figure = Figure(figsize=(max(2.6, 0.5 * len(scores) + 1), 3.6), layout="constrained")
        axis = figure.subplots()
        columns = [table[:, index][~np.isnan(table[:, index])] for table in scores.values()]
        boxes = axis.boxplot(columns, patch_artist=True, widths=0.6, medianprops={"color": "black"})
        for box in boxes["boxes"]:
            box.set_facecolor(class_colour(index + 1) + "99")
        axis.set_title(label, fontsize=11)
        axis.set_xticks(range(1, len(scores) + 1), list(scores), rotation=45, ha="right", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
        axis.set_ylabel("Dice")
        axis.set_ylim(0, 1)
        medians = (f"{name} {np.median(column):.3f}" for name, column in zip(scores, columns) if len(column))
        drawn.append((f"Dice of {label} over test cases, medians: {', '.join(medians)}", figure))
    return drawn


def inline_svg(figure: Figure, title: str) -> Html:
    """The figure as SVG for a page: transparent, black drawn in the page's text colour, enlarged by a click."""
    text = io.StringIO()
    # the salt keeps the ids of one page's figures distinct
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' id="[a-z]+(_\d+)+"', "", svg)  # nothing refers to these, and each figure has the same
    svg = svg.replace("<text ", '<text fill="currentColor" ').replace("#000000", "currentColor")
    name = html.escape(title, quote=False)
    svg = re.sub(r"^<svg [^>]*>", lambda start: f'{start[0][:-1]} role="img"><title>{name}</title>', svg)
    return enlargeable(Html(svg), title)


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
    if len(ranked) < 3:
        del places["median"]
    chosen = {title: ranked[place][::-1] for title, place in places.items()}
    return chosen if len(ranked) > 1 else {"best": chosen["best"]}


class Strip(NamedTuple):
    """One slice of a tested case. tiles: what is drawn -> (what is seen, picture uint8 (3, H, W))."""

    title: str
    case: str
    dice: float  # of the case, mean over classes
    where: str
    tiles: dict


def draw_cases(folder: Path, chosen: Mapping[str, tuple[str, float]]) -> list[Strip]:
    """Image, ground truth, prediction and errors of tested cases. chosen: title -> (case, Dice)."""
    summary = json.loads((folder / "summary.json").read_text())
    info = get_dataset(summary["dataset"], summary["root"])
    volumes = open_volumes(info, Path(summary["root"]), Path(summary["test_list"]))
    strips = []
    for title, (name, dice) in chosen.items():
        case = volumes[volumes.names.index(name)]
        with h5py.File(folder / "predictions" / f"{name}.h5", "r") as file:
            pred = file["prediction"][()]
        for where, *arrays in planes(case, pred, info.dims):
            strips.append(Strip(title, name, dice, where, draw_tiles(*arrays, info.classes)))
    return strips


def planes(case: Case, pred: np.ndarray, dims: int) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(name, image, truth, prediction) of the slices with the most foreground: along the first axis of 2-D data, along
    each of 3-D data."""
    image = window(case.image)
    mask = case.label > 0 if (case.label > 0).any() else pred > 0
    found = []
    for axis in range(3) if dims == 3 else (0,):
        index = int(np.argmax(mask.sum(axis=tuple(other for other in range(3) if other != axis))))
        arrays = (np.take(array, index, axis=axis) for array in (image, case.label, pred))
        found.append((slice_name(dims, axis, index, mask.shape[axis]), *arrays))
    return found


def draw_tiles(image: np.ndarray, truth: np.ndarray, pred: np.ndarray, classes: Sequence[str]) -> dict:
    """What is drawn -> (what is seen, picture), of one slice (H, W)."""

    def present(label):
        return ", ".join(classes[value - 1] for value in np.unique(label) if value > 0) or "nothing"

    missed, added = int(((truth > 0) & (pred == 0)).sum()), int(((truth == 0) & (pred > 0)).sum())
    wrong = int(((truth > 0) & (pred > 0) & (truth != pred)).sum())
    text = f"errors: {missed:,} pixels missed, {added:,} added"
    if len(classes) > 1:
        text += f", {wrong:,} of a wrong class"
    pictures = {
        "image": ("image", grey(image)),
        "ground truth": (f"ground truth: {present(truth)}", overlay(image, truth)),
        "prediction": (f"prediction: {present(pred)}", overlay(image, pred)),
        "errors": (text, error_map(image, truth, pred)),
    }
    factor = max(1, -(-TILE // max(image.shape)))
    return {
        name: (text, picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2))
        for name, (text, picture) in pictures.items()
    }


def save_strips(strips: Iterable[Strip], folder: Path) -> None:
    """One PNG per slice, its tiles side by side: best_patient101_frame01_slice_4_of_10_along_Z.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for strip in strips:
        tiles = torch.stack([picture for _, picture in strip.tiles.values()]).float() / 255
        name = f"{strip.title} {strip.case} {strip.where}".replace(" ", "_")
        save_image(make_grid(tiles, nrow=len(tiles), pad_value=1), folder / f"{name}.png")
