#!/usr/bin/env python3
"""Make phantom data in the exact layout of a dataset, deterministic from a seed: for a first run without real data.

    python scripts/make_phantom.py --name ACDC --out /tmp/phantoms
    export DATASET_HOME=/tmp/phantoms
    python train_Ours_MT.py --name ACDC --labeled_cases 2 --patch_size 64 64 --batch_size 8 --labeled_bs 4 \
        --max_iterations 300 --consistency_rampup 1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
from scipy import ndimage

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # scripts run from anywhere: the root holds the packages

from dataloaders.datasets import DATASETS, DatasetInfo, get_dataset  # noqa: E402
from dataloaders.seeding import generator  # noqa: E402

LISTS = Path(__file__).resolve().parent.parent / "dataloaders" / "lists"
# Where each organ lies in an axial slice and how large it is: row, column, half height, half width, all in [-1, 1].
ABDOMEN = (
    (0.20, 0.05, 0.07, 0.07), (-0.25, -0.20, 0.10, 0.09), (0.35, 0.42, 0.17, 0.13), (0.35, -0.38, 0.17, 0.13),
    (-0.15, -0.50, 0.34, 0.27), (-0.02, 0.15, 0.07, 0.20), (0.12, 0.66, 0.22, 0.12), (-0.38, 0.35, 0.18, 0.22),
)  # fmt: skip


def ellipse(grid, centre, radii):
    """A filled ellipse or ellipsoid on a grid of coordinates."""
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii)) <= 1


def draw_label(rng: np.random.Generator, info: DatasetInfo, shape: tuple[int, ...]) -> np.ndarray:
    """A label volume uint8 of this shape with the dataset's classes; some end slices lack some of them."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    label = np.zeros(shape, dtype=np.uint8)
    shift = rng.uniform(-0.1, 0.1, size=3)
    size = rng.uniform(0.85, 1.15)
    if info.name == "ACDC":  # RV beside a ring of myocardium around the LV, all tapering to the apex
        taper = size * np.clip(0.75 - 0.5 * grid[0], 0.35, 1)
        plane = [(axis - s) / taper for axis, s in zip(grid[1:], shift[1:])]
        label[ellipse(plane, (0.0, -0.38), (0.40, 0.30)) & (grid[0] < 0.8)] = 1
        label[ellipse(plane, (0.0, 0.0), (0.36, 0.36))] = 2
        label[ellipse(plane, (0.0, 0.0), (0.24, 0.24)) & (grid[0] > -0.95)] = 3
    elif info.name == "Synapse":
        for index, (row, column, height, width) in enumerate(ABDOMEN):
            depth = rng.uniform(-0.3, 0.3)
            centre = (depth, row + shift[1], column + shift[2])
            label[ellipse(grid, centre, (0.8, height * size, width * size))] = index + 1
    else:
        label[ellipse(grid, shift, 0.45 * size * rng.uniform(0.8, 1.2, size=3))] = 1
    return label


def draw_image(rng: np.random.Generator, label: np.ndarray, unit_range: bool) -> np.ndarray:
    """An image of the label: a grey level a class, blurred edges, a bias field and noise; in [0, 1] or z-scored."""
    levels = np.concatenate([[0.15], np.linspace(0.45, 0.9, label.max())[rng.permutation(label.max())]])
    image = levels[label] * rng.uniform(0.7, 1.2)
    image = ndimage.gaussian_filter(image, 0.7)
    bias = np.linspace(1 - rng.uniform(0, 0.3), 1, label.shape[-1])
    image = image * bias + 0.04 * rng.standard_normal(label.shape)
    if unit_range:
        return ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
    return ((image - image.mean()) / image.std()).astype(np.float32)


