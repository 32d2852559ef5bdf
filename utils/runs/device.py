"""The one rule by which a device is chosen, and what makes runs repeat on it."""

from __future__ import annotations

import os
import random
from typing import Optional

import numpy as np
import torch

from dataloaders.files import InputError
from dataloaders.seeding import generator


def pick_device(gpu: Optional[int], amp: str = "off") -> torch.device:
    """`--gpu N` picks that CUDA device, an error where there is none; without it CUDA if there is any, else the CPU."""
    if amp == "fp16" and not torch.cuda.is_available():
        raise InputError("--amp fp16 needs a CUDA device; on the CPU use bf16 or off")
    if gpu is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"--gpu {gpu}: PyTorch {torch.__version__} sees no CUDA device; leave --gpu out to run on the CPU"
        )
    if not 0 <= gpu < torch.cuda.device_count():
        raise InputError(f"--gpu {gpu}: there are the CUDA devices 0 to {torch.cuda.device_count() - 1}")
    return torch.device("cuda", gpu)


def describe_device(device: torch.device) -> str:
    """The device, a phrase for logs and records."""
    if device.type == "cuda":
        return f"device: {torch.cuda.get_device_name(device)} ({device})"
    return f"device: CPU, threads: {torch.get_num_threads()}"


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def crowded(device: torch.device) -> Optional[str]:
    """A warning where other work leaves this process fewer free cores than it has threads, else None."""
    if device.type != "cpu" or not hasattr(os, "getloadavg"):
        return None
    threads, cores, load = torch.get_num_threads(), os.cpu_count() or 1, os.getloadavg()[0]
    if threads == 1 or threads + load < cores + 1:
        return None
    return (
        f"WARNING: {threads} threads, but {load:.0f} of {cores} cores are busy already: with more threads than free "
        "cores every run slows down many times; set OMP_NUM_THREADS to the number of free cores"
    )


def set_seed(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; float32 means float32 (no TF32). Runs on a CPU repeat bit for bit as it is."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def step_seed(seed: int, step: int) -> int:
    """A seed for the draws that a step makes on the device (dropout), so that a resumed run makes the same."""
    return int(generator(seed, "dropout", step).integers(2**63))
