"""The two-stream batch sampler, shared by 2-D and 3-D training."""

from __future__ import annotations

from functools import lru_cache
from typing import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from dataloaders.seeding import generator


class TwoStreamBatches(Sampler):
    """Endless batches of indices, labelled first, each a function of (seed, iteration) alone.

    An epoch is one pass over the labelled indices in whole half-batches (a rest is dropped); fewer of them than a
    half-batch are cycled. The second stream runs in endless reshuffled passes, begun anew with each epoch.
    Without unlabelled indices it comes from the labelled ones too.
    Yields (iteration, indices) for iteration = start .. stop-1: workers are made once, and a resumed run continues
    with the batches that an uninterrupted one would have had.
    """

    def __init__(
        self,
        labelled: Sequence[int],
        unlabelled: Sequence[int],
        labelled_bs: int,
        unlabelled_bs: int,
        seed: int,
        start: int,
        stop: int,
    ):
        self.streams = (tuple(labelled), tuple(unlabelled) or tuple(labelled))
        self.sizes = (labelled_bs, unlabelled_bs)
        self.seed, self.start, self.stop = seed, start, stop
        self.steps_per_epoch = max(1, len(labelled) // labelled_bs)
        self._pass = lru_cache(maxsize=8)(self._shuffled)

    def _shuffled(self, stream: int, epoch: int, number: int) -> np.ndarray:
        rng = generator(self.seed, "batches", epoch, stream, number)
        return rng.permutation(self.streams[stream])

    def batch(self, iteration: int) -> list[int]:
        """The indices of one iteration."""
        epoch, step = divmod(iteration, self.steps_per_epoch)
        indices = []
        for stream, size in enumerate(self.sizes):
            for position in range(step * size, (step + 1) * size):
                number, place = divmod(position, len(self.streams[stream]))
                indices.append(int(self._pass(stream, epoch, number)[place]))
        return indices

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return ((iteration, self.batch(iteration)) for iteration in range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start
