"""All draws come from generators named by (seed, purpose, place), so that any of them can be repeated alone."""

from __future__ import annotations

import numpy as np

# The purposes keep draws of one place distinct; append new ones at the end, their numbers are part of every run.
PURPOSES = ("batches", "augmentation", "dropout", "style", "paste", "fusion", "phantom", "margin", "split")


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """The generator of one place, for example (iteration, position in the batch)."""
    return np.random.default_rng((seed, 1 + PURPOSES.index(purpose), *place))
