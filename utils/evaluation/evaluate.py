"""The one evaluation that training's validation and the test scripts share. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

import sys
import time
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Sequence

import numpy as np
from tqdm import tqdm

from dataloaders.datasets import VolumeDataset
from dataloaders.files import InputError
from utils.evaluation.metrics import HD95, case_metrics

REPORT_SECONDS = 60  # between two lines of progress without a terminal


class CaseResult(NamedTuple):
    """The scores of one case. Arrays run over the foreground classes."""

    name: str
    values: dict[str, np.ndarray]  # metric -> array; NaN where a distance is undefined
    pred_empty: np.ndarray  # bool
    label_empty: np.ndarray  # bool
    diagonal: float  # of the volume, in the distances' unit


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    volumes: VolumeDataset,
    metrics: Optional[Sequence[str]] = None,
    unit: str = "voxel",
    spacing: Optional[Sequence[float]] = None,
    hd95: str = HD95[0],
    doing: str = "testing",
) -> Iterator[tuple[CaseResult, np.ndarray]]:
    """Predict and score the cases one by one, in the memory of one: yields (result, prediction).

    `predict` maps an image to a label map uint8 of the same shape. metrics: names of METRICS, all by default. unit:
    "voxel", or "mm" by `spacing` (array axis order) or else each file's own; InputError where both are missing. hd95:
    its definition, one of metrics.HD95. doing: what the progress bar says.
    """
    num_classes = volumes.info.num_classes
    for case in with_progress(volumes, doing):
        scale = None
        if unit == "mm":
            scale = tuple(spacing or case.spacing or ())
            if len(scale) != case.image.ndim:
                raise InputError(f"{case.name}: no voxel size in this file; give --spacing in mm, in array axis order")
        pred = predict(case.image)
        values = case_metrics(pred, case.label, num_classes, scale, metrics, hd95)
        empties = (np.bincount(array.ravel(), minlength=num_classes)[1:] == 0 for array in (pred, case.label))
        diagonal = float(np.linalg.norm(np.array(case.image.shape) * (scale or 1)))
        yield CaseResult(case.name, values, *empties, diagonal), pred


def with_progress(cases: Sequence, doing: str) -> Iterator:
    """The cases one by one, with a bar; if the output is not a terminal, at most one line every REPORT_SECONDS."""
    if sys.stderr.isatty():
        yield from tqdm(cases, doing, unit="case", leave=False)
        return
    start = last = time.monotonic()
    for number, case in enumerate(cases, start=1):
        yield case
        now = time.monotonic()
        if now - last >= REPORT_SECONDS and number < len(cases):
            print(f"{doing}: {number} of {len(cases)} cases in {now - start:.0f} s", flush=True)
            last = now


def validator(predict: Callable[[np.ndarray], np.ndarray], volumes: VolumeDataset) -> Optional[Callable[[], dict]]:
    """validate() for a Trainer: Dice and ASD on these volumes; None where there are none."""
    if not len(volumes):
        return None
    return lambda: validation_scores(
        evaluate(predict, volumes, ("dice", "asd"), doing="validating"), volumes.info.classes
    )


def defined_mean(table: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean over an axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(table)
    counts = defined.sum(axis=axis)
    return np.where(counts > 0, np.where(defined, table, 0).sum(axis=axis) / np.maximum(counts, 1), np.nan)


def validation_scores(evaluated: Iterable[tuple[CaseResult, np.ndarray]], classes: Sequence[str]) -> dict[str, float]:
    """Means over cases for each class, and over the classes: `dice`, `dice/RV`, ..., `asd`, `asd/RV`, ...

    Undefined distances are left out of their mean; a class that has none gives NaN.
    """
    values = [result.values for result, _ in evaluated]
    scores = {}
    for name in values[0]:
        means = defined_mean(np.stack([value[name] for value in values]))
        scores[name] = float(defined_mean(means))
        scores.update({f"{name}/{label}": float(mean) for label, mean in zip(classes, means)})
    return scores
