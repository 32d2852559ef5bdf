#!/usr/bin/env python3
"""Where the time goes, as ratios measured in one process: training steps, loader, pseudo labels, windows, metrics.

    python scripts/benchmark.py                                            # on phantoms
    python scripts/benchmark.py --root_path $DATASET_HOME/ACDC --patch_size 256 256 --batch_size 24
    python scripts/benchmark.py --only metrics --volumes "$DATASET_HOME"/LA/*/*/mri_norm2.h5

Machines are shared and noisy: quote the ratios, not the milliseconds. The metrics need MedPy (tests/requirements.txt).
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # scripts run from anywhere: the root holds the packages

import train_DuCiSC  # noqa: E402
import train_Ours_BCP  # noqa: E402
import train_Ours_MT  # noqa: E402
from dataloaders.datasets import get_dataset  # noqa: E402
from dataloaders.reading import read_case  # noqa: E402
from dataloaders.sampler import TwoStreamBatches  # noqa: E402
from dataloaders.training_data import load_training_data  # noqa: E402
from networks import net_factory  # noqa: E402
from scripts.make_phantom import draw_case, draw_style, make_phantom  # noqa: E402
from utils.copy_paste import box_mask, draw_box  # noqa: E402
from utils.device import describe_device, pick_device, set_seed  # noqa: E402
from utils.ema import update_parameters, update_state  # noqa: E402
from utils.inference import window_scores  # noqa: E402
from utils.metrics import METRICS, case_metrics  # noqa: E402
from utils.prototypes import PrototypeMemory  # noqa: E402
from utils.pseudo_labels import largest_component  # noqa: E402
from utils.style_blending import draw_blend  # noqa: E402
from utils.thresholds import ConfidenceThresholds  # noqa: E402
from utils.training import make_loader  # noqa: E402


def seconds(function, repeats: int, device: torch.device) -> float:
    """The median time of a call after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def benchmark_step(args, device) -> float:
    """The MT step beside its networks' forward and backward passes alone; returns the step's seconds."""
    batch, half = args.batch_size, args.batch_size // 2
    student, teacher = (net_factory("unet_proj", 1, 4).to(device).train() for _ in range(2))
    teacher.requires_grad_(False)
    memories = [PrototypeMemory(4).to(device) for _ in range(2)]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    image_w, image_s = (torch.rand(batch, 1, *args.patch_size, device=device) for _ in range(2))
    label = torch.randint(0, 4, (half, *args.patch_size), device=device)
    lam, perm = (draw.to(device) for draw in draw_blend(np.random.default_rng(0), half, batch))

    def passes():
        total = 0
        for image in (image_w, image_s):
            logits, feat = student(image)
            total = total + logits.mean() + student.proj_head(feat[half:]).mean()
            with torch.no_grad():
                teacher(image[half:])
        optimizer.zero_grad(set_to_none=True)
        total.backward()

    def objective():
        loss, _ = train_Ours_MT.compute_losses(student, teacher, *memories, image_w, image_s, label, lam, perm, 1.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def step():
        objective()
        optimizer.step()
        update_parameters(teacher, student, 0.99)

    rounds = [[seconds(function, 1, device) for function in (passes, objective, step)] for _ in range(args.repeats)]
    bare, losses, whole = np.median(rounds, axis=0)
    ratio = np.median([row[2] / row[0] for row in rounds])
    print(f"step, batch {batch}, {args.patch_size[0]}x{args.patch_size[1]}, {torch.get_num_threads()} threads:")
    print(f"  forward and backward passes alone {bare * 1e3:9.1f} ms   1.00")
    print(f"  + losses, blending, memory        {losses * 1e3:9.1f} ms   {losses / bare:.2f}")
    print(f"  + optimiser and EMA: a whole step {whole * 1e3:9.1f} ms   {ratio:.2f} (median of paired ratios)")
    return whole


def plain_largest_component(label: np.ndarray, num_classes: int) -> np.ndarray:
    """The plain way: each slice and class on its own."""
    kept = np.zeros_like(label)
    for index, plane in enumerate(label):
        for cls in range(1, num_classes):
            components, _ = ndimage.label(plane == cls, structure=np.ones((3, 3)))
            sizes = np.bincount(components.ravel())
            if len(sizes) > 1:
                kept[index][components == 1 + np.argmax(sizes[1:])] = cls
    return kept


def benchmark_component(args, device) -> None:
    """Largest components of 12 slices of 256x256 with 9 classes beside the plain loop's, and a BCP step's share."""
    rng = np.random.default_rng(0)
    truth = draw_case(rng, get_dataset("Synapse"), (12, 256, 256), draw_style(rng, True))[1]
    speckled = np.where(rng.random(truth.shape) < 0.02, rng.integers(0, 9, truth.shape), truth).astype(np.int64)
    print("largest components, 12 slices of 256x256, 9 classes:")
    for name, label in (("clean", truth.astype(np.int64)), ("2 % speckles", speckled)):
        tensor = torch.from_numpy(label)
        assert np.array_equal(plain_largest_component(label, 9), largest_component(tensor, 9).numpy())
        slow = seconds(lambda label=label: plain_largest_component(label, 9), 5, torch.device("cpu"))
        fast = seconds(lambda tensor=tensor: largest_component(tensor, 9), 9, torch.device("cpu"))
        print(f"  {name}: plain loop {slow * 1e3:.1f} ms, ours {fast * 1e3:.1f} ms, {slow / fast:.1f} times")

    half, size = args.batch_size // 2, args.patch_size
    student, teacher = (net_factory("unet_proj", 1, 9).to(device).train() for _ in range(2))
    memories = [PrototypeMemory(9).to(device) for _ in range(2)]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    image_w, image_s = (torch.rand(args.batch_size, 1, *size, device=device) for _ in range(2))
    label = torch.randint(0, 9, (half, *size), device=device)
    lam, perm = (draw.to(device) for draw in draw_blend(rng, half, args.batch_size))
    mask = box_mask(draw_box(rng, size), size, device)

    def step():
        loss, _ = train_Ours_BCP.compute_losses(
            student, teacher, *memories, image_w, image_s, label, lam, perm, mask, 1.0
        )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        update_state(teacher, student, 0.99)

    noisy = torch.from_numpy(speckled).to(device)[:half, : size[0], : size[1]]
    whole = seconds(step, args.repeats, device)
    part = seconds(lambda: largest_component(noisy, 9), args.repeats, device)
    shape = f"batch {args.batch_size}, {size[0]}x{size[1]}"
    print(f"  of a BCP step ({shape}): {part * 1e3:.1f} of {whole * 1e3:.0f} ms, {part / whole:.1%}")


def benchmark_ducisc(args, device) -> None:
    """The DuCiSC step beside its networks' passes alone, what it holds in memory, and sliding windows in batches."""
    size = tuple(args.volume_size)
    student, teacher = (net_factory("ducisc", 1, 2).to(device).train() for _ in range(2))
    teacher.requires_grad_(False)
    thresholds = ConfidenceThresholds(2).to(device)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    volume_l, volume_u = (torch.randn(2, 1, *size, device=device) for _ in range(2))
    label = torch.zeros(2, *size, dtype=torch.long, device=device)
    label[:, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2, size[2] // 4 : size[2] // 2] = 1
    weight = torch.tensor([0.3, 0.6], device=device)

    def passes():
        outputs = [student(volume) for volume in (volume_l, volume_u, 0.5 * (volume_l + volume_u))]
        with torch.no_grad():
            teacher(volume_u)
        optimizer.zero_grad(set_to_none=True)
        sum(value.mean() for logits, feats in outputs for value in (*logits, *feats)).backward()

    def losses():
        loss, _ = train_DuCiSC.compute_losses(student, teacher, thresholds, volume_l, volume_u, label, weight, True)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def step():
        losses()
        optimizer.step()
        update_parameters(teacher, student, 0.99)

    rounds = [[seconds(function, 1, device) for function in (passes, losses, step)] for _ in range(args.repeats)]
    bare, with_losses, whole = np.median(rounds, axis=0)
    ratios = np.median([[row[1] / row[0], row[2] / row[0]] for row in rounds], axis=0)
    shape = "x".join(map(str, size))
    print(f"DuCiSC step, batch 2 + 2, {shape}, {torch.get_num_threads()} threads:")
    print(f"  forward and backward passes alone        {bare * 1e3:9.1f} ms   1.00")
    print(f"  + losses, prototypes, thresholds         {with_losses * 1e3:9.1f} ms   {ratios[0]:.2f}")
    print(
        f"  + optimiser and EMA: a whole step        {whole * 1e3:9.1f} ms   {ratios[1]:.2f} (medians of paired ratios)"
    )
    memory = saved_bytes(student, losses)
    total, voxels = sum(memory.values()), np.prod(size)
    largest = sorted(memory.items(), key=lambda item: -item[1])[:3]
    print(
        f"  held for the backward pass: {total / 2**20:.0f} MiB, {total / (4 * voxels):.0f} bytes a voxel of the batch"
    )
    for name, value in largest:
        print(f"    {name}: {value / 2**20:.0f} MiB, {value / total:.0%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"  peak of the whole process: {peak / 2**20:.0f} MiB, {before / 2**20:.0f} before the first step")
    full = total / voxels * 112 * 112 * 80
    print(
        f"  foretold for 112x112x80, batch 2 + 2: {full / 2**30:.1f} GiB, the networks' own passes' work space besides"
    )

    image = np.random.default_rng(0).standard_normal((72, 60, 40)).astype(np.float32)
    patch, stride = (48, 48, 32), (12, 4)
    one, four = (window_scores(student, image, patch, stride, n) for n in (1, 4))
    difference = (one - four).abs().max().item()
    rounds = [
        [seconds(lambda n=n: window_scores(student, image, patch, stride, n), 1, device) for n in (1, 4)]
        for _ in range(3)
    ]
    ratio = np.median([single / batched for single, batched in rounds])
    print(
        f"sliding windows of 48x48x32 over 72x60x40: four together {ratio:.2f} times as fast as one by one, "
        f"largest difference of the scores {difference:.0e}"
    )


def saved_bytes(net: torch.nn.Module, function) -> dict[str, int]:
    """Bytes that autograd keeps for the backward pass of `function`, by the block of `net` that made them."""
    held: dict[str, int] = {}
    current = ["outside the network (losses)"]
    seen = set()

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            held[current[-1]] = held.get(current[-1], 0) + storage.nbytes()
        return tensor

    hooks = []
    for name, block in net.named_children():
        hooks.append(block.register_forward_pre_hook(lambda *_, name=name: current.append(name)))
        hooks.append(block.register_forward_hook(lambda *_: current.remove(current[-1])))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    for hook in hooks:
        hook.remove()
    return held


def benchmark_loader(args, device, step_seconds: float) -> None:
    """Augmented slices per second for several numbers of workers."""
    flags = ["--patch_size", *map(str, args.patch_size), "--labeled_cases", "2"]
    with tempfile.TemporaryDirectory() as folder:
        root = args.root_path or make_phantom("ACDC", Path(folder), shape=(10, 216, 256), test=1)
        data = load_training_data(train_Ours_MT.parse_args([*flags, "--root_path", str(root)]))
    half, count = args.batch_size // 2, max(4, 480 // args.batch_size)
    print("loader, weak and strong views (slices/s; beside what the step above consumes):")
    for workers in (0, 1, 2):
        batches = TwoStreamBatches(data.labelled, data.unlabelled, half, args.batch_size - half, 0, 0, count)
        iterator = iter(make_loader(data.train, batches, workers, device))
        next(iterator)
        started = time.perf_counter()
        done = sum(len(batch["image_w"]) for batch in iterator)
        rate = done / (time.perf_counter() - started)
        needed = args.batch_size / step_seconds if step_seconds else float("nan")
        print(f"  {workers} workers {rate:9.0f} slices/s   {rate / needed:.1f} x the step's {needed:.0f}")


def benchmark_metrics(args, device) -> None:
    """Our four metrics beside MedPy's on masks and a bumpy copy of each, checked for equality."""
    try:
        from medpy import metric
    except ImportError:
        sys.exit("the metrics' benchmark needs MedPy: pip install -r tests/requirements.txt")
    if args.volumes:
        labels = {path: read_case(path, 3, 256)[1] for path in args.volumes[: args.repeats]}
    else:
        info = get_dataset("LA")
        rng = np.random.default_rng(0)
        labels = {"phantom 180x135x88": draw_case(rng, info, (180, 135, 88), draw_style(rng, True))[1]}
    print("Dice, Jaccard, 95HD and ASD of one class beside MedPy's (largest difference):")
    ratios = []
    for index, (name, label) in enumerate(labels.items()):
        mask = (label == 1).astype(np.uint8)
        noise = ndimage.gaussian_filter(np.random.default_rng(index).standard_normal(mask.shape), 3)
        pred = (ndimage.gaussian_filter(mask.astype(float), 2) + 0.15 * noise / noise.std() > 0.5).astype(np.uint8)
        theirs = [metric.dc(pred, mask), metric.jc(pred, mask), metric.hd95(pred, mask), metric.asd(pred, mask)]
        ours = case_metrics(pred, mask, 2)
        difference = max(abs(ours[name][0] - value) for name, value in zip(METRICS, theirs))
        functions = (metric.dc, metric.jc, metric.hd95, metric.asd)
        slow = seconds(lambda p=pred, m=mask, f=functions: [function(p, m) for function in f], 3, device)
        fast = seconds(lambda p=pred, m=mask: case_metrics(p, m, 2), 5, device)
        ratios.append(slow / fast)
        name = name if not args.volumes else f"volume {index + 1} {mask.shape}"
        print(
            f"  {name}: MedPy {slow * 1e3:.0f} ms, ours {fast * 1e3:.0f} ms, {ratios[-1]:.1f} times, {difference:.0e}"
        )
    print(f"  median {np.median(ratios):.1f} times")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=("step", "loader", "component", "metrics", "ducisc"), help="one part (default: all)"
    )
    parser.add_argument("--patch_size", type=int, nargs=2, default=[96, 96], help="pixels (default: 96 96)")
    parser.add_argument(
        "--batch_size", type=int, default=8, help="images, half of them labelled (default: %(default)s)"
    )
    parser.add_argument("--volume_size", type=int, nargs=3, default=[48, 48, 32], help="voxels (default: 48 48 32)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds and volumes (default: %(default)s)")
    parser.add_argument("--root_path", help="ACDC's folder for the loader (default: a phantom)")
    parser.add_argument("--volumes", nargs="*", help="h5 files with masks for the metrics (default: a phantom)")
    parser.add_argument("--gpu", type=int, help="CUDA device (default: the first if there is any, else the CPU)")
    args = parser.parse_args(argv)
    device = pick_device(args.gpu)
    set_seed(0, deterministic=False)
    print(describe_device(device))
    step_seconds = benchmark_step(args, device) if args.only in (None, "step", "loader") else 0.0
    if args.only in (None, "loader"):
        benchmark_loader(args, device, step_seconds)
    if args.only in (None, "component"):
        benchmark_component(args, device)
    if args.only in (None, "ducisc"):
        benchmark_ducisc(args, device)
    if args.only in (None, "metrics"):
        benchmark_metrics(args, device)


if __name__ == "__main__":
    main()
