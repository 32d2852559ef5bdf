"""Pictures of slices and label maps in one palette, drawn by torchvision; it and pillow are imported only then."""

from __future__ import annotations

import io
from typing import Mapping, Sequence, Union

import numpy as np
import torch

# One colour per class for label maps, curves and legends, distinct for people with colour-blindness too (Okabe and
# Ito, 2008).
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
# Kinds of error, in colours that the palette does not use.
ERRORS = {"missed": "#d62728", "added": "#1f77f5", "wrong class": "#ffffff"}


def class_colour(label: int) -> str:
    """The colour of a foreground label (from 1) as "#rrggbb"; beyond the palette the same colours, darker each time."""
    lap, place = divmod(label - 1, len(PALETTE))
    return "#" + bytes(round(value * 0.6**lap) for value in bytes.fromhex(PALETTE[place][1:])).hex()


def can_draw() -> bool:
    """Whether torchvision can be imported: training goes without pictures where it is missing or of another torch."""
    try:
        import torchvision.utils  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def window(image: np.ndarray) -> np.ndarray:
    """Grey levels between the 1st and the 99th percentile scaled to [0, 1], the rest clipped."""
    low, high = np.percentile(image, (1, 99))
    if high <= low:  # nearly everything is background
        low, high = image.min(), image.max()
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)


def grey(image: np.ndarray) -> torch.Tensor:
    """An image (H, W) in [0, 1] as a picture: uint8 (3, H, W)."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return torch.from_numpy(levels).repeat(3, 1, 1)


def paint(picture: torch.Tensor, masks: Sequence[np.ndarray], colours: Sequence[str], opacity: float) -> torch.Tensor:
    """The picture (3, H, W) with each of the masks (H, W) in its colour."""
    from torchvision.utils import draw_segmentation_masks

    if not masks:
        return picture
    return draw_segmentation_masks(picture, torch.from_numpy(np.stack(masks)), opacity, list(colours))


def overlay(image: np.ndarray, label: np.ndarray, opacity: float = 0.6) -> torch.Tensor:
    """An image (H, W) in [0, 1] with its labels (H, W) in their colours: uint8 (3, H, W)."""
    present = [int(value) for value in np.unique(label) if value > 0]
    return paint(grey(image), [label == value for value in present], list(map(class_colour, present)), opacity)


def error_map(image: np.ndarray, truth: np.ndarray, pred: np.ndarray) -> torch.Tensor:
    """The image darkened, with each kind of error in its colour: uint8 (3, H, W)."""
    masks = {
        "missed": (truth > 0) & (pred == 0),
        "added": (truth == 0) & (pred > 0),
        "wrong class": (truth > 0) & (pred > 0) & (truth != pred),
    }
    return paint(grey(image * 0.6), [masks[name] for name in ERRORS], list(ERRORS.values()), opacity=1)


def encode(picture: Union[torch.Tensor, np.ndarray]) -> bytes:
    """A picture, uint8 (3, H, W), as a JPEG file in which thin contours keep their colours."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(picture).transpose(1, 2, 0)).save(file, "JPEG", quality=88, subsampling=0)
    return file.getvalue()


def middle_plane(values: torch.Tensor) -> np.ndarray:
    """(N, H, W) as it is, (N, X, Y, Z) at the middle of the last axis."""
    return (values if values.ndim == 3 else values[..., values.shape[-1] // 2]).cpu().numpy()


def make_panel(batch: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor], rows: int = 4) -> torch.Tensor:
    """One picture, uint8 (3, H, W): one row per image, with columns image, each label map (student, ...), ground truth.

    The label maps belong to the last images of the batch; their first `rows` are drawn.
    """
    from torchvision.utils import make_grid

    count = min(len(value) for value in labels.values())
    images = middle_plane(batch["image_w"][-count:][:rows, 0].float())
    maps = [middle_plane(value[:rows]) for value in (*labels.values(), batch["label"][-count:])]
    tiles = []
    for image, *of_image in zip(map(window, images), *maps):
        tiles += [grey(image), *(overlay(image, label) for label in of_image)]
    return make_grid(tiles, nrow=1 + len(maps), padding=1)
