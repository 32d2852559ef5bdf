"""From a new scan to a label map on its own grid: the training's preparation, the test's prediction, the way back.

What a scan needs is read from the weights file: classes, patch, stride, preparation. Source: docs/PROTOCOLS.md,
"Prediction".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np
import torch

from dataloaders.files import InputError
from dataloaders.geometry import OPPOSITE
from dataloaders.info import Preparation
from dataloaders.registry import PREPARATIONS, DatasetInfo
from dataloaders.scans.preparation import Prepared, crop_box, prepare, restore
from dataloaders.scans.scan import Scan, flip, flip_array
from utils.evaluation.inference import (
    check_stride,
    label_map,
    largest_objects,
    predict_volume,
    slices_and_scores,
    window_scores,
)
from utils.runs.weights import WeightsFile


@dataclass(frozen=True)
class Model:
    """A trained network with all that decides its label maps."""

    net: torch.nn.Module  # in eval mode
    info: DatasetInfo  # classes and the patch as they are used
    preparation: Preparation
    stride: Optional[tuple[int, int]]  # of the windows, in the first two axes and in the last; 3-D
    batch_size: int
    nms: bool = False
    one_pass: bool = False
    orientation: Optional[str] = None  # of the training's scans, "LPS", where they all lay alike

    @property
    def seeks(self) -> bool:
        """Whether a first pass seeks the part to predict, because training saw crops around the ground truth."""
        return self.preparation.margin is not None and not self.one_pass

    @property
    def axes(self) -> str:
        """How the orientation of a scan is treated, in one line."""
        if self.preparation.orientation:
            return f"every scan is reoriented to {self.preparation.orientation}"
        if self.orientation:
            return (
                f"the training scans were stored as {self.orientation}; scans with reversed axes are flipped, scans "
                "with permuted axes are used as stored"
            )
        return "scans are used as stored, so they must be stored as the training scans were"

    @property
    def coverage(self) -> str:
        """How the prediction covers a scan, in a line."""
        windows = ""
        if self.stride:
            patch = " ".join(map(str, self.info.patch_size))
            windows = f"; windows {patch}, stride {self.stride[0]} {self.stride[0]} {self.stride[1]}"
        if not self.seeks:
            cropped = (
                ""
                if self.preparation.margin is None
                else ", although the training images were crops around the ground truth"
            )
            return f"the whole scan in one pass{cropped}{windows}"
        return (
            "training saw crops around the ground truth; here a first pass over the whole scan, windows half a patch "
            f"apart, finds where to crop, a second one predicts the crop{windows}"
        )


class Prediction(NamedTuple):
    """Both on the scan's own grid."""

    label: np.ndarray  # uint8 (Z, Y, X)
    scores: Optional[np.ndarray]  # float32 (C, Z, Y, X), sum 1 over the classes, where they were asked for


def load_model(
    path: Path,
    dims: int,
    device: torch.device,
    batch_size: int,
    name: Optional[str] = None,
    root_path: Optional[str] = None,
    patch_size: Optional[Sequence[int]] = None,
    stride: Optional[Sequence[int]] = None,
    nms: bool = False,
    one_pass: bool = False,
) -> Model:
    """The network of a weights file with what the file states; name, root_path, patch_size: of one that does not.

    Raises InputError for weights of another dimension or dataset, and where the preparation of the training images is
    not known.
    """
    weights = WeightsFile.read(path)
    info = weights.info(name, root_path, patch_size)
    if info.dims != dims:
        raise InputError(f"{path}: {info.name} is a {info.dims}-D dataset; use test_{info.dims}d.py")
    preparation = preparation_of(weights, info)
    net = weights.build_network(info).to(device).eval()
    stride = tuple(stride or info.stride) if dims == 3 else None
    if stride and not all(stride):
        raise InputError(f"{path}: does not record the stride of its windows; give --stride")
    if stride:
        check_stride("--stride", stride, info.patch_size)
    # a preparation that turns every scan leaves nothing to turn around before it
    orientation = None if preparation.orientation else weights.dataset.get("orientation")
    return Model(net, info, preparation, stride, batch_size, nms, one_pass, orientation)


