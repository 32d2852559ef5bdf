#!/usr/bin/env python3
"""Time each part next to a plain way of computing the same (scripts/plain.py) and compare the results.

    python scripts/benchmark.py                                            # everything, on phantoms
    python scripts/benchmark.py --only steps --patch_size 256 256 --batch_size 24
    python scripts/benchmark.py --only validation augmentation loader --root_path $DATASET_HOME/ACDC
    python scripts/benchmark.py --only metrics --volumes "$DATASET_HOME"/LA/*/*/mri_norm2.h5
    python scripts/benchmark.py --only top                                 # the profiler's top ten rows of each step

Times are medians over the rounds, with the median ratio to ours in parentheses. Machines are shared and noisy: quote
the ratios. `metrics` also times MONAI and surface-distance where they are installed (pip install monai
surface-distance).
"""

from __future__ import annotations

import importlib.util
import resource
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # scripts run from anywhere

import numpy as np
import torch
from scipy import ndimage
from torch.profiler import profile, record_function
from torch.utils._pytree import tree_flatten

import train_DuCiSC
import train_Ours_BCP
import train_Ours_MT
from dataloaders.datasets import SliceDataset
from dataloaders.reading import read_case
from dataloaders.registry import get_dataset
from dataloaders.sampler import TwoStreamBatches
from dataloaders.seeding import generator
from dataloaders.training_data import TrainingData, load_training_data
from networks import net_factory
from scripts import plain
from scripts.make_phantom import draw_case, draw_style, make_phantom
from utils.cli import Parser, array_size, check_patch_size, not_negative, one_line_errors
from utils.copy_paste import box_mask, draw_box
from utils.ema import update_parameters, update_state
from utils.evaluation.inference import predict_slices, window_scores
from utils.evaluation.metrics import case_metrics
from utils.prototype_memory import PrototypeMemory
from utils.pseudo_labels import largest_component
from utils.runs.device import describe_device, pick_device, set_seed
from utils.style_blending import draw_blend
from utils.thresholds import ConfidenceThresholds
from utils.training.loop import make_loader, student_and_teacher
from utils.training.speed import compiled, make_sgd, resolve_speed


def seconds(function: Callable) -> float:
    """The time of one call after a warm-up, the device's work included."""
    from torch.utils.benchmark import Timer  # warns of a CUDA toolkit without a GPU, before an error of the flags

    return Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads()).timeit(1).median


def compare(
    what: str, functions: dict[str, Callable], difference: Optional[float], repeats: int, count: int = 1
) -> np.ndarray:
    """Time the functions, ours last, in turn and print one line. Returns seconds (rounds, functions).

    difference: the largest one between the results, None where they draw other numbers; count: how many units one call
    computes.
    """
    rounds = np.array([[seconds(function) for function in functions.values()] for _ in range(repeats)]) / count
    times, ratios = 1e3 * np.median(rounds, axis=0), np.median(rounds / rounds[:, -1:], axis=0)
    parts = [f"{name} {time:.1f} ms ({ratio:.2f})" for name, time, ratio in zip(functions, times, ratios)][:-1]
    print(f"  {what}: {', '.join(parts)}, ours {times[-1]:.1f} ms; {ratios[0]:.2f} times as fast", end="")
    print("" if difference is None else f", largest difference {difference:.1g}", flush=True)
    return rounds


@contextmanager
def acdc_data(args, *flags: str) -> Iterator[TrainingData]:
    """Training data of ACDC, or of a phantom of it."""
    with tempfile.TemporaryDirectory() as folder:
        root = args.root_path or make_phantom("ACDC", Path(folder), train=3, val=1, test=1, shape=(4, 216, 256))
        yield load_training_data(train_Ours_MT.parse_args(["--root_path", str(root), *flags]))


