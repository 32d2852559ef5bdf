"""Faster ways through a network's layers, in training alone, that the speed flags bring in."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Callable

import torch
from torch import nn
from torch.utils._pytree import tree_flatten


def use_faster_layers(net: nn.Module, device: torch.device, args: argparse.Namespace) -> None:
    """--compile brings in `upsample_x2`; without it on a CPU --amp `dropout`, --channels_last `lay_out_gradients`."""
    eager_cpu = device.type == "cpu" and not args.compile
    for module in net.modules():
        if args.compile and isinstance(module, nn.Upsample):
            if (module.mode, module.align_corners, module.scale_factor) == ("bilinear", True, 2):
                replace_in_training(module, upsample_x2)
        elif eager_cpu and args.amp != "off" and isinstance(module, nn.Dropout) and 0 < module.p < 1:
            replace_in_training(module, partial(dropout, p=module.p))
    if eager_cpu and args.channels_last:
        for part in parts_called(net):
            lay_out_gradients(part)


def parts_called(net: nn.Module) -> list[nn.Module]:
    """The network, and SPC's head, which the objective calls separately."""
    return [part for part in (net, getattr(net, "proj_head", None)) if part is not None]


def replace_in_training(module: nn.Module, forward: Callable) -> None:
    """Have a module compute `forward` in training; in evaluation it stays what it is."""
    evaluate = module.forward
    module.forward = lambda x: forward(x) if module.training else evaluate(x)


def upsample_x2(x: torch.Tensor) -> torch.Tensor:
    """Bilinear, corners aligned, as weighted sums of neighbours: (B, C, H, W) -> (B, C, 2H, 2W).

    Compiled, the backward pass of PyTorch's own adds with atomic operations, a sixth of the time of a step's kernels.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return _doubled(_doubled(wide, 2), 3).to(x.dtype)


def _doubled(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Linear interpolation to twice the length n of an axis.

    Place 2i of the result lies i / (2n - 1) before x[i], place 2i + 1 lies (n - 1 - i) / (2n - 1) after it.
    """
    n = x.shape[axis]
    share = torch.arange(n, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 1 - axis)) / (2 * n - 1)
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], dim=axis)
    after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], dim=axis)
    pair = torch.lerp(x, before, share), torch.lerp(x, after, share.flip(0))
    return torch.stack(pair, dim=axis + 1).flatten(axis, axis + 1)


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout by four draws of 16 bits from each random number, with p rounded to a multiple of 2^-16.

    On a CPU PyTorch's own spends one number on each value, which took a tenth of a step in bf16.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = torch.empty_like(x)
    in_memory_order = kept.as_strided((x.numel(),), (1,))
    in_memory_order.copy_(draws[: x.numel()] >= dropped - 2**15)
    return x * kept.mul_(1 / (1 - dropped / 2**16))


LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes


def lay_out_gradients(module: nn.Module) -> None:
    """Have the gradients of a module's outputs arrive channels-last.

    Those of a slice of an output come in the default layout, in which the backward pass of the layers before is slow.
    """

    def hook(module, inputs, outputs):
        for output in tree_flatten(outputs)[0]:
            if output.requires_grad and output.ndim in LAYOUTS:
                output.register_hook(lambda gradient: gradient.contiguous(memory_format=LAYOUTS[gradient.ndim]))

    module.register_forward_hook(hook)
