"""The teacher as an exponential moving average of the student. Source: docs/METHODS.md sections 1 and 3."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_parameters(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """teacher <- alpha * teacher + (1 - alpha) * student, parameters only: BN statistics stay the teacher's own."""
    _average(list(teacher.parameters()), list(student.parameters()), alpha)


@torch.no_grad()
def update_state(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """The same over the whole state, BN statistics too; integer buffers are copied."""
    own, new = teacher.state_dict(), student.state_dict()
    floating = [name for name, value in own.items() if value.is_floating_point()]
    _average([own[name] for name in floating], [new[name] for name in floating], alpha)
    for name in own.keys() - set(floating):
        own[name].copy_(new[name])


def _average(teacher: list, student: list, alpha: float) -> None:
    torch._foreach_mul_(teacher, alpha)
    torch._foreach_add_(teacher, student, alpha=1 - alpha)
