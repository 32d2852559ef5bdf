#!/usr/bin/env python3
"""What only a GPU can show, phase by phase, each under nine minutes and with a record of its own.

    bash scripts/measure_gpu.sh tests               # the tests that need a GPU
    bash scripts/measure_gpu.sh speed-mt            # a step of Ours (MT) at the paper's size, in each setting
    bash scripts/measure_gpu.sh speed-ducisc        # a step of DuCiSC on volumes
    bash scripts/measure_gpu.sh train-mt            # real training on ACDC; again and again until it has its iterations
    bash scripts/measure_gpu.sh train-la            # the same for DuCiSC on LA
    bash scripts/measure_gpu.sh report              # results/gpu.md from the records

Phantoms, or real data where DATASET_HOME holds ACDC/ and LA/; train-mt and train-la need real data. Records lie in --out;
a phase that is there already is measured again.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # scripts run from anywhere: the root holds the packages

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dataloaders.datasets import get_dataset  # noqa: E402
from dataloaders.errors import InputError  # noqa: E402
from dataloaders.writing import write_json, write_text  # noqa: E402
from scripts.make_phantom import make_phantom  # noqa: E402
from utils.device import describe_device, pick_device  # noqa: E402
from utils.options import Parser, new_folder, one_line_errors, positive, positive_number  # noqa: E402
from utils.training import Trainer  # noqa: E402

EAGER = "--amp bf16 --channels_last --fused"
SETTINGS = {
    "float32": "",
    "TF32": "",  # by torch's switch
    "bf16": "--amp bf16",
    "bf16, channels last": "--amp bf16 --channels_last",
    "the same, fused SGD": EAGER,
    "the same, compiled": f"{EAGER} --compile",
    "the same, CUDA graphs": f"{EAGER} --cuda_graphs",
}
SPEED = {  # script, dataset, iterations of the paper, phantoms (train, val, test, shape), what only this phase adds
    "speed-mt": ("train_Ours_MT", "ACDC", 30000, (16, 10, 1, (10, 256, 256)), ""),
    "speed-ducisc": ("train_DuCiSC", "LA", 15000, (12, 0, 1, (120, 120, 88)), "--warmup_iterations 0 --val_cases 1"),
}
TRAIN = {
    "train-mt": ("train_Ours_MT", "--name ACDC --labelnum 5 --fast", "test_2d", "ACDC"),
    "train-la": ("train_DuCiSC", "--name LA --labelnum 8 --fast", "test_3d", "LA"),
}
PHASES = ("tests", *SPEED, *TRAIN, "report")


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("phase", choices=PHASES, help="what to measure")
    parser.add_argument("--out", type=new_folder, default="runs/gpu", help="folder of records (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, help="settings of a speed phase (default: all)")
    parser.add_argument("--steps", type=positive, default=60, help="steps to time, after ten (default: %(default)s)")
    parser.add_argument("--minutes", type=positive_number, default=8.0, help="limit of training (default: %(default)s)")
    parser.add_argument("--flags", default="", help="further flags of the train script, in one string (default: none)")
    return parser.parse_args(argv)


def measure_step(script: str, flags: list[str], steps: int, tf32: bool) -> dict:
    """Times of one setting: the train script's own objective, data and loop, without its run folder."""
    module = importlib.import_module(script)
    found = {}

    def measure(method, data, args, path=None):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        trainer = Trainer(None, method, data, args, {})
        found.update(time_trainer(trainer, steps))
        return 0

    with patch.object(module, "fit", measure):
        module.main(flags)
    return found


def time_trainer(trainer: Trainer, steps: int) -> dict:
    """Milliseconds of a step with and without its data, the first step's seconds, launches, memory, a validation."""
    device = trainer.device
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def timed(function, count: int = 1) -> float:
        synchronize()
        started = time.perf_counter()
        for _ in range(count):
            function()
        synchronize()
        return (time.perf_counter() - started) / count

    batches = iter(trainer.loader(0, 4 * steps + 100))

    def fetch():
        return {key: value.to(device, non_blocking=True) for key, value in next(batches).items()}

    def step(batch=None):
        trainer._note(*trainer._update(fetch() if batch is None else batch))
        trainer.done += 1

    record = {"first_step_s": timed(step)}
    timed(step, 9)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rounds = [timed(step, steps // 3) for _ in range(3)]
    record["step_ms"] = 1e3 * statistics.median(rounds)
    if device.type == "cuda":
        record["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    record["data_ms"] = 1e3 * timed(fetch, steps // 3)
    batch = fetch()
    record["update_ms"] = 1e3 * timed(lambda: step(batch), steps // 3)
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            step(batch)
            synchronize()
        kernels = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        record["kernels"] = len(kernels)
        record["launches"] = sum("aunch" in event.name and event.name.startswith("cu") for event in profiler.events())
        record["busy_ms"] = sum(event.device_time for event in kernels) / 1e3
        totals: dict = {}
        for event in kernels:
            totals[event.name[:90]] = totals.get(event.name[:90], 0.0) + event.device_time / 1e3
        record["top_kernels_ms"] = dict(sorted(totals.items(), key=lambda item: -item[1])[:12])
    if trainer.validate:
        record["validation_s"] = timed(trainer.validate)
    args = trainer.args
    if not (args.compile or args.cuda_graphs):
        counter = FlopCounterMode(display=False)
        with counter:
            step(batch)
        record["tflop"] = counter.get_total_flops() / 1e12
    record["batch"], record["patch"] = len(batch["image_w"]), list(batch["image_w"].shape[2:])
    return record


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    out = Path(args.out)
    script, dataset, iterations, phantoms, flags = SPEED[args.phase]
    home = os.environ.get("DATASET_HOME")
    if not home or not any((Path(home) / name).is_dir() for name in get_dataset(dataset).folders):
        train, val, test, shape = phantoms
        home = str(out / "phantoms")
        if not (Path(home) / get_dataset(dataset).folders[0]).exists():
            make_phantom(dataset, Path(home), train=train, val=val, test=test, shape=shape)
        os.environ["DATASET_HOME"] = home
    rows = {}
    for name in args.only or SETTINGS:
        argv = (
            f"--name {dataset} --labeled_cases 3 {flags} {SETTINGS[name]} {args.flags} --output_dir {out}/none".split()
        )
        try:
            rows[name] = measure_step(script, argv, args.steps, name == "TF32")
        except Exception as error:
            rows[name] = {"error": str(error).splitlines()[0][:300] if str(error) else repr(error)}
        print(name, json.dumps(rows[name]), flush=True)
        write_json(
            out / f"{args.phase}.json",
            {
                "device": describe_device(pick_device(None)),
                "torch": torch.__version__,
                "iterations": iterations,
                "settings": rows,
            },
        )
        if "dynamo" in sys.modules or True:
            importlib.import_module("torch._dynamo").reset()
    return 0


if __name__ == "__main__":
    sys.exit(main())
