#!/usr/bin/env python3
"""What only a GPU can show, phase by phase: each takes less than nine minutes and writes a record of its own.

    bash scripts/measure_gpu.sh tests           # the tests that need a GPU
    bash scripts/measure_gpu.sh speed-mt        # a step of Ours (MT) at the paper's size, in each setting
    bash scripts/measure_gpu.sh speed-ducisc    # a step of DuCiSC on volumes
    bash scripts/measure_gpu.sh train-mt        # real training on ACDC; repeat it until all iterations are done
    bash scripts/measure_gpu.sh train-la        # the same for DuCiSC on LA
    bash scripts/measure_gpu.sh report          # results/gpu.md from the records

The speed phases use real data where DATASET_HOME holds it, else phantoms; training needs real data.
"""

from __future__ import annotations

import importlib
import inspect
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # scripts run from anywhere

import torch
from torch.profiler import ProfilerActivity, profile

from dataloaders.files import InputError, write_json, write_text
from dataloaders.registry import find_root, get_dataset
from scripts.evidence import SCORES, page_above
from scripts.jobs import TIME_IS_UP, Job, run_job
from scripts.make_phantom import make_phantom
from scripts.rows import DUCISC, MT, Row
from utils.cli import Parser, new_folder, one_line_errors, positive
from utils.reports.results import markdown_table
from utils.runs.code_hash import code_sha256
from utils.runs.device import describe_device, pick_device
from utils.training.loop import Trainer

