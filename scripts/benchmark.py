#!/usr/bin/env python3
"""Where the time goes: each part next to a plain way of doing the same (scripts/plain.py), with equal results.

    python scripts/benchmark.py                                            # everything, on phantoms
    python scripts/benchmark.py --only steps --patch_size 256 256 --batch_size 24
    python scripts/benchmark.py --only validation augmentation loader --root_path $DATASET_HOME/ACDC
    python scripts/benchmark.py --only metrics --volumes "$DATASET_HOME"/LA/*/*/mri_norm2.h5
    python scripts/benchmark.py --only top                                 # the profiler's top ten rows of each step

Machines are shared and noisy: quote the ratios, not the milliseconds. `metrics` needs MedPy, `augmentation` torchvision
and pillow.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # scripts run from anywhere

import train_DuCiSC
import train_Ours_BCP
import train_Ours_MT
from dataloaders.augmentation import draw_strong, draw_weak
from dataloaders.reading import read_case
from dataloaders.registry import get_dataset
from dataloaders.sampler import TwoStreamBatches
from dataloaders.seeding import generator
from dataloaders.training_data import load_training_data
from networks import net_factory
from scripts.make_phantom import draw_case, draw_style, make_phantom
from scripts.plain import (
    PlainMemory,
    plain_bcp,
    plain_ducisc,
    plain_ema,
    plain_largest_component,
    plain_metrics,
    plain_mt,
    plain_strong,
    plain_weak,
    plain_zoom,
)
from utils.cli import Parser, array_size, check_patch_size, not_negative, one_line_errors
from utils.copy_paste import box_mask, draw_box
from utils.ema import update_parameters, update_state
from utils.evaluation.inference import predict_slices, window_scores
from utils.evaluation.metrics import METRICS, case_metrics
from utils.prototype_memory import PrototypeMemory
from utils.pseudo_labels import largest_component
from utils.runs.device import describe_device, pick_device, set_seed
from utils.style_blending import draw_blend
from utils.thresholds import ConfidenceThresholds
from utils.training.loop import make_loader

IMPORTED = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # bytes, before any data or network


def seconds(function: Callable, device: torch.device) -> float:
    """The time of one call, the device's work included."""
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def compare(functions: dict[str, Callable], repeats: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each, called in turn after one round that does not count, and "ratio": the median over
    the rounds of the first one's time through the last one's."""
    rounds = [[seconds(function, device) for function in functions.values()] for _ in range(repeats + 1)][1:]
    times = {name: 1e3 * float(value) for name, value in zip(functions, np.median(rounds, axis=0))}
    return {**times, "ratio": float(np.median([row[0] / row[-1] for row in rounds]))}


def show(what: str, times: dict[str, float], difference: float) -> None:
    """One line: the times, the ratio, the largest difference of the results."""
    ratio = times.pop("ratio")
    parts = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items())
    print(f"  {what}: {parts}; {ratio:.2f} times as fast, largest difference {difference:.1g}", flush=True)


@contextmanager
def acdc_folder(args) -> Iterator[Path]:
    """ACDC's folder, or a phantom of it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(args.root_path or make_phantom("ACDC", Path(folder), train=3, val=1, test=1, shape=(4, 216, 256)))


def bumpy(mask: np.ndarray, seed: int, strength: float = 0.15) -> np.ndarray:
    """A copy of a mask with a bumpy surface, as a fair prediction has."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(mask.shape), 2)
    return ndimage.gaussian_filter(mask.astype(float), 1.5) + strength * noise / noise.std() > 0.5


def benchmark_augmentation(args, device) -> None:
    """Weak and strong view of image and label: slice by slice on one core, batches of 24 on a GPU."""
    size, count = (256, 256), 96
    with acdc_folder(args) as root:
        data = load_training_data(train_Ours_MT.parse_args(["--root_path", str(root), "--labeled_cases", "1"])).train
    data.to(device)
    indices = np.linspace(0, len(data) - 1, count).astype(int).tolist()
    arrays = [
        [values[data.starts[i] : data.starts[i + 1]].view(data.shapes[i]).cpu().numpy() for i in indices]
        for values in (data.images, data.labels)
    ]

    def plain():
        views = []
        for place, (image, label) in enumerate(zip(*arrays)):
            rng = generator(data.seed, "augmentation", 0, place)
            draw = draw_weak(rng)
            image_w = plain_weak(image, draw, size)
            views.append((image_w, plain_weak(label, draw, size), plain_strong(image_w, draw_strong(rng))))
        return views

    def ours():
        return data[(0, indices)]

    batch = ours()
    theirs = [np.stack(arrays) for arrays in zip(*plain())]
    mine = [batch[name].cpu().numpy().reshape(theirs[0].shape) for name in ("image_w", "label", "image_s")]
    exact = all(np.array_equal(a, b) for a, b in zip(theirs[:2], mine[:2]))
    times = compare({"plain": plain, "ours": ours}, args.repeats, device)
    times.update({name: value / count for name, value in times.items() if name != "ratio"})
    print(f"augmentation of a slice to 256x256, {count} draws, sizes {sorted({a.shape for a in arrays[0]})}:")
    show("a slice, image, label and strong view", times, np.abs(theirs[2] - mine[2]).max() * 255)
    print(f"    (in grey levels of 8 bits, the strong view; weak image and label {'equal' if exact else 'DIFFER'})")


def benchmark_metrics(args, device) -> None:
    """Our four metrics next to MedPy's: a bumpy copy of the truth, with satellites, with salt, and a wrong one."""
    if args.volumes:
        chosen = args.volumes[:: max(1, len(args.volumes) // args.repeats)][: args.repeats]
        masks = [read_case(path, 3, 256)[1] == 1 for path in chosen]
    else:
        rng = np.random.default_rng(0)
        masks = [draw_case(rng, get_dataset("LA"), (180, 135, 88), draw_style(rng, True))[1] == 1]
    print(f"Dice, Jaccard, 95HD and ASD of one class, {len(masks)} masks, next to MedPy's:")
    for spacing in (None, (0.625, 0.625, 1.25)):
        for kind in ("bumpy", "satellites", "salt", "shifted"):
            rows, difference = [], 0.0
            for number, mask in enumerate(masks):
                rng = np.random.default_rng(number)
                pred = bumpy(mask, number)
                if kind == "satellites":
                    for _ in range(12):
                        corner = [rng.integers(0, length - 6) for length in mask.shape]
                        pred[tuple(slice(start, start + 5) for start in corner)] = True
                elif kind == "salt":
                    pred |= rng.random(mask.shape) < 0.001
                elif kind == "shifted":
                    pred = np.roll(pred, [length // 5 for length in mask.shape], (0, 1, 2))
                pair = pred.astype(np.uint8), mask.astype(np.uint8)
                theirs, ours = plain_metrics(*pair, 2, spacing), case_metrics(*pair, 2, spacing)
                difference = max(difference, *(abs(theirs[name][0] - ours[name][0]) for name in METRICS))
                functions = {
                    "MedPy": lambda pair=pair, s=spacing: plain_metrics(*pair, 2, s),
                    "ours": lambda pair=pair, s=spacing: case_metrics(*pair, 2, s),
                }
                rows.append(compare(functions, 2, torch.device("cpu")))
            times = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
            show(f"{kind}, {'voxels' if spacing is None else 'mm'}", times, difference)


class Constant(torch.nn.Module):
    """Stands in for a network whose forward pass costs nothing."""

    def __init__(self, batch_size: int, num_classes: int, size):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.rand(batch_size, num_classes, *size))

    def forward(self, image):
        return (self.logits[: len(image)],)


def benchmark_validation(args, device) -> None:
    """Slices zoomed, arg-max, zoomed back, Dice and ASD of all classes, without the network's forward pass."""
    with acdc_folder(args) as root:
        flags = ["--root_path", str(root), "--labeled_cases", "1"]
        volumes = load_training_data(train_Ours_MT.parse_args(flags)).selection
        cases = [volumes[index] for index in range(len(volumes))]
    size = (256, 256)
    net = Constant(24, 4, size).to(device)
    guesses = [
        sum((number * bumpy(case.label == number, number) for number in (1, 2, 3)), np.zeros(case.label.shape, int))
        .clip(0, 3).astype(np.uint8) for case in cases
    ]  # fmt: skip

    def plain():
        scores = []
        for case, guess in zip(cases, guesses):
            for plane in case.image:
                with torch.no_grad():
                    logits = net(torch.from_numpy(plain_zoom(plane, size)).to(device)[None, None])[0]
                plain_zoom(logits.argmax(dim=1)[0].cpu().numpy(), plane.shape)
            scores.append(plain_metrics(guess, case.label, 4, names=("dice", "asd")))
        return scores

    def ours():
        scores = []
        for case, guess in zip(cases, guesses):
            predict_slices(net, case.image, size)
            scores.append(case_metrics(guess, case.label, 4, None, ("dice", "asd")))
        return scores

    difference = max(np.abs(a[name] - b[name]).max() for a, b in zip(plain(), ours()) for name in ("dice", "asd"))
    print(f"validation of {len(cases)} volumes, three classes, Dice and ASD, without forward passes:")
    show("all", compare({"plain": plain, "ours": ours}, args.repeats, device), difference)


def spc_parts(args, device, num_classes=4):
    """Networks, memories and one batch of SPC: (arguments of the objectives, half of the batch)."""
    torch.manual_seed(0)
    half, size = args.batch_size // 2, args.patch_size
    nets = [net_factory("unet_proj", 1, num_classes).to(device).train() for _ in range(2)]
    nets[1].requires_grad_(False)
    image_w, image_s = (torch.rand(args.batch_size, 1, *size, device=device) for _ in range(2))
    label = torch.randint(0, num_classes, (half, *size), device=device)
    rng = np.random.default_rng(0)
    lam, perm = (draw.to(device) for draw in draw_blend(rng, half, args.batch_size))
    mask = box_mask(draw_box(rng, size), size, device)
    return nets, (image_w, image_s, label, lam, perm), mask


def steps_of(args, device) -> dict[str, dict]:
    """By method: student, teacher, its plain and our objective as functions to a loss, the networks' passes alone."""
    (student, teacher), batch, mask = spc_parts(args, device)
    image_w, image_s = batch[:2]
    half, quarter = args.batch_size // 2, args.batch_size // 4
    found = {}

    def mt_passes():
        total = 0
        for image in (image_w, image_s):
            logits, feat = student(image)
            total = total + logits.mean() + student.proj_head(feat[half:]).mean()
            with torch.no_grad():
                teacher(image[half:])
        return total

    def bcp_passes():
        total = 0
        for index in range(4):
            logits, feat = student(image_w[index * quarter : (index + 1) * quarter])
            total = total + logits.mean() + (feat if index % 2 else student.proj_head(torch.cat([feat, feat]))).mean()
            with torch.no_grad():
                teacher(image_s[index * quarter : (index + 1) * quarter])
        return total

    for name, plain, ours, passes, more in (
        ("MT", plain_mt, train_Ours_MT.compute_losses, mt_passes, ()),
        ("BCP", plain_bcp, train_Ours_BCP.compute_losses, bcp_passes, (mask,)),
    ):
        memories = [[PlainMemory(4) for _ in range(2)], [PrototypeMemory(4).to(device) for _ in range(2)]]
        found[name] = {
            "nets": (student, teacher),
            "plain": lambda plain=plain, m=memories[0], more=more: plain(student, teacher, *m, *batch, *more, 0.5),
            "ours": lambda ours=ours, m=memories[1], more=more: ours(student, teacher, *m, *batch, *more, 0.5)[0],
            "passes": passes,
            "shape": f"batch {args.batch_size}, {args.patch_size[0]}x{args.patch_size[1]}",
        }

    size = tuple(args.volume_size)
    student3, teacher3 = (net_factory("ducisc", 1, 2).to(device).train() for _ in range(2))
    teacher3.requires_grad_(False)
    thresholds = ConfidenceThresholds(2).to(device)
    volume_l, volume_u = (torch.randn(2, 1, *size, device=device) for _ in range(2))
    label = torch.zeros(2, *size, dtype=torch.long, device=device)
    label[:, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2, size[2] // 4 : size[2] // 2] = 1
    weight = torch.tensor([0.3, 0.6], device=device)

    def ducisc_passes():
        outputs = [student3(volume) for volume in (volume_l, volume_u, 0.5 * (volume_l + volume_u))]
        with torch.no_grad():
            teacher3(volume_u)
        return sum(value.mean() for logits, feats in outputs for value in (*logits, *feats))

    def ducisc_plain():
        terms = plain_ducisc(student3, teacher3, thresholds.tau, volume_l, volume_u, label, weight)
        return sum(factor * term for factor, term in zip((1, 0.3, 0.1, 0.1, 0.1), terms))

    def ducisc_ours():
        loss, terms = train_DuCiSC.compute_losses(
            student3, teacher3, thresholds, volume_l, volume_u, label, weight, True
        )
        return loss, terms["monitor/weighted_sum"]

    found["DuCiSC"] = {
        "nets": (student3, teacher3),
        "plain": ducisc_plain,
        "ours": lambda: ducisc_ours()[0],
        "undivided": lambda: ducisc_ours()[1],
        "passes": ducisc_passes,
        "shape": f"batch 2 + 2, {'x'.join(map(str, size))}",
    }
    return found


def benchmark_steps(args, device) -> None:
    """A whole step of each method next to the plain one and to its networks' forward and backward passes alone."""
    print(f"training steps, {torch.get_num_threads()} threads, dropout off for the comparison of the losses:")
    for method, parts in steps_of(args, device).items():
        difference = _difference_of_losses(parts)
        times = compare(_steps(parts, update_state if method == "BCP" else update_parameters), args.repeats, device)
        shares = times["with losses"] / times["passes alone"], times["ours"] / times["passes alone"]
        show(f"{method}, {parts['shape']}", times, difference)
        print(f"    with losses {shares[0]:.2f}, a whole step {shares[1]:.2f} of the networks' passes alone")


def _steps(parts: dict, update: Callable) -> dict[str, Callable]:
    """The functions to time: a plain step, the passes alone, these with our losses, our step."""
    student, teacher = parts["nets"]
    options = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 1e-4}
    plain, ours = (torch.optim.SGD(student.parameters(), foreach=foreach, **options) for foreach in (False, None))

    def run(objective, optimizer=None, update=None):
        loss = objective()
        student.zero_grad(set_to_none=True)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            update(teacher, student, 0.99)

    return {
        "plain": lambda: run(parts["plain"], plain, plain_ema),
        "passes alone": lambda: run(parts["passes"]),
        "with losses": lambda: run(parts["ours"]),
        "ours": lambda: run(parts["ours"], ours, update),
    }


def _difference_of_losses(parts: dict) -> float:
    """Between the plain and our objective on the same networks, dropout off."""
    for net in parts["nets"]:
        for module in net.modules():
            if "Dropout" in type(module).__name__:
                module.eval()
    values = [parts[name]().item() for name in ("plain", "undivided" if "undivided" in parts else "ours")]
    for net in parts["nets"]:
        net.train()
    return abs(values[0] - values[1])


def benchmark_component(args, device) -> None:
    """Largest components of 12 slices of 256x256 with 9 classes next to the plain loop's."""
    rng = np.random.default_rng(0)
    truth = draw_case(rng, get_dataset("Synapse"), (12, 256, 256), draw_style(rng, True))[1]
    speckled = np.where(rng.random(truth.shape) < 0.02, rng.integers(0, 9, truth.shape), truth)
    print("largest components, 12 slices of 256x256, 9 classes:")
    for name, label in (("clean", truth.astype(np.int64)), ("2 % speckles", speckled.astype(np.int64))):
        tensor = torch.from_numpy(label).to(device)
        functions = {
            "plain": lambda label=label: plain_largest_component(label, 9),
            "ours": lambda tensor=tensor: largest_component(tensor, 9),
        }
        difference = np.abs(functions["plain"]() - functions["ours"]().cpu().numpy()).max()
        show(name, compare(functions, args.repeats, device), difference)


def benchmark_windows(args, device) -> None:
    """Sliding windows of a V-Net one by one and four together."""
    net = net_factory("ducisc", 1, 2).to(device)
    image = np.random.default_rng(0).standard_normal((72, 60, 40)).astype(np.float32)
    functions = {
        name: lambda n=n: window_scores(net, image, (48, 48, 32), (12, 4), n)
        for name, n in (("one by one", 1), ("four together", 4))
    }
    one, four = (function() for function in functions.values())
    print("sliding windows of 48x48x32 over 72x60x40:")
    show("windows", compare(functions, min(args.repeats, 3), device), (one - four).abs().max().item())


def benchmark_memory(args, device) -> None:
    """What a DuCiSC step holds for its backward pass, by block, and what that foretells for the paper's patch."""
    parts = steps_of(args, device)["DuCiSC"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    held = saved_bytes(parts["nets"][0], lambda: parts["ours"]().backward())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    total, voxels = sum(held.values()), np.prod(args.volume_size)
    print(f"DuCiSC, {parts['shape']}: held for the backward pass {total / 2**20:.0f} MiB,", end=" ")
    print(f"{total / (4 * voxels):.0f} bytes a voxel of the batch")
    for name, value in sorted(held.items(), key=lambda item: -item[1])[:3]:
        print(f"    {name}: {value / 2**20:.0f} MiB, {value / total:.0%}")
    print(f"  peak of the whole process: {peak / 2**20:.0f} MiB, {before / 2**20:.0f} before the first step")
    full = total / voxels * 112 * 112 * 80 / 2**30
    print(f"  predicted for 112x112x80, batch 2 + 2: {full:.1f} GiB, plus the work space of the networks' own passes")


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


def benchmark_loader(args, device) -> None:
    """Augmented slices per second for several numbers of workers, next to what a step of the network needs."""
    parts = steps_of(args, device)["MT"]
    step = np.median([seconds(lambda: parts["ours"]().backward(), device) for _ in range(3)])
    half, count = args.batch_size // 2, max(4, 480 // args.batch_size)
    print("loader, weak and strong views, slices/s:")
    with acdc_folder(args) as root:
        size = map(str, args.patch_size)
        flags = ["--patch_size", *size, "--labeled_cases", "2", "--root_path", str(root)]
        data = load_training_data(train_Ours_MT.parse_args(flags))
        places = [("workers", torch.device("cpu"), workers) for workers in (0, 1, 2)]
        places += [("on the device", device, 0)] if device.type == "cuda" else []
        for where, place, workers in places:
            data.train.to(place)
            batches = TwoStreamBatches(data.labelled, data.unlabelled, half, args.batch_size - half, 0, 0, count)
            iterator = iter(make_loader(data.train, batches, workers, device))
            next(iterator)
            took = seconds(lambda iterator=iterator: list(iterator), device)
            rate, needed = (count - 1) * args.batch_size / took, args.batch_size / step
            print(f"  {workers} {where}: {rate:.0f} slices/s, {rate / needed:.1f} times the {needed:.0f} of a step")
    print(f"  training data in memory: {data.train.num_bytes / 2**20:.0f} MiB, {len(data.train)} slices;", end=" ")
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB,", end=" ")
    print(f"{IMPORTED / 2**20:.0f} of them after the imports")
    batches = TwoStreamBatches(data.labelled, data.unlabelled, half, args.batch_size - half, 0, 0, count)
    own = own_memory(make_loader(data.train, batches, 2, device))
    print(f"  not shared, of each worker: {', '.join(f'{value / 2**20:.0f} MiB' for value in own)}")


def own_memory(loader) -> list[int]:
    """Bytes that each worker of a loader at work shares with no other process (Linux: /proc)."""
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    pages = [Path(f"/proc/{worker.pid}/smaps_rollup").read_text().split() for worker in iterator._workers]
    kinds = "Private_Clean:", "Private_Dirty:"
    return [sum(1024 * int(words[words.index(kind) + 1]) for kind in kinds) for words in pages]


def benchmark_top(args, device) -> None:
    """The profiler's ten most expensive operations of a step of each method and of each way of testing."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    parts = steps_of(args, device)
    net = net_factory("unet_proj", 1, 4).to(device)
    image = np.random.default_rng(0).random((10, 216, 256)).astype(np.float32)
    functions = {f"{name} step": lambda part=part: part["ours"]().backward() for name, part in parts.items()}
    functions["test of a 2-D volume"] = lambda: predict_slices(net, image, args.patch_size)
    functions["test of a 3-D volume"] = lambda: window_scores(
        parts["DuCiSC"]["nets"][0], image.transpose(1, 2, 0)[:72, :60].repeat(4, 2), (48, 48, 32), (12, 4)
    )
    for name, function in functions.items():
        function()
        with torch.profiler.profile(activities=activities) as profile:
            function()
        rows = sorted(profile.key_averages(), key=lambda row: -getattr(row, key, 0))[:10]
        total = sum(getattr(row, key, 0) for row in profile.key_averages()) or 1
        print(f"{name}: " + ", ".join(f"{row.key} {getattr(row, key, 0) / total:.1%}" for row in rows), flush=True)


PARTS = {
    "augmentation": benchmark_augmentation,
    "metrics": benchmark_metrics,
    "validation": benchmark_validation,
    "component": benchmark_component,
    "steps": benchmark_steps,
    "windows": benchmark_windows,
    "memory": benchmark_memory,
    "loader": benchmark_loader,
    "top": benchmark_top,
}


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts (default: all)")
    parser.add_argument("--patch_size", type=array_size, nargs=2, default=[96, 96], help="pixels (default: 96 96)")
    parser.add_argument(
        "--batch_size", type=array_size, default=8, help="images, half of them labelled (default: %(default)s)"
    )
    parser.add_argument(
        "--volume_size", type=array_size, nargs=3, default=[48, 48, 32], help="voxels (default: 48 48 32)"
    )
    parser.add_argument(
        "--repeats", type=array_size, default=5, help="rounds, and masks of --volumes (default: %(default)s)"
    )
    parser.add_argument("--root_path", help="ACDC's folder for data, validation, loader (default: a phantom)")
    parser.add_argument(
        "--volumes", type=Path, nargs="+", help="h5 files with masks for the metrics (default: a phantom)"
    )
    parser.add_argument("--gpu", type=not_negative, help="CUDA device (default: the first one, or the CPU without one)")
    args = parser.parse_args(argv)
    check_patch_size(parser, args.patch_size)
    check_patch_size(parser, args.volume_size, "volume_size")
    if args.batch_size % 4:
        parser.error(f"--batch_size {args.batch_size}: copy-paste pairs quarters of the batch, so a multiple of 4")
    return args


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    device = pick_device(args.gpu)
    set_seed(0, deterministic=False)
    print(f"{describe_device(device)}, PyTorch {torch.__version__}")
    for part in args.only:
        try:
            PARTS[part](args, device)
        except ModuleNotFoundError as error:
            print(f"{part}: not measured, it needs {error.name} (tests/requirements.txt)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
