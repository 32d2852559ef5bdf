"""Where a run's time goes, part by part: --profile."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Iterator, Optional

import torch


class Stopwatch:
    """Adds up wall-clock seconds by name: `with watch("step"): ...`. Does nothing where `device` is None.

    On a GPU it waits for the device at both ends of a part, so that work counts where it is done: a profiled run is
    slower than a plain one, its shares are what to look at.
    """

    def __init__(self, device: Optional[torch.device]):
        self.device = device
        self.seconds: dict[str, float] = {}
        self.count: dict[str, int] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.device is None:
            yield
            return
        started = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - started
        self.count[name] = self.count.get(name, 0) + 1

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def report(self) -> str:
        """One line: the parts, the largest first, with their share, seconds and milliseconds a time."""
        total = sum(self.seconds.values())
        parts = sorted(self.seconds.items(), key=lambda item: -item[1])
        return f"where {total:.1f} s went: " + ", ".join(
            f"{name} {value / total:.1%} ({value:.1f} s, {value / self.count[name] * 1e3:.1f} ms each)"
            for name, value in parts
        )