BEST = "--amp bf16 --channels_last --fused"
SETTINGS = {
    "float32": "",
    "TF32": "",  # torch's own switch, no flag of the train scripts
    "bf16": "--amp bf16",
    "bf16, channels last": "--amp bf16 --channels_last",
    "bf16, channels last, fused SGD": BEST,
    "the same, CUDA graphs": f"{BEST} --cuda_graphs",
    "the same, compiled": f"{BEST} --compile",
    "the same, compiled, CUDA graphs": f"{BEST} --compile --cuda_graphs",
}
# script, dataset, the paper's iterations, phantoms (train, val, test, shape), flags
SPEED = {
    "speed-mt": (MT, "ACDC", 30000, (16, 10, 1, (10, 256, 256)), ""),
    "speed-ducisc": (DUCISC, "LA", 15000, (5, 0, 1, (120, 120, 88)), "--warmup_iterations 0 --val_cases 1"),
}
TRAIN = {"train-mt": Row("ACDC", MT, 5, flags=("--fast",)), "train-la": Row("LA", DUCISC, 8, flags=("--fast",))}
PHASES = ("tests", *SPEED, *TRAIN, "report")
WARMUP = 10


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("phase", choices=PHASES, help="what to measure")
    parser.add_argument("--out", type=new_folder, default="runs/gpu", help="folder of records (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, help="settings of a speed phase (default: all)")
    parser.add_argument("--steps", type=positive, default=60, help="steps to time (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=8, help="time limit of training (default: %(default)s)")
    parser.add_argument("--flags", default="", help="further flags of the train script, in one string (default: none)")
    parser.add_argument("--page", default="results/gpu.md", help="what report writes (default: %(default)s)")
    return parser.parse_args(argv)


def measure_step(script: str, flags: list[str], steps: int, tf32: bool) -> dict:
    """What `time_steps` finds for the train script with these flags: its own objective, data and loop."""
    module, found = importlib.import_module(script), {}

    def measure(method, data, args, path=None):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        found.update(time_steps(Trainer(None, method, data, args, {}), steps))
        return 0

    with patch.object(module, "fit", measure):
        inspect.unwrap(module.main)(flags)  # without its one-line errors: one is caught here
    return found


def time_steps(trainer: Trainer, steps: int) -> dict:
    """Times in ms of a step with its data ("step"), of either alone, in s of the first step and of a validation;
    on a GPU its kernels, launches, busy time and reserved memory; TFLOP of an eager step."""
    device = trainer.device
    on_gpu = device.type == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else lambda: None

    def seconds(function, count: int) -> float:
        synchronize()
        started = time.perf_counter()
        for _ in range(count):
            function()
        synchronize()
        return (time.perf_counter() - started) / count

    def fetch() -> dict:
        return {key: value.to(device, non_blocking=True) for key, value in next(batches).items()}

    def step(batch=None) -> None:
        trainer._note(*trainer._update(batch or fetch()))
        trainer.done += 1

    third = max(steps // 3, 1)
    batches = iter(trainer.loader(0, WARMUP + 5 * third + 1))
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    record = {"first_step_s": seconds(step, 1)}
    seconds(step, WARMUP - 1)
    record["step_ms"] = 1e3 * statistics.median(seconds(step, third) for _ in range(3))
    record["data_ms"] = 1e3 * seconds(fetch, third)
    batch = fetch()
    record["update_ms"] = 1e3 * seconds(lambda: step(batch), third)
    record.update(images=len(batch["image_w"]), size=list(batch["image_w"].shape[2:]))
    if on_gpu:
        record["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            step(batch)
            synchronize()
        events = profiler.events()
        kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
        record["kernels"] = len(kernels)
        record["launches"] = sum(event.name.startswith("cu") and "aunch" in event.name for event in events)
        record["busy_ms"] = sum(event.time_range.elapsed_us() for event in kernels) / 1e3
    if trainer.validate:
        record["validation_s"] = seconds(trainer.validate, 1)
    if not (trainer.args.compile or trainer.args.cuda_graphs):
        from torch.utils.flop_counter import FlopCounterMode  # since PyTorch 2.1

        with FlopCounterMode(display=False) as counter:
            step(batch)
        record["tflop"] = counter.get_total_flops() / 1e12
    return record


def about(script: str) -> dict:
    """Device, driver, versions, the hash of the train script's code."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "none"
    device = describe_device(pick_device(None)).replace("device: ", "")
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"device": device, "driver": driver, **versions, "code": code_sha256(script[len("train_") :])[:12]}


def run_tests(args) -> dict:
    started = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests" / "test_gpu.py")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = result.stdout.strip().splitlines() or [result.stderr.strip()[-300:]]
    return {"result": lines[-1].strip("= "), "exit_code": result.returncode, "seconds": time.perf_counter() - started}


def run_speed(args) -> dict:
    script, dataset, iterations, (train, val, test, shape), flags = SPEED[args.phase]
    try:
        root = find_root(get_dataset(dataset))
    except InputError:
        root = Path(args.out) / "phantoms" / dataset
        if not root.exists():
            make_phantom(dataset, root.parent, train=train, val=val, test=test, shape=shape)
    record = {**about(script), "iterations": iterations, "settings": {}}
    for name in args.only or SETTINGS:
        argv = f"--name {dataset} --labeled_cases 3 {flags} {SETTINGS[name]} {args.flags}".split()
        argv += ["--root_path", str(root), "--output_dir", str(Path(args.out) / "unused")]
        try:
            found = measure_step(script, argv, args.steps, name == "TF32")
        except (RuntimeError, InputError) as error:  # one that this device or PyTorch cannot run leaves the others
            found = {"error": (str(error) or repr(error)).splitlines()[0]}
        record["settings"][name] = found
        print(f"{name}: {json.dumps(found)}", flush=True)
        write_json(Path(args.out) / f"{args.phase}.json", record)
        importlib.import_module("torch._dynamo").reset()
    return record


def run_training(args) -> dict:
    row = TRAIN[args.phase]
    find_root(get_dataset(row.dataset))
    job = Job(row, 1337, args.out, tuple(args.flags.split()), None)
    outcome = run_job(job, time_limit=args.minutes)
    record = {**about(row.script), "state": job.state, "command": shlex.join(job.commands()["train"])}
    if outcome.failure == TIME_IS_UP:
        print(f"{job.name}: {job.state}; repeat this phase to continue")
    elif outcome.failure:
        raise InputError(f"{job.name}: {outcome.failure}")
    for kind in ("best", "last") if job.is_tested else ():
        summary = json.loads((job.stages[-1].folder / f"test_{kind}" / "summary.json").read_text())
        record[kind] = {name: summary["metrics"][name]["mean"] for name in SCORES}
    return record


def speed_table(record: dict) -> list[str]:
    """A speed phase as Markdown."""
    settings = {name: found for name, found in record["settings"].items() if "step_ms" in found}
    errors = [f"\n{name}: {found['error']}" for name, found in record["settings"].items() if "error" in found]
    if not settings:
        return errors
    first = next(iter(settings.values()))
    tflop = next((found["tflop"] for found in settings.values() if "tflop" in found), None)
    caption = (
        f"{first['images']} images of {'×'.join(map(str, first['size']))} a step"
        + (f", {tflop:.2f} TFLOP forward and backward" if tflop else "")
        + f"; {record['device']}, driver {record['driver']}, PyTorch {record['torch']}, cuDNN {record['cudnn']}."
    )
    rows = []
    for name, found in settings.items():
        step = found["step_ms"]
        row = {
            "setting": name,
            "step, ms": f"{step:.1f}",
            "images/s": f"{1e3 * found['images'] / step:.0f}",
            "TFLOP/s": f"{1e3 * tflop / step:.1f}" if tflop else "",
            "data, ms": f"{found['data_ms']:.1f}",
            "kernels": found.get("kernels", ""),
            "launches": found.get("launches", ""),
            "GPU busy, ms": f"{found['busy_ms']:.1f}" if "busy_ms" in found else "",
            "memory, GiB": f"{found['reserved_gib']:.1f}" if "reserved_gib" in found else "",
            "first step, s": f"{found['first_step_s']:.1f}",
            "validation, s": f"{found['validation_s']:.1f}" if "validation_s" in found else "",
            f"minutes for {record['iterations']:,} steps": f"{step * record['iterations'] / 6e4:.1f}",
        }
        rows.append(list(row.values()))
    return [caption, "", *markdown_table([list(row), *rows]), *errors]


def write_report(args) -> None:
    """The page from all records in the folder and below, of several cards too; the text above its mark is kept."""
    parts = []
    for phase in PHASES[:-1]:
        records = [json.loads(path.read_text()) for path in sorted(Path(args.out).rglob(f"{phase}.json"))]
        if records:
            parts.append(f"## {phase}")
        for record in records:
            lines = speed_table(record) if phase in SPEED else [f"{key}: {value}" for key, value in record.items()]
            parts.append("\n".join(lines))
    if not parts:
        raise InputError(f"{args.out}: no records in it; run a phase first: {', '.join(PHASES[:-1])}")
    write_text(Path(args.page), page_above(Path(args.page), "Speed on a GPU") + "\n\n".join(parts) + "\n")
    print(args.page)


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    if args.phase == "report":
        write_report(args)
        return 0
    run = run_tests if args.phase == "tests" else run_speed if args.phase in SPEED else run_training
    record = run(args)
    write_json(Path(args.out) / f"{args.phase}.json", record)
    print(json.dumps({key: value for key, value in record.items() if key != "settings"}))
    return record.get("exit_code", 0)


if __name__ == "__main__":
    sys.exit(main())
