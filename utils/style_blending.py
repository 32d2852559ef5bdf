"""Style-guided distribution blending. Source: docs/METHODS.md section 1; arXiv 2507.20729."""

from __future__ import annotations

import numpy as np
import torch

BLEND_MODES = ("uniform", "beta", "binomial")


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


def blend_styles(image: torch.Tensor, lam: torch.Tensor, perm: torch.Tensor) -> torch.Tensor:
    """Give each image a style between its own and its partner's: (B, 1, H, W) -> (B, 1, H, W), clipped to [0, 1].

    lam (B,): 1 keeps the image's own style; perm (B,): the partners' indices.
    """
    mean = image.mean(dim=(2, 3), keepdim=True)  # mu_i
    std = (image.var(dim=(2, 3), keepdim=True) + 1e-6).sqrt()  # sigma_i, unbiased
    lam = lam.to(image.dtype)[:, None, None, None]
    blended_std = lam * std + (1 - lam) * std[perm]
    blended_mean = lam * mean + (1 - lam) * mean[perm]
    return ((image - mean) / std * blended_std + blended_mean).clamp(0, 1)