def preparation_of(weights: WeightsFile, info: DatasetInfo) -> Preparation:
    """How the training's images were made from scans: as the file states it, else the dataset's published way."""
    known = weights.preparation or PREPARATIONS.get(info.name, info.preparation)
    if known is None:
        raise InputError(
            f"{weights.path}: does not record how the images of {info.name} were prepared from scans, so new "
            f"scans cannot be prepared alike; known: {', '.join(PREPARATIONS)}, and what scripts/prepare.py wrote"
        )
    return known


def predict_scan(model: Model, scan: Scan, with_scores: bool = False) -> Prediction:
    """The label map of a scan on its own grid; raises InputError for a scan that cannot be prepared.

    Where training saw crops around the ground truth, a first pass finds where to crop; where it finds nothing, the
    label map is empty. A scan with reversed axes compared with the training scans is flipped.
    """
    axes = axes_to_flip(scan.geometry.orientation, model.orientation)
    if axes:
        turned = predict_scan(model, flip(scan, axes), with_scores)
        return Prediction(*(array if array is None else flip_array(array, axes) for array in turned))
    prepared = seek(model, scan) if model.seeks else prepare(scan, model.preparation)
    if prepared is None:
        label = np.zeros(scan.array.shape, np.uint8)
        scores = [np.full(label.shape, index == 0, np.float32) for index in range(model.info.num_classes)]
        return Prediction(label, np.stack(scores) if with_scores else None)
    return predict_prepared(model, prepared, with_scores)


def axes_to_flip(own: str, training: Optional[str]) -> str:
    """The axes, "xy", along which a scan runs the other way than the training's; none where it is turned otherwise.

    own, training: orientations, "LPS"; None where the training scans differed or it is not known.
    """
    pairs = list(zip("xyz", own, training or ""))
    if any(letter not in (theirs, OPPOSITE[theirs]) for _, letter, theirs in pairs):
        return ""
    return "".join(axis for axis, letter, theirs in pairs if letter != theirs)


def seek(model: Model, scan: Scan) -> Optional[Prepared]:
    """The scan as a training case: cropped around what a coarse pass over the whole scan finds, None for nothing.

    The largest object of that pass stands for the label, the middle of the training's range for its drawn margin.
    """
    preparation, patch = model.preparation, model.info.patch_size
    image = prepare(scan, preparation).image
    coarse = max(min(patch[:2]) // 2, 1), max(patch[2] // 2, 1)
    found = predict_volume(model.net, image, patch, coarse, model.batch_size) > 0
    if not found.any():
        return None
    margin = sum(preparation.margin) // 2
    box = crop_box(largest_objects(found, 2), preparation.least, [(margin, margin)] * 2, scan.path)
    return prepare(scan, preparation, crop=(*box, *((0, size) for size in image.shape[len(box) :])))


def predict_prepared(model: Model, prepared: Prepared, with_scores: bool) -> Prediction:
    """Predict as the test does, then the way back to the scan.

    On a grid that was only turned or cropped the label map is the test's own, voxel for voxel. From a resampled grid
    the scores go back, interpolated linearly, and are compared there.
    """
    info, preparation = model.info, model.preparation
    resampled = preparation.spacing is not None
    label, scores = _predict(model, prepared.image, with_scores or resampled)
    way_back = preparation.axes, prepared.crop, prepared.grid, prepared.scan
    if scores is not None:
        scores = [restore(one, *way_back, "linear" if resampled else "nearest") for one in scores[1:].cpu().numpy()]
        scores = np.stack([1 - sum(scores), *scores])  # beyond the crop there is background
    if resampled:
        label = label_map(torch.from_numpy(scores))
    if model.nms:
        label = largest_objects(label, info.num_classes)
    return Prediction(label if resampled else restore(label, *way_back), scores if with_scores else None)


def _predict(model: Model, image: np.ndarray, with_scores: bool) -> tuple[np.ndarray, Optional[torch.Tensor]]:
    """The test's label map of a prepared image and, if asked for, the scores (C, *size) behind it."""
    patch = model.info.patch_size
    if model.info.dims == 3:
        scores = window_scores(model.net, image, patch, model.stride, model.batch_size)
        return label_map(scores), scores
    return slices_and_scores(model.net, image, patch, model.batch_size, with_scores)
