"""Style-guided distribution blending. Source: docs/METHODS.md section 1; arXiv 2507.20729."""

from __future__ import annotations

import argparse
from typing import Optional

import numpy as np
import torch

from dataloaders.seeding import generator

BLEND_MODES = ("uniform", "beta", "binomial")
ABLATIONS = {
    "no-blending": {"blend": "off"},
    "mix-beta": {"blend": "beta"},
    "mix-binomial": {"blend": "binomial"},
}


def add_blend_flag(group: argparse._ArgumentGroup) -> None:
    """--blend"""
    group.add_argument(
        "--blend",
        choices=(*BLEND_MODES, "off"),
        default="uniform",
        help="distribution of the style blending coefficient: U(0,1), Beta(1/2,1/2), or 0 and 1 with equal "
        "probability; off: no style blending (default: %(default)s)",
    )


def blend_of_step(
    args: argparse.Namespace, step: int, num_labelled: int, num_images: int, device: torch.device
) -> tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
    """lam and perm of one iteration as --blend says, on the device; (None, None) for none."""
    if args.blend == "off":
        return None, None
    draws = draw_blend(generator(args.seed, "style", step), num_labelled, num_images, args.blend)
    lam, perm = (draw.to(device, non_blocking=True) for draw in draws)
    return lam, perm


def draw_blend(
    rng: np.random.Generator, num_labelled: int, num_images: int, mode: str = "uniform"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the mixing weights lam (B,) float32 and the partners perm (B,) of one batch, labelled images first.

    Each labelled image gets an unlabelled partner and the reverse, by a random matching each way (repeated where one
    side is the smaller). lam is U(0,1), Beta(1/2,1/2) or 0/1 with equal chance. With num_labelled == num_images (all
    labelled) the partners come from all.
    """
    labelled, unlabelled = np.arange(num_labelled), np.arange(num_labelled, num_images)
    if len(unlabelled) == 0:
        perm = rng.permutation(labelled)
    else:
        to_unlabelled = np.resize(rng.permutation(unlabelled), len(labelled))
        to_labelled = np.resize(rng.permutation(labelled), len(unlabelled))
        perm = np.concatenate([to_unlabelled, to_labelled])
    if mode == "uniform":
        lam = rng.random(num_images)
    elif mode == "beta":
        lam = rng.beta(0.5, 0.5, num_images)
    elif mode == "binomial":
        lam = rng.integers(0, 2, num_images)
    else:
        raise ValueError(f"unknown mixing coefficient '{mode}': choose one of {', '.join(BLEND_MODES)}")
    return torch.from_numpy(lam.astype(np.float32)), torch.from_numpy(perm)


def blend_styles(image: torch.Tensor, lam: Optional[torch.Tensor], perm: Optional[torch.Tensor]) -> torch.Tensor:
    """Give each image a style between its own and its partner's: (B, 1, H, W) -> (B, 1, H, W), clipped to [0, 1].

    lam (B,): 1 keeps the image's own style, None for no blending; perm (B,): the partners' indices.
    """
    if lam is None:
        return image
    mean = image.mean(dim=(2, 3), keepdim=True)  # mu_i
    std = (image.var(dim=(2, 3), keepdim=True) + 1e-6).sqrt()  # sigma_i, unbiased
    lam = lam.to(image.dtype)[:, None, None, None]
    blended_std = lam * std + (1 - lam) * std[perm]
    blended_mean = lam * mean + (1 - lam) * mean[perm]
    return ((image - mean) / std * blended_std + blended_mean).clamp(0, 1)
