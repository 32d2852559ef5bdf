"""The one evaluation that training's validation and the test scripts share. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from dataloaders.errors import InputError
from dataloaders.volumes import Case, VolumeDataset
from utils.metrics import METRICS, case_metrics


class CaseResult(NamedTuple):
    """One case, its prediction and its scores. Arrays run over the foreground classes."""

    case: Case
    pred: np.ndarray  # uint8, the image's shape
    values: dict  # metric -> array; NaN where a distance is undefined
    pred_empty: np.ndarray  # bool
    label_empty: np.ndarray  # bool
    diagonal: float  # of the volume, in the distances' unit


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    volumes: VolumeDataset,
    metrics: Sequence[str] = METRICS,
    unit: str = "voxel",
    spacing: Optional[Sequence[float]] = None,
) -> Iterator[CaseResult]:
    """Predict and score the cases one by one. `predict` maps an image to a label map of the same shape.

    unit: "voxel", or "mm" by `spacing` (array axis order) or else each file's own; InputError where neither is there.
    """
    num_classes = volumes.info.num_classes
    for case in volumes:
        scale = None
        if unit == "mm":
            scale = tuple(spacing or case.spacing or ())
            if len(scale) != case.image.ndim:
                raise InputError(f"{case.name}: no voxel size in this file; give --spacing in mm, in array axis order")
        pred = predict(case.image)
        values = case_metrics(pred, case.label, num_classes, scale, metrics)
        pred_empty, label_empty = (np.bincount(a.ravel(), minlength=num_classes)[1:] == 0 for a in (pred, case.label))
        diagonal = float(np.linalg.norm(np.array(case.image.shape) * (scale or 1)))
        yield CaseResult(case, pred, values, pred_empty, label_empty, diagonal)


def defined_mean(table: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean over an axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(table)
    counts = defined.sum(axis=axis)
    return np.where(counts > 0, np.where(defined, table, 0).sum(axis=axis) / np.maximum(counts, 1), np.nan)


def validation_scores(results: Iterable[CaseResult], classes: Sequence[str]) -> dict[str, float]:
    """Means over cases for each class, and over the classes: `dice`, `dice/RV`, ..., `asd`, `asd/RV`, ...

    Undefined distances are left out of their mean; a class that has none gives NaN.
    """
    values = [result.values for result in results]
    scores = {}
    for name in values[0]:
        means = defined_mean(np.stack([value[name] for value in values]))
        scores[name] = float(defined_mean(means))
        scores.update({f"{name}/{label}": float(mean) for label, mean in zip(classes, means)})
    return scores
