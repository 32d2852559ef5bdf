"""The teacher as an exponential moving average of the student. Source: docs/METHODS.md section 1, "Optimiser"."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_parameters(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """teacher <- alpha * teacher + (1 - alpha) * student, parameters only: BN statistics stay the teacher's own."""
    _average(list(teacher.parameters()), list(student.parameters()), alpha)


def _average(teacher: list, student: list, alpha: float) -> None:
    torch._foreach_mul_(teacher, alpha)
    torch._foreach_add_(teacher, student, alpha=1 - alpha)
