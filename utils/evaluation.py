"""The one evaluation that training's validation and the test scripts share."""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple, Sequence

import numpy as np

from dataloaders.volumes import Case, VolumeDataset
from utils.metrics import METRICS, case_metrics


class CaseResult(NamedTuple):
    """One case, its prediction (uint8, the image's shape) and for each metric an array over the foreground classes."""

    case: Case
    pred: np.ndarray
    values: dict[str, np.ndarray]


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray], volumes: VolumeDataset, metrics: Sequence[str] = METRICS
) -> Iterator[CaseResult]:
    """Predict and score the cases one by one. `predict` maps an image to a label map of the same shape."""
    for case in volumes:
        pred = predict(case.image)
        yield CaseResult(case, pred, case_metrics(pred, case.label, volumes.info.num_classes, metrics=metrics))


def validation_scores(results: Iterator[CaseResult], classes: Sequence[str]) -> dict[str, float]:
    """Means over cases for each class, and over the classes: `dice`, `dice/RV`, ..., `asd`, `asd/RV`, ...

    Undefined distances are left out of their mean; a class that has none gives NaN.
    """
    values = [result.values for result in results]
    scores = {}
    for name in values[0]:
        table = np.stack([value[name] for value in values])  # cases, classes
        defined = np.isfinite(table)
        counts = defined.sum(axis=0)
        means = np.where(counts > 0, np.where(defined, table, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)
        scores[name] = float(np.mean(means[counts > 0])) if counts.any() else float("nan")
        scores.update({f"{name}/{label}": float(mean) for label, mean in zip(classes, means)})
    return scores
