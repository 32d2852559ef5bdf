"""Ways to run the same objective faster. Each is a flag, all are off by default: the papers' numbers are float32."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Callable, Optional

import torch
from torch import nn

from dataloaders.files import InputError
from dataloaders.registry import get_dataset
from utils.training.layers import LAYOUTS, parts_called, replace_in_training, use_faster_layers

# What --fast turns on by device and dimension, as measured: results/gpu.md, results/performance.md
FAST = {
    ("cuda", 2): {"amp": "bf16", "channels_last": True, "compile": True, "cuda_graphs": True, "fused": True},
    ("cuda", 3): {"amp": "bf16", "channels_last": True, "cuda_graphs": True, "fused": True},
    ("bf16 cpu", 2): {"amp": "bf16", "channels_last": True},
    ("bf16 cpu", 3): {"amp": "bf16"},
    ("cpu", 2): {"channels_last": True},
    ("cpu", 3): {},
}
AMP_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_speed(args: argparse.Namespace, device: torch.device) -> None:
    """Put into `args` what --fast stands for on this device for this dataset, so that the run's record shows it.

    Raises InputError for a flag that this device or this PyTorch cannot follow.
    """
    if args.fast:
        kind = "bf16 cpu" if device.type == "cpu" and computes_bf16() else device.type
        chosen = FAST[kind, get_dataset(args.name, args.root_path).dims]
        if args.amp not in ("off", chosen.get("amp", args.amp)):
            raise InputError(f"--fast takes --amp {chosen['amp']} here, not {args.amp}: leave one of them out")
        vars(args).update({flag: value for flag, value in chosen.items() if not newer_pytorch_for(flag)})
    if args.data_on == "gpu" and device.type != "cuda":
        raise InputError("--data_on gpu needs a CUDA device; leave it out to keep the data on the CPU")
    if args.cuda_graphs and device.type != "cuda":
        raise InputError("--cuda_graphs needs a CUDA device; --compile alone runs on a CPU too")
    for flag in ("compile", "cuda_graphs", "fused"):
        if vars(args)[flag] and newer_pytorch_for(flag):
            raise InputError(f"--{flag} needs PyTorch {newer_pytorch_for(flag)} or newer, this is {torch.__version__}")


def newer_pytorch_for(flag: str) -> Optional[str]:
    """The version of PyTorch that a flag needs, where this one is older; else None. --fast leaves such a flag out."""
    if flag == "fused":
        return None if "fused" in inspect.signature(torch.optim.SGD.__init__).parameters else "2.4"
    return "2.1" if flag in ("compile", "cuda_graphs") and not hasattr(torch, "compiler") else None


def computes_bf16() -> bool:
    """Whether this machine's processor multiplies bf16 itself (AMX or AVX512-BF16); known on Linux."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in processor or "avx512_bf16" in processor


def place(net: nn.Module, device: torch.device, args: argparse.Namespace) -> nn.Module:
    """The network on its device in training mode, in the memory layout and precision that the flags ask for."""
    layout = LAYOUTS[max(value.ndim for value in net.parameters())] if args.channels_last else torch.contiguous_format
    net = net.to(device, memory_format=layout).train()
    use_faster_layers(net, device, args)
    if args.amp != "off":
        for part in parts_called(net):
            _mix_precision(part, device, AMP_DTYPES[args.amp])
    return net


def _mix_precision(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Run training's forward passes under autocast, give their results in float32.

    So losses, prototypes and thresholds are computed in float32 whatever the precision; weights and BN statistics are
    float32 anyway. Evaluation stays float32, so that training's validation and the test scripts agree.
    """
    forward = module.forward

    def mixed(x):
        with torch.autocast(device.type, dtype=dtype):
            output = forward(x)
        return _to_float32(output)

    replace_in_training(module, mixed)


def _to_float32(output):
    if isinstance(output, torch.Tensor):
        return output.float()
    return type(output)(_to_float32(part) for part in output)


def make_sgd(net: nn.Module, args: argparse.Namespace) -> torch.optim.SGD:
    """The papers' optimiser: momentum 0.9, weight decay 1e-4, a constant learning rate. --fused: one kernel for all."""
    options = {"fused": True} if args.fused else {}
    return torch.optim.SGD(net.parameters(), lr=args.base_lr, momentum=0.9, weight_decay=1e-4, **options)


def compiled(objective: Callable, args: argparse.Namespace, device: torch.device) -> Callable:
    """`objective` as it is, or with --compile or --cuda_graphs by torch.compile, in one graph for the shapes at hand.

    --cuda_graphs alone captures PyTorch's own kernels, which takes seconds where compilation takes minutes.
    Positional floats move from step to step (the ramp) and become tensors; what is given by name is constant.
    """
    if not (args.compile or args.cuda_graphs):
        return objective
    if args.compile:
        kind = {"mode": "reduce-overhead" if args.cuda_graphs else "default"}
    else:
        kind = {"backend": "cudagraphs"}
    fast = torch.compile(objective, dynamic=False, fullgraph=True, **kind)

    def call(*moving, **constant):
        if args.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        moving = [
            torch.full((), value, dtype=torch.float64, device=device) if isinstance(value, float) else value
            for value in moving
        ]
        return fast(*moving, **constant)

    return call