def write_case(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    """One case as h5 or npz, by the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, image=image, label=label.astype(np.float32))  # as TransUNet's files have them
        return
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=image, compression="gzip")
        file.create_dataset("label", data=label, compression="gzip")


def case_names(info: DatasetInfo, train: int, val: int, test: int) -> dict[str, list[str]]:
    """The names of the volumes of each list, named as the real dataset names them."""
    if info.name == "ACDC":
        patients = [f"patient{number:03d}" for number in range(1, train + val + test + 1)]
        frames = [[f"{patient}_frame{frame:02d}" for frame in (1, 2)] for patient in patients]
        parts = frames[:train], frames[train : train + val], frames[train + val :]
        return {role: sum(part, []) for role, part in zip(("train", "val", "test"), parts)}
    source = {role: LISTS / f"{info.name}_{role}.list" for role in ("train", "test")}
    names = {role: path.read_text().split() if path.exists() else [] for role, path in source.items()}
    if info.name == "Synapse":  # the labelled ones first
        first = info.protocols[20]
        names["train"] = [*first, *(name for name in names["train"] if name not in first)]
    for role, number in (("train", train), ("test", test)):
        names[role] = (names[role] or [f"{role}{index:03d}" for index in range(number)])[:number]
    return names


# For each layout: path templates of slices and volumes, a slice's name, and the folder and names of the lists.
LAYOUTS = {
    "h5": ("data/slices/{id}.h5", None, "{case}_slice_{z:03d}", "{role}.list"),
    "transunet": ("train_npz/{id}.npz", "test_vol_h5/{id}.npy.h5", "{case}_slice{z:03d}", "lists_Synapse/{role}.txt"),
}
LIST_ROLES = {"h5": {"train": "train_slices"}, "transunet": {"test": "test_vol"}}


def make_phantom(
    name: str,
    out: Path,
    train: int = 6,
    val: int = 2,
    test: int = 2,
    shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    layout: str = "h5",
) -> Path:
    """Write a phantom of the dataset `name` under `out` and return its folder.

    train, val, test: numbers of cases (patients with two frames each in ACDC; only ACDC has a validation list).
    shape: of a volume, (Z, H, W) in 2-D datasets. layout "transunet": Synapse as TransUNet distributes it.
    """
    info = get_dataset(name)
    root = Path(out) / info.folders[0]
    shape = shape or ((10, 72, 64) if info.dims == 2 else (48, 48, 40))
    slice_path, volume_path, slice_name, list_name = LAYOUTS[layout]
    first, slice_name = (1, "{case}_slice_{z}") if info.name == "ACDC" else (0, slice_name)
    roles = LIST_ROLES[layout] if info.dims == 2 else {}
    for role, names in case_names(info, train, val, test).items():
        entries = []
        for index, case in enumerate(names):
            rng = generator(seed, "phantom", ("train", "val", "test").index(role), index)
            label = draw_label(rng, info, shape)
            image = draw_image(rng, label, unit_range=info.dims == 2)
            if info.dims == 3 or role != "train":
                write_case(root / (volume_path or info.volume_paths[0]).format(id=case), image, label)
                entries.append(case)
                continue
            for z in rng.permutation(len(image)):
                entries.append(slice_name.format(case=case, z=z + first))
                write_case(root / slice_path.format(id=entries[-1]), image[z], label[z])
        if names:
            path = root / list_name.format(role=roles.get(role, role))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(entry + "\n" for entry in entries))
    return root


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", choices=tuple(DATASETS), default="ACDC", help="dataset (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder that becomes DATASET_HOME")
    parser.add_argument("--train", type=int, default=6, help="training cases (default: %(default)s)")
    parser.add_argument("--val", type=int, default=2, help="validation cases, ACDC only (default: %(default)s)")
    parser.add_argument("--test", type=int, default=2, help="test cases (default: %(default)s)")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        metavar=("Z", "H", "W"),
        help="of a volume (default: 10 72 64 in 2-D, 48 48 40 in 3-D)",
    )
    parser.add_argument(
        "--layout",
        choices=tuple(LAYOUTS),
        default="h5",
        help="transunet: Synapse as TransUNet has it (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the shapes and images (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.layout == "transunet" and args.name != "Synapse":
        parser.error("--layout transunet is Synapse's")
    root = make_phantom(args.name, args.out, args.train, args.val, args.test, args.shape, args.seed, args.layout)
    print(f"phantom of {args.name} in {root}: export DATASET_HOME={args.out}")


if __name__ == "__main__":
    main()
