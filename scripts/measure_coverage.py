#!/usr/bin/env python3
"""What it costs that a new scan has no label to crop around: Dice and time of three ways to cover it, on phantoms.

    python scripts/measure_coverage.py --name LA --out coverage            # h5 files cropped as for training
    python train_DuCiSC.py --name LA --root_path coverage/LA --labeled_cases 8 --patch_size 32 32 32
    python scripts/measure_coverage.py --name LA --weights runs/LA/DuCiSC_8cases/seed_1337/last.pth

A scan shows twice as much in x and y as the organ's surroundings, and there up to four look-alikes: other things as
bright as the organ, of its size. The crops are those of the dataset's preparation at about a third of its size.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.files import write_h5, write_text
from dataloaders.geometry import Geometry
from dataloaders.registry import PREPARATIONS, get_dataset
from dataloaders.scans.preparation import attributes, draw_margin, prepare
from dataloaders.scans.scan import Scan
from dataloaders.seeding import generator
from scripts.make_phantom import ANATOMY, ellipse, smooth_field
from utils.cli import Parser, new_folder, one_line_errors
from utils.prediction.predict import load_model, predict_prepared, predict_scan
from utils.runs.device import pick_device

PREPARED = {
    "LA": replace(PREPARATIONS["LA"], least=(40, 40), margin=(4, 7)),
    "Pancreas": replace(PREPARATIONS["Pancreas"], least=(32, 32), margin=(8, 8)),
}
SIZE = {"LA": (96, 88, 36), "Pancreas": (72, 66, 24)}  # voxels in x, y, z
SPACING = {"LA": (1.0, 1.0, 1.0), "Pancreas": (1.3, 1.3, 1.5)}  # mm
AIR, SOFT = -900, 40  # HU
CASES = {"train": 24, "test": 8}
LOOKALIKES = (0, 1, 4)  # in the test scans; the training scans have four


def draw_scan(name: str, number: int, lookalikes: int) -> tuple[Scan, Scan]:
    """Image int16 and label uint8: an organ in x and y from -1 to 1 of a body from -2 to 2."""
    rng = generator(number, "phantom", *name.encode())
    x, y, z = np.meshgrid(*(np.linspace(-end, end, size) for end, size in zip((2, 2, 1), SIZE[name])), indexing="ij")
    shift = rng.uniform(-0.5, 0.5, 2)
    near = [x - shift[0], y - shift[1], z]
    label, tissue = ANATOMY[name](rng, [axis + 0.03 * smooth_field(rng, axis.shape, 4) for axis in near])
    tissue = np.where(tissue < 0.1, 0.4, tissue)  # the body continues where the organ's surroundings end
    bright = float(tissue[label == 1].max())
    angles = rng.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2
    for angle in angles[:lookalikes]:
        centre = 1.35 * np.cos(angle), 1.35 * np.sin(angle), rng.uniform(-0.5, 0.5)
        tissue[ellipse(near, centre, rng.uniform(0.2, 0.45, 3)) & (label == 0)] = bright
    body = ellipse([x, y], (0, 0), (1.9, 1.9))
    tissue = np.where(body, tissue, 0.0)
    tissue = tissue + 0.03 * smooth_field(rng, x.shape, 12) + 0.04 * rng.standard_normal(x.shape)
    image = 500 * tissue if name == "LA" else np.where(body, SOFT + 400 * (tissue - 0.4), AIR + 100 * tissue)
    geometry = Geometry(SIZE[name], SPACING[name], (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    arrays = image.astype(np.int16), label
    return tuple(Scan(array.transpose(2, 1, 0), geometry, Path(f"{name}_{number}")) for array in arrays)


def make(name: str, out: Path) -> None:
    """Training files and lists in the dataset's layout."""
    info, preparation = get_dataset(name), PREPARED[name]
    for first, (role, count) in zip((0, CASES["train"]), CASES.items()):
        cases = [f"{role}{index:03d}" for index in range(count)]
        for number, case in enumerate(cases, first):
            scan, label = draw_scan(name, number, 4)
            prepared = prepare(scan, preparation, label, draw_margin(preparation, 1337, case))
            path = out / name / info.volume_paths[0].format(id=case)
            write_h5(path, prepared.image, prepared.label, attributes(prepared, preparation))
        write_text(out / name / f"{role}.list", "".join(case + "\n" for case in cases))


def measure(name: str, weights: Path) -> None:
    """Print a table: Dice on the scan's own grid, mean and deviation over the test scans, and seconds of one core."""
    model = load_model(weights, 3, pick_device(None), batch_size=4)

    def as_in_the_test(scan, label):
        margin = draw_margin(model.preparation, 1337, scan.path.name)
        return predict_prepared(model, prepare(scan, model.preparation, label, margin), with_scores=False)

    ways = {
        "crop around the ground truth, as the test has it": as_in_the_test,
        "two passes (default)": lambda scan, _: predict_scan(model, scan),
        "`--one_pass`": lambda scan, _: predict_scan(replace(model, one_pass=True), scan),
    }
    print(f"| {name}, Dice % with look-alikes: | " + " | ".join(map(str, LOOKALIKES)) + " | s a scan |")
    print("|---" * (2 + len(LOOKALIKES)) + "|")
    for way, predict in ways.items():
        cells, start = [], time.process_time()
        for lookalikes in LOOKALIKES:
            dice = []
            for number in range(CASES["train"], CASES["train"] + CASES["test"]):
                scan, label = draw_scan(name, number, lookalikes)
                pred = predict(scan, label).label
                dice.append(200 * float((pred & label.array).sum()) / float(pred.sum() + label.array.sum()))
            cells.append(f"{np.mean(dice):.2f} ± {np.std(dice):.2f} (least {min(dice):.1f})")
        seconds = (time.process_time() - start) / CASES["test"] / len(LOOKALIKES)
        print(f"| {way} | " + " | ".join(cells) + f" | {seconds:.1f} |", flush=True)


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("--name", choices=tuple(PREPARED), default="LA", help="dataset (default: %(default)s)")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--out", type=new_folder, help="make the training files under this folder")
    group.add_argument("--weights", type=Path, help="measure with these weights")
    return parser.parse_args(argv)


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    if args.weights:
        measure(args.name, args.weights)
    else:
        make(args.name, Path(args.out))


if __name__ == "__main__":
    sys.exit(main())
