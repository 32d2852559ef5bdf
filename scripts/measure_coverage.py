#!/usr/bin/env python3
"""What it costs that a new scan has no label to crop around: Dice and time of three ways to cover it, on phantoms.

    python scripts/measure_coverage.py --name LA --out coverage      # scans, and h5 files cropped as for training
    python train_DuCiSC.py --name LA --root_path coverage/LA --labeled_cases 8 --patch_size 32 32 32
    python scripts/measure_coverage.py --name LA --out coverage --weights runs/LA/DuCiSC_8cases/seed_1337/last.pth

A scan shows twice as much in x and y as the organ's surroundings, with other things as bright as the organ. The crops
are those of the dataset's preparation at about a third of its size.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # scripts run from anywhere: the root holds the packages

from dataloaders.datasets import get_dataset  # noqa: E402
from dataloaders.preparation import PREPARATIONS, attributes, draw_margin, prepare  # noqa: E402
from dataloaders.scans import Geometry, Scan, read_scan, write_label, write_scan  # noqa: E402
from dataloaders.seeding import generator  # noqa: E402
from dataloaders.writing import write_h5, write_text  # noqa: E402
from scripts.make_phantom import ANATOMY, ellipse, smooth_field  # noqa: E402
from utils.device import pick_device  # noqa: E402
from utils.options import Parser, one_line_errors  # noqa: E402
from utils.prediction import load_model, predict_prepared, predict_scan  # noqa: E402

PREPARED = {
    "LA": replace(PREPARATIONS["LA"], least=(40, 40), margin=(4, 7)),
    "Pancreas": replace(PREPARATIONS["Pancreas"], least=(32, 32), margin=(8, 8)),
}
SIZE = {"LA": (96, 88, 36), "Pancreas": (72, 66, 24)}  # voxels in x, y, z
SPACING = {"LA": (1.0, 1.0, 1.0), "Pancreas": (1.3, 1.3, 1.5)}  # mm
AIR, SOFT = -900, 40  # HU
CASES = {"train": 24, "test": 8}


def draw_scan(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image int16 and label uint8 (Z, Y, X): an organ in x and y from -1 to 1 of a body from -2 to 2."""
    rng = generator(seed, "phantom", *name.encode())
    x, y, z = np.meshgrid(*(np.linspace(-end, end, size) for end, size in zip((2, 2, 1), SIZE[name])), indexing="ij")
    shift = rng.uniform(-0.5, 0.5, 2)
    near = [x - shift[0], y - shift[1], z]
    label, tissue = ANATOMY[name](rng, [axis + 0.03 * smooth_field(rng, axis.shape, 4) for axis in near])
    tissue = np.where(
        (tissue < 0) | (tissue < 0.1), 0.4, tissue
    )  # no air around the organ, no spine as bright as can be
    bright = float(tissue[label == 1].max())
    for angle in rng.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2:
        centre = 1.35 * np.cos(angle), 1.35 * np.sin(angle), rng.uniform(-0.5, 0.5)
        tissue[ellipse(near, centre, rng.uniform(0.2, 0.45, 3)) & (label == 0)] = bright
    body = ellipse([x, y], (0, 0), (1.9, 1.9))
    tissue = np.where(body, tissue, 0.0)
    tissue = tissue + 0.03 * smooth_field(rng, x.shape, 12) + 0.04 * rng.standard_normal(x.shape)
    image = 500 * tissue if name == "LA" else np.where(body, SOFT + 400 * (tissue - 0.4), AIR + 100 * tissue)
    return image.astype(np.int16).transpose(2, 1, 0), label.transpose(2, 1, 0)


def make(name: str, out: Path) -> None:
    """Scans with their labels under `out`/scans, training files and lists as the dataset's own."""
    info, preparation = get_dataset(name), PREPARED[name]
    geometry = Geometry(SIZE[name], SPACING[name], (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    for first, (role, count) in zip((0, CASES["train"]), CASES.items()):
        cases = [f"{role}{index:03d}" for index in range(count)]
        for index, case in enumerate(cases):
            image, label = (Scan(a, geometry, Path(case)) for a in draw_scan(name, first + index))
            write_scan(out / "scans" / name / f"{case}.nii.gz", image.array, geometry)
            write_label(out / "scans" / name / f"{case}_label.nii.gz", label.array, geometry)
            prepared = prepare(image, preparation, label, draw_margin(preparation, 1337, case))
            path = out / name / info.volume_paths[0].format(id=case)
            write_h5(path, prepared.image, prepared.label, attributes(prepared, preparation))
        write_text(out / name / f"{role}.list", "".join(case + "\n" for case in cases))


def measure(name: str, out: Path, weights: Path) -> None:
    """Print a table: Dice on the scan's own grid, mean and deviation over the test scans, and seconds a scan."""
    model = load_model(weights, 3, pick_device(None), batch_size=4)
    ways = {
        "crop around the ground truth, as the test's files": lambda scan, label: predict_prepared(
            model, prepare(scan, model.preparation, label, draw_margin(model.preparation, 1337, scan.path.name)), False
        ),
        "two passes (default)": lambda scan, _: predict_scan(model, scan),
        "`--one_pass`": lambda scan, _: predict_scan(replace(model, one_pass=True), scan),
    }
    print(f"| {name} | Dice % | s a scan |\n|---|---|---|")
    for way, predict in ways.items():
        dice, start = [], time.perf_counter()
        for index in range(CASES["test"]):
            path = out / "scans" / name / f"test{index:03d}.nii.gz"
            scan, label = read_scan(path), read_scan(path.with_name(f"test{index:03d}_label.nii.gz"))
            pred = predict(scan, label).label
            dice.append(200 * float((pred & label.array).sum()) / float(pred.sum() + label.array.sum()))
        seconds = (time.perf_counter() - start) / len(dice)
        print(f"| {way} | {np.mean(dice):.2f} ± {np.std(dice):.2f} | {seconds:.1f} |", flush=True)


@one_line_errors
def main(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("--name", choices=tuple(PREPARED), default="LA", help="dataset (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the phantoms (required)")
    parser.add_argument("--weights", type=Path, help="measure with these (default: make the phantoms)")
    args = parser.parse_args(argv)
    if args.weights:
        measure(args.name, args.out, args.weights)
    else:
        make(args.name, args.out)


if __name__ == "__main__":
    sys.exit(main())
