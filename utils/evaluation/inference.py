"""From a network and a whole volume to a label map. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import product
from typing import Callable, Iterator, Optional, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from dataloaders.files import InputError
from dataloaders.registry import DatasetInfo
from dataloaders.resize import nearest_zoom
from utils.deep_supervision import outputs
from utils.labels import hard_label


def finest_logits(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The logits of a network at full size, the last of those at several scales."""
    return outputs(net, image)[0][-1]


@contextmanager
def evaluating(net: nn.Module) -> Iterator[torch.device]:
    """Eval mode without gradients for a while; gives the network's device, leaves it in the mode it was in."""
    was_training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            yield next(net.parameters()).device
    finally:
        net.train(was_training)


def predict_slices(net: nn.Module, image: np.ndarray, patch_size: Sequence[int], batch_size: int = 24) -> np.ndarray:
    """Label map uint8 (Z, H, W) of a volume (Z, H, W), slice by slice, `batch_size` slices at a time.

    Each slice is nearest-zoomed to the patch, the arg-max of its logits zoomed back.
    """
    return slices_and_scores(net, image, patch_size, batch_size, with_scores=False)[0]


def slices_and_scores(
    net: nn.Module, image: np.ndarray, patch_size: Sequence[int], batch_size: int = 24, with_scores: bool = True
) -> tuple[np.ndarray, Optional[torch.Tensor]]:
    """The label map of `predict_slices` and, if asked for, the softmax behind it, from one pass of the network.

    The softmax is zoomed back likewise: (C, Z, H, W) on the network's device, sum 1.
    """
    with evaluating(net) as device:
        labels, scores = [], []
        for chunk in torch.from_numpy(image).to(device).split(batch_size):
            logits = finest_logits(net, nearest_zoom(chunk, patch_size)[:, None])
            labels.append(nearest_zoom(hard_label(logits, torch.uint8), image.shape[1:]))
            if with_scores:
                scores.append(nearest_zoom(logits.softmax(dim=1), image.shape[1:]).transpose(0, 1))
        label = torch.cat(labels).cpu().numpy()
        if not with_scores:
            return label, None
        scores = torch.cat(scores, dim=1)
        scores[0] = 1 - scores[1:].sum(dim=0)  # the rows that the zoom leaves empty are background
        return label, scores


def window_starts(size: int, patch: int, stride: int) -> list[int]:
    """min(i * stride, size - patch) from 0 until the axis is covered; none twice."""
    count = -(-(size - patch) // stride) + 1
    return [min(index * stride, size - patch) for index in range(count)]


def check_stride(flag: str, stride: Sequence[int], patch_size: Sequence[int]) -> None:
    """Raise InputError where windows with this stride (first two axes, last axis) would leave gaps between them."""
    if stride[0] > min(patch_size[:2]) or stride[1] > patch_size[2]:
        raise InputError(
            f"{flag} {stride[0]} {stride[1]}: windows of {' '.join(map(str, patch_size))} voxels would leave gaps; "
            f"give at most {min(patch_size[:2])} {patch_size[2]}"
        )


def window_scores(
    net: nn.Module, image: np.ndarray, patch_size: Sequence[int], stride: Sequence[int], batch_size: int = 4
) -> torch.Tensor:
    """The average softmax of all windows over a volume (X, Y, Z): (C, X, Y, Z) on the network's device.

    stride: in the first two axes and in the last, voxels. A volume smaller than the patch is zero-padded
    symmetrically, the odd voxel at the end. `batch_size` windows go through the network together.
    """
    padding = [
        (max(patch - size, 0) // 2, (max(patch - size, 0) + 1) // 2) for size, patch in zip(image.shape, patch_size)
    ]
    padded = np.pad(image, padding)
    strides = stride[0], stride[0], stride[1]
    starts = [window_starts(*axis) for axis in zip(padded.shape, patch_size, strides)]
    windows = [tuple(slice(s, s + p) for s, p in zip(corner, patch_size)) for corner in product(*starts)]
    with evaluating(net) as device:
        volume = torch.from_numpy(padded).to(device)
        total, count = None, torch.zeros(padded.shape, device=device)
        for first in range(0, len(windows), batch_size):
            chunk = windows[first : first + batch_size]
            prob = finest_logits(net, torch.stack([volume[window] for window in chunk])[:, None]).softmax(dim=1)
            if total is None:
                total = torch.zeros(prob.shape[1], *padded.shape, device=device, dtype=prob.dtype)
            for window, scores in zip(chunk, prob):
                total[(slice(None), *window)] += scores
                count[window] += 1
        inside = tuple(slice(before, before + size) for (before, _), size in zip(padding, image.shape))
        return (total / count)[(slice(None), *inside)]


def predict_volume(
    net: nn.Module, image: np.ndarray, patch_size: Sequence[int], stride: Sequence[int], batch_size: int = 4
) -> np.ndarray:
    """Label map uint8 of a volume by sliding windows."""
    return label_map(window_scores(net, image, patch_size, stride, batch_size))


def label_map(scores: torch.Tensor) -> np.ndarray:
    """Label map uint8 of averaged scores (C, *size): foreground > 0.5, or the arg-max for more than two classes."""
    pred = scores[1] > 0.5 if len(scores) == 2 else scores.argmax(dim=0)
    return pred.to(torch.uint8).cpu().numpy()


def largest_objects(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Keep of each class of a volume its largest 26-connected object (`--nms`)."""
    kept = np.zeros_like(label)
    for index in range(1, num_classes):
        objects, count = ndimage.label(label == index, structure=np.ones((3,) * label.ndim))
        if count:
            kept[objects == 1 + np.argmax(np.bincount(objects.ravel())[1:])] = index
    return kept


def make_predictor(
    net: nn.Module,
    info: DatasetInfo,
    patch_size: Sequence[int],
    stride: Optional[Sequence[int]] = None,
    batch_size: Optional[int] = None,
    nms: bool = False,
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from an image to its label map that a dataset's protocol asks for."""
    if info.dims == 3:
        check_stride("--stride", stride or info.stride, patch_size)

    def predict(image: np.ndarray) -> np.ndarray:
        if info.dims == 2:
            label = predict_slices(net, image, patch_size, batch_size or 24)
        else:
            label = predict_volume(net, image, patch_size, stride or info.stride, batch_size or 4)
        return largest_objects(label, info.num_classes) if nms else label

    return predict