def bumpy(mask: np.ndarray, seed: int) -> np.ndarray:
    """A copy of a mask with a bumpy surface, as a fair prediction has."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(mask.shape), 2)
    return ndimage.gaussian_filter(mask.astype(float), 1.5) + 0.15 * noise / noise.std() > 0.5


def plain_batch(data: SliceDataset, indices: Sequence[int], size: Sequence[int]) -> Callable:
    """A function that makes data[(0, indices)] slice by slice: weak images, labels and strong images."""
    slices = [
        [values[data.starts[i] : data.starts[i + 1]].view(data.shapes[i]).cpu().numpy() for i in indices]
        for values in (data.images, data.labels)
    ]

    def one_by_one():
        rngs = (generator(data.seed, "augmentation", 0, place) for place in range(len(indices)))
        views = [plain.plain_views(*pair, rng, size) for *pair, rng in zip(*slices, rngs)]
        return [np.stack(arrays) for arrays in zip(*views)]

    return one_by_one


def augmentation(args, device) -> None:
    """Weak and strong view of image and label: slice by slice on one core, batches of 24 on a GPU."""
    size, count = (256, 256), 96
    with acdc_data(args, "--labeled_cases", "1") as loaded:
        data = loaded.train
    data.to(device)
    indices = np.linspace(0, len(data) - 1, count).astype(int).tolist()
    one_by_one = plain_batch(data, indices, size)
    theirs, batch = one_by_one(), data[(0, indices)]
    mine = [batch[name].cpu().numpy().reshape(theirs[0].shape) for name in ("image_w", "label", "image_s")]
    exact = all(np.array_equal(a, b) for a, b in zip(theirs[:2], mine[:2]))
    functions = {"plain": one_by_one, "ours": lambda: data[(0, indices)]}
    print(f"augmentation of {count} slices to 256x256, image, label and strong view, time per slice:")
    compare("one slice", functions, np.abs(theirs[2] - mine[2]).max() * 255, args.repeats, count)
    print(f"    (in grey levels of 8 bits, the strong view; weak image and label {'equal' if exact else 'DIFFER'})")


def predictions(mask: np.ndarray, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind: a prediction and its label."""
    rng, fair, nothing = np.random.default_rng(seed), bumpy(mask, seed), np.zeros_like(mask)
    satellites = fair.copy()
    for _ in range(12):
        satellites[tuple(slice(start, start + 5) for start in rng.integers(0, np.array(mask.shape) - 6))] = True
    return {
        "fair": (fair, mask),
        "satellites": (satellites, mask),
        "salt": (fair | (rng.random(mask.shape) < 0.001), mask),
        "shifted by a fifth": (np.roll(fair, [length // 5 for length in mask.shape], (0, 1, 2)), mask),
        "wholly elsewhere": (np.concatenate([nothing, fair]), np.concatenate([mask, nothing])),
    }


def our_metrics(pred: np.ndarray, label: np.ndarray, spacing=None, hd95: str = "pooled") -> dict[str, np.ndarray]:
    """Of two boolean masks, as the functions of plain.PEERS take them; the values are arrays of one class."""
    return case_metrics(pred.view(np.uint8), label.view(np.uint8), 2, spacing, hd95=hd95)


def metrics(args, device) -> None:
    """Our four metrics next to MedPy's and, where they are installed, MONAI's and surface-distance's."""
    peers = {name: peer for name, peer in plain.PEERS.items() if name == "MedPy" or importlib.util.find_spec(peer[0])}
    if args.volumes:
        chosen = args.volumes[:: max(1, len(args.volumes) // args.repeats)][: args.repeats]
        masks = [read_case(path, 3, 256)[1] == 1 for path in chosen]
    else:
        rng = np.random.default_rng(0)
        masks = [draw_case(rng, get_dataset("LA"), (180, 135, 88), draw_style(rng, True))[1] == 1]
    cases = [predictions(mask, number) for number, mask in enumerate(masks)]
    print(f"Dice, Jaccard, 95HD and ASD of one class, time per mask of {len(masks)};", end=" ")
    print(f"not installed: {', '.join(name for name in plain.PEERS if name not in peers) or 'none'}")
    for spacing in (None, (0.625, 0.625, 1.25)):
        for kind in cases[0]:
            pairs, difference = [case[kind] for case in cases], 0.0
            for pair in pairs:
                for peer, (_, function, hd95) in peers.items():
                    theirs, ours = function(*pair, spacing), our_metrics(*pair, spacing, hd95)
                    for name in ours.keys() & theirs.keys():  # MONAI computes in float32
                        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=f"{name} of {peer}")
                        difference = max(difference, abs(theirs[name] - ours[name][0]) if peer == "MedPy" else 0)
            functions = {name: peer[1] for name, peer in peers.items()}
            functions = {
                name: lambda function=function, pairs=pairs, spacing=spacing: [function(*p, spacing) for p in pairs]
                for name, function in {**functions, "ours": our_metrics}.items()
            }
            compare(f"{kind}, {'mm' if spacing else 'voxels'}", functions, difference, 2, len(pairs))


class Constant(torch.nn.Module):
    """A network whose forward pass costs nothing."""

    def __init__(self, *shape: int):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.rand(1, *shape))

    def forward(self, image):
        return self.logits.expand(len(image), -1, -1, -1), None


def validation(args, device) -> None:
    """Slices zoomed, arg-max, zoomed back, Dice and ASD of all classes, without the network's own forward pass."""
    with acdc_data(args, "--labeled_cases", "1") as data:
        cases = [data.selection[index] for index in range(len(data.selection))]
    size, names, net = (256, 256), ("dice", "asd"), Constant(4, 256, 256).to(device)
    labels = [case.label for case in cases]
    guesses = [np.max([c * bumpy(label == c, c).astype(np.uint8) for c in (1, 2, 3)], axis=0) for label in labels]

    def one_by_one():
        maps = [plain.plain_slices(net, case.image, size, device) for case in cases]
        return maps, [plain.plain_metrics(*pair, 4, names=names) for pair in zip(guesses, labels)]

    def ours():
        maps = [predict_slices(net, case.image, size) for case in cases]
        return maps, [case_metrics(*pair, 4, None, names) for pair in zip(guesses, labels)]

    (maps, theirs), (our_maps, mine) = one_by_one(), ours()
    if not all(map(np.array_equal, maps, our_maps)):
        raise AssertionError("the label maps differ from the plain ones")
    difference = max(np.abs(a[name] - b[name]).max() for a, b in zip(theirs, mine) for name in names)
    print(f"validation of {len(cases)} volumes, three classes, Dice and ASD, without forward passes:")
    compare("all", {"plain": one_by_one, "ours": ours}, difference, args.repeats)


METHODS = ("MT", "BCP", "DuCiSC")


class Step(NamedTuple):
    """One method at work on one batch."""

    nets: list  # student, teacher
    plain: Callable  # () -> loss
    ours: Callable  # () -> (loss, terms)
    update: Callable  # of the teacher
    shape: str


def make_step(method: str, args, device) -> Step:
    """A step of the method on random images."""
    torch.manual_seed(0)
    rng, half, size = np.random.default_rng(0), args.batch_size // 2, args.patch_size
    net, classes = ("ducisc", 2) if method == "DuCiSC" else ("unet_proj", 4)
    nets = [net_factory(net, 1, classes).to(device).train() for _ in range(2)]
    nets[1].requires_grad_(False)
    if method == "DuCiSC":
        size, thresholds = args.volume_size, ConfidenceThresholds(2).to(device)
        label = torch.zeros(2, *size, dtype=torch.long, device=device)
        label[(slice(None), *(slice(length // 4, length // 2) for length in size))] = 1
        volumes = [torch.randn(2, 1, *size, device=device) for _ in range(2)]
        batch = [*volumes, label, torch.tensor([0.3, 0.6], device=device)]

        def weighted_sum():
            terms = plain.plain_ducisc(*nets, thresholds.tau, *batch)
            return sum(factor * term for factor, term in zip((1, 0.3, 0.1, 0.1, 0.1), terms))

        ours = partial(train_DuCiSC.compute_losses, *nets, thresholds, *batch, True)
        return Step(nets, weighted_sum, ours, update_parameters, f"batch 2 + 2, {'x'.join(map(str, size))}")
    views = [torch.rand(args.batch_size, 1, *size, device=device) for _ in range(2)]
    label = torch.randint(0, 4, (half, *size), device=device)
    batch = [*views, label, *(draw.to(device) for draw in draw_blend(rng, half, args.batch_size))]
    objectives, update = (plain.plain_mt, train_Ours_MT.compute_losses), update_parameters
    if method == "BCP":
        batch.append(box_mask(draw_box(rng, size), size, device))
        objectives, update = (plain.plain_bcp, train_Ours_BCP.compute_losses), update_state
    memories = [plain.PlainMemory(4) for _ in range(2)], [PrototypeMemory(4).to(device) for _ in range(2)]
    objectives = (partial(objective, *nets, *own, *batch, 0.5) for objective, own in zip(objectives, memories))
    return Step(nets, *objectives, update, f"batch {args.batch_size}, {'x'.join(map(str, size))}")


def difference_of_losses(step: Step) -> float:
    """Between the plain and our objective on the same networks, dropout off."""
    dropouts = [part for net in step.nets for part in net.modules() if "Dropout" in type(part).__name__]
    for part in dropouts:
        part.eval()
    theirs, (loss, terms) = step.plain(), step.ours()
    for part in dropouts:
        part.train()
    return abs(theirs.item() - terms.get("monitor/weighted_sum", loss).item())


def passes_of(step: Step) -> Callable:
    """() -> a scalar, by the same calls of the networks as in our objective and nothing else."""
    calls, parts = [], [part for net in step.nets for part in (net, getattr(net, "proj_head", None))]

    def note(part, given):
        if part in parts:
            calls.append((part, given[0].detach(), torch.is_grad_enabled()))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    step.ours()
    hook.remove()

    def passes():
        total = 0
        for part, image, with_grad in calls:
            with torch.set_grad_enabled(with_grad):
                total = total + sum(output.mean() for output in tree_flatten(part(image))[0])
        return total

    return passes


def steps(args, device) -> None:
    """A whole step of each method next to the plain one and to its networks' forward and backward passes alone."""
    print(f"training steps, {torch.get_num_threads()} threads, dropout off for the comparison of the losses:")

    def run(net, objective, *after):
        net.zero_grad(set_to_none=True)
        objective().backward()
        for function in after:
            function()

    for method in METHODS:
        step = make_step(method, args, device)
        student, teacher = step.nets
        difference, passes = difference_of_losses(step), passes_of(step)
        options = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 1e-4}
        slow, fast = (torch.optim.SGD(student.parameters(), foreach=foreach, **options) for foreach in (False, None))
        our_loss = lambda step=step: step.ours()[0]  # noqa: E731
        functions = {
            "plain": partial(run, student, step.plain, slow.step, partial(plain.plain_ema, teacher, student, 0.99)),
            "passes alone": partial(run, student, passes),
            "with losses": partial(run, student, our_loss),
            "ours": partial(run, student, our_loss, fast.step, partial(step.update, teacher, student, 0.99)),
        }
        rounds = compare(f"{method}, {step.shape}", functions, difference, args.repeats)
        losses, whole = np.median(rounds[:, 2:] / rounds[:, 1:2], axis=0)
        print(f"    with losses {losses:.2f}, a whole step {whole:.2f} of the networks' passes alone")


def end_to_end(args, device) -> None:
    """A step of Ours (MT), its slices included: the plain one in float32, ours in float32 and ours with --fast."""
    half, flags = args.batch_size // 2, ("--patch_size", *map(str, args.patch_size), "--labeled_cases", "2")
    with acdc_data(args, *flags) as data:
        indices = np.linspace(0, len(data.train) - 1, args.batch_size).astype(int).tolist()
    slice_by_slice = plain_batch(data.train, indices, args.patch_size)
    data.train.to(device)
    draws = [draw.to(device) for draw in draw_blend(np.random.default_rng(0), half, args.batch_size)]

    def make(slices: Callable, objective: Callable, memory: Callable, update: Callable, *speed: str) -> Callable:
        run = train_Ours_MT.parse_args([*flags, *speed])
        resolve_speed(run, device)
        student, teacher = student_and_teacher(data, run, device)
        optimizer, memories = make_sgd(student, run), [memory(4) for _ in range(2)]
        losses = compiled(objective, run, device)

        def step():
            image_w, label, image_s = (torch.as_tensor(values).to(device) for values in slices())
            views = [image.view(-1, 1, *args.patch_size) for image in (image_w, image_s)]
            label_l = label.view(-1, *args.patch_size)[:half].long()
            loss, _ = losses(student, teacher, *memories, *views, label_l, *draws, 0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update(teacher, student, 0.99)

        return step

    def batch():
        made = data.train[(0, indices)]
        return made["image_w"], made["label"], made["image_s"]

    def plain_losses(*given):
        return plain.plain_mt(*given), {}

    own = batch, train_Ours_MT.compute_losses, lambda classes: PrototypeMemory(classes).to(device), update_parameters
    functions = {
        "plain": make(slice_by_slice, plain_losses, plain.PlainMemory, plain.plain_ema),
        "without --fast": make(*own),
        "ours": make(*own, "--fast"),
    }
    print("a step of Ours (MT) with its slices, ours with --fast:")
    compare(f"batch {args.batch_size}, {'x'.join(map(str, args.patch_size))}", functions, None, args.repeats)


def component(args, device) -> None:
    """Largest components of 12 slices of 256x256 with 9 classes next to the plain loop's."""
    rng = np.random.default_rng(0)
    truth = draw_case(rng, get_dataset("Synapse"), (12, 256, 256), draw_style(rng, True))[1].astype(np.int64)
    speckled = np.where(rng.random(truth.shape) < 0.02, rng.integers(0, 9, truth.shape), truth)
    print("largest components, 12 slices of 256x256, 9 classes:")
    for name, label in (("clean", truth), ("2 % speckles", speckled)):
        loop = partial(plain.plain_largest_component, label, 9)
        ours = partial(largest_component, torch.from_numpy(label).to(device), 9)
        compare(name, {"plain": loop, "ours": ours}, np.abs(loop() - ours().cpu().numpy()).max(), args.repeats)


def windows(args, device) -> None:
    """Sliding windows of a V-Net one by one and, as ours, four together."""
    net = net_factory("ducisc", 1, 2).to(device)
    image = np.random.default_rng(0).standard_normal((72, 60, 40)).astype(np.float32)
    one, four = (partial(window_scores, net, image, (48, 48, 32), (12, 4), count) for count in (1, 4))
    print("sliding windows of 48x48x32 over 72x60x40, ours four together:")
    compare("windows", {"one by one": one, "ours": four}, (one() - four()).abs().max().item(), min(args.repeats, 3))


def column(row, name: str, device: torch.device) -> float:
    """A column of the profiler's table: the CPU's or the device's, which is called cuda before PyTorch 2.4."""
    kind = "cpu" if device.type == "cpu" else "device" if hasattr(row, "self_device_time_total") else "cuda"
    return getattr(row, name.format(kind))


def peak_memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


def memory(args, device) -> None:
    """What a DuCiSC step holds for its backward pass, by block, and what that predicts for the paper's patch."""
    step, before = make_step("DuCiSC", args, device), peak_memory()
    blocks = dict(step.nets[0].named_children())
    for name, block in blocks.items():
        block.forward = record_function(name)(block.forward)
    with profile(profile_memory=True) as profiler:
        loss, _ = step.ours()  # the graph, and what it holds, lives as long as the loss
    rows = profiler.key_averages()
    total = sum(column(row, "self_{}_memory_usage", device) for row in rows)
    held = {row.key: column(row, "{}_memory_usage", device) for row in rows if row.key in blocks}
    per_voxel = total / (4 * np.prod(args.volume_size))
    loss.backward()
    print(f"DuCiSC, {step.shape}: held for the backward pass {total / 2**20:.0f} MiB, {per_voxel:.0f} bytes a voxel")
    for name in sorted(held, key=held.get, reverse=True)[:3]:
        print(f"    {name}: {held[name] / 2**20:.0f} MiB, {held[name] / total:.0%}")
    print(f"  peak of the whole process: {peak_memory()}, {before} before the first step")
    print(f"  predicted for 112x112x80, batch 2 + 2: {4 * per_voxel * 112 * 112 * 80 / 2**30:.1f} GiB,", end=" ")
    print("without the passes' own work space")


def loader(args, device) -> None:
    """Augmented slices per second for several numbers of workers, next to what a step of the network needs."""
    from torch.utils.benchmark import timer

    step = make_step("MT", args, device)
    needed = args.batch_size / np.median([seconds(lambda: step.ours()[0].backward()) for _ in range(3)])
    half, count = args.batch_size // 2, max(4, 480 // args.batch_size)
    print("loader, weak and strong views:")
    with acdc_data(args, "--patch_size", *map(str, args.patch_size), "--labeled_cases", "2") as data:
        places = [("workers", torch.device("cpu"), workers) for workers in (0, 1, 2)]
        for where, place, workers in places + [("on the device", device, 0)] * (device.type == "cuda"):
            data.train.to(place)
            batches = TwoStreamBatches(data.labelled, data.unlabelled, half, args.batch_size - half, 0, 0, count)
            iterator = iter(make_loader(data.train, batches, workers, device))
            next(iterator)  # the workers have started
            started = timer()
            rate = args.batch_size * len(list(iterator)) / (timer() - started)
            print(f"  {workers} {where}: {rate:.0f} slices/s, {rate / needed:.1f} times the {needed:.0f} of a step")
        print(f"  training data in memory: {data.train.num_bytes / 2**20:.0f} MiB, {len(data.train)} slices")


def top(args, device) -> None:
    """The profiler's ten most expensive operations of a step of each method and of each way of testing."""
    made = {method: make_step(method, args, device) for method in METHODS}
    functions = {f"{method} step": lambda step=step: step.ours()[0].backward() for method, step in made.items()}
    image = np.random.default_rng(0).random((10, 216, 256)).astype(np.float32)
    net = net_factory("unet_proj", 1, 4).to(device)
    functions["test of a 2-D volume"] = partial(predict_slices, net, image, args.patch_size)
    volume = image.transpose(1, 2, 0)[:72, :60].repeat(4, 2)
    functions["test of a 3-D volume"] = partial(window_scores, made["DuCiSC"].nets[0], volume, (48, 48, 32), (12, 4))
    for name, function in functions.items():
        function()
        with profile() as profiler:  # of the CPU and of CUDA where there is any
            function()
        times = {row.key: column(row, "self_{}_time_total", device) for row in profiler.key_averages()}
        total, first = sum(times.values()), sorted(times, key=times.get, reverse=True)[:10]
        print(f"{name}: " + ", ".join(f"{key} {times[key] / total:.1%}" for key in first), flush=True)


ALL = (augmentation, metrics, validation, component, steps, end_to_end, windows, memory, loader, top)
PARTS = {part.__name__: part for part in ALL}


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts (default: all)")
    add("--patch_size", type=array_size, nargs=2, default=[96, 96], help="pixels (default: 96 96)")
    add("--batch_size", type=array_size, default=8, help="images, half of them labelled (default: %(default)s)")
    add("--volume_size", type=array_size, nargs=3, default=[48, 48, 32], help="voxels (default: 48 48 32)")
    add("--repeats", type=array_size, default=5, help="rounds, and masks of --volumes (default: %(default)s)")
    add("--root_path", help="ACDC's folder for validation, augmentation, loader (default: a phantom)")
    add("--volumes", type=Path, nargs="+", help="h5 files with masks for the metrics (default: a phantom)")
    add("--gpu", type=not_negative, help="CUDA device (default: the first if there is any, else the CPU)")
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
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the one whose work the timer waits for
    set_seed(0, deterministic=False)
    print(f"{describe_device(device)}, PyTorch {torch.__version__}")
    for part in args.only:
        try:
            PARTS[part](args, device)
        except ModuleNotFoundError as error:
            print(f"{part}: not measured, {error.name} is not installed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
