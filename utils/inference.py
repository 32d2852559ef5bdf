"""From a network and a whole volume to a label map. Source: docs/PROTOCOLS.md, "Evaluation"."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from torch import nn

from dataloaders.resize import nearest_zoom


@torch.inference_mode()
def predict_slices(net: nn.Module, image: np.ndarray, patch_size: Sequence[int], batch_size: int = 24) -> np.ndarray:
    """Label map uint8 (Z, H, W) of a volume (Z, H, W), slice by slice, `batch_size` slices at a time.

    Each slice is nearest-zoomed to the patch, the arg-max of its logits zoomed back. The network runs in eval mode
    and is left in the mode it was in.
    """
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    label = np.empty(image.shape, dtype=np.uint8)
    for start in range(0, len(image), batch_size):
        chunk = slice(start, start + batch_size)
        zoomed = nearest_zoom(image[chunk], tuple(patch_size))
        logits = net(torch.from_numpy(zoomed)[:, None].to(device))[0]
        pred = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        label[chunk] = nearest_zoom(pred, image.shape[1:])
    net.train(was_training)
    return label
