#!/usr/bin/env python3
"""Make phantom data in the exact layout of a dataset, deterministic from a seed: for a first run without real data.

Anatomy-like shapes with partial volume, bias field, noise and variation between cases. The few cases at the head of the
training list, those that are labelled, come from one scanner style (contrast, gain, texture), all others from various
ones: the problem that the papers' methods address.

    python scripts/make_phantom.py --name ACDC --out /tmp/phantoms
    export DATASET_HOME=/tmp/phantoms
    python train_Ours_MT.py --name ACDC --labeled_cases 2 --patch_size 64 64 --batch_size 8 --labeled_bs 4 \\
        --max_iterations 300 --consistency_rampup 1

With --layout nifti the same cases as scans with a dataset.json, to be prepared as a custom dataset.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.custom_datasets import DESCRIPTION
from dataloaders.files import InputError, write_h5, write_text
from dataloaders.geometry import Geometry
from dataloaders.registry import DATASETS, DatasetInfo, get_dataset, slice_entry
from dataloaders.scans.downloads import published_cases
from dataloaders.scans.files import write_label, write_scan
from dataloaders.scans.preparation import from_axes
from dataloaders.scans.scan import flip_array
from dataloaders.seeding import generator
from utils.cli import Parser, array_size, new_folder, not_negative, one_line_errors, positive, seed_number

KIND = "phantoms"  # by which tables and pages know them, in h5 attributes and in dataset.json


class Style(NamedTuple):
    """How a scanner renders the same anatomy; bias, texture and noise are deviations in units of the tissue."""

    gamma: float  # bends the grey levels
    highlight: float  # brightness of the brightest tissue, which the scaling to [0, 1] turns into a loss of gain
    bias: float
    texture: float
    noise: float


def draw_style(rng: np.random.Generator, shifted: bool) -> Style:
    """The few cases at the head of the training list come from one quiet scanner, all others from various ones."""
    if not shifted:
        return Style(rng.uniform(0.75, 0.85), rng.uniform(1.0, 1.1), 0.1, 0.02, 0.02)
    gamma, highlight = rng.uniform(0.9, 1.4), rng.uniform(1.05, 1.35)
    return Style(gamma, highlight, rng.uniform(0.2, 0.4), rng.uniform(0.03, 0.08), rng.uniform(0.02, 0.04))


def smooth_field(rng: np.random.Generator, shape: Sequence[int], cells: int) -> np.ndarray:
    """A smooth random field of deviation about 1 with about `cells` bumps along each axis: interpolated noise."""
    field = rng.standard_normal([cells + 1] * len(shape))
    for axis, size in enumerate(shape):  # one axis after the other, a smooth step between the knots
        position = np.linspace(0, cells, size)
        low = np.minimum(position.astype(int), cells - 1)
        weight = (position - low).reshape(-1, *[1] * (len(shape) - 1 - axis))
        weight = weight * weight * (3 - 2 * weight)
        field = np.take(field, low, axis) * (1 - weight) + np.take(field, low + 1, axis) * weight
    return field * 1.6


def ellipse(grid, centre, radii):
    """A filled ellipse or ellipsoid on a grid of coordinates."""
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii)) <= 1


def tube(grid, points, radii):
    """The union of balls along a broken line through `points`, with a radius at each."""
    places = np.arange(len(points))
    inside = np.zeros(np.broadcast(*grid).shape, dtype=bool)
    for step in np.linspace(0, len(points) - 1, 6 * len(points)):
        centre = [np.interp(step, places, axis) for axis in zip(*points)]
        inside |= ellipse(grid, centre, [np.interp(step, places, radii)] * len(centre))
    return inside


def draw_heart(rng: np.random.Generator, grid) -> tuple[np.ndarray, np.ndarray]:
    """Short-axis heart: a crescent RV next to a ring of myocardium around the LV, tapering to the apex.

    The basal slice may lack the ring's blood pool, apical ones the RV. Returns label and tissue brightness.
    """
    z, y, x = grid
    shift, size = rng.uniform(-0.12, 0.12, 2), rng.uniform(0.85, 1.2)
    wall, squeeze = rng.uniform(0.09, 0.15), rng.uniform(0.75, 1.0)
    taper = size * np.clip(0.95 - 0.35 * (z + 1) ** 1.3 / 2, 0.35, 1)
    angle = rng.uniform(-0.5, 0.5)
    y, x = (y - shift[0]) / taper, (x - shift[1]) / taper
    y, x = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    pool, outer = 0.26 * squeeze, 0.26 * squeeze + wall
    plane = [y, x]
    label = np.zeros(np.broadcast(z, y, x).shape, dtype=np.uint8)
    rv = ellipse(plane, (0.03, -0.36), (0.40, 0.36)) & ~ellipse(plane, (0, 0), (outer + 0.02, outer + 0.02))
    label[rv & (z > -0.95 + 0.15 * rng.random()) & (z < 0.75)] = 1
    label[ellipse(plane, (0, 0), (outer, outer))] = 2
    label[ellipse(plane, (0, 0), (pool, pool)) & (z < 0.9 + 0.2 * rng.random())] = 3
    axial = grid[1:]
    body = ellipse(axial, (0, 0), (0.92, 0.98))
    fat = body & ~ellipse(axial, (0, 0), (0.84, 0.90))
    lungs = ellipse(axial, (-0.15, 0.55), (0.5, 0.28)) | ellipse(axial, (-0.2, -0.62), (0.45, 0.2))
    liver = ellipse(axial, (0.62, -0.25), (0.28, 0.55))
    stomach = ellipse(axial, (0.55, 0.45), (0.2, 0.24))
    tissue = np.where(body, 0.30, 0.02)
    for where, value in ((lungs, 0.06), (liver, 0.42), (stomach, 0.55)):
        tissue = np.where(where & body, value, tissue)
    tissue = np.choose(label, [tissue, 0.72, 0.32, 0.78])
    return label, np.where(fat & (label == 0), -1.0, tissue)  # -1: as bright as the style says


def draw_abdomen(rng: np.random.Generator, grid) -> tuple[np.ndarray, np.ndarray]:
    """Axial abdomen with eight organs in their relations of place and size, each over its own range of slices."""
    z, y, x = grid
    shift, size = rng.uniform(-0.05, 0.05, 3), rng.uniform(0.92, 1.08)
    z, y, x = z - shift[0], (y - shift[1]) / size, (x - shift[2]) / size
    label = np.zeros(np.broadcast(z, y, x).shape, dtype=np.uint8)

    def put(index, where):
        label[where & (label == 0)] = index

    put(1, ellipse([y, x], (0.28, 0.06), (0.07, 0.07)) & (z < 0.95))  # aorta, in front of the spine
    put(2, ellipse([z, y, x], (0.1, -0.28, -0.32), (0.35, 0.12, 0.09)))  # gallbladder, under the liver
    for index, side in ((3, 1), (4, -1)):  # kidneys, bean-shaped; the right one (on the left of the picture) is lower
        bean = ellipse([z, y, x], (0.35 - 0.1 * side, 0.34, 0.44 * side), (0.5, 0.17, 0.13))
        put(index, bean & ~ellipse([y, x], (0.34, 0.30 * side), (0.06, 0.07)))
    put(
        6,
        tube(
            [1.3 * z, y, x],
            [(0.1, 0.05, -0.16), (0.0, 0.02, 0.0), (-0.1, 0.08, 0.22), (-0.2, 0.16, 0.42)],
            (0.09, 0.06, 0.05, 0.05),
        ),
    )
    liver = ellipse([z, y, x], (-0.35, -0.05, -0.45), (0.75, 0.46, 0.40)) | ellipse(
        [z, y, x], (-0.5, -0.32, -0.05), (0.5, 0.22, 0.4)
    )
    put(5, liver)
    put(7, ellipse([z, y, x], (-0.35, 0.18, 0.68), (0.5, 0.26, 0.13)))  # spleen
    put(8, ellipse([z, y, x], (-0.4, -0.25, 0.38), (0.5, 0.22, 0.27)))  # stomach
    body = ellipse([y, x], (0, 0), (0.80, 0.95))
    fat = body & ~ellipse([y, x], (0, 0), (0.70, 0.86))
    spine = ellipse([y, x], (0.52, 0.0), (0.14, 0.12))
    tissue = np.where(body, 0.40, 0.0)
    tissue = np.choose(label, [tissue, 0.75, 0.42, 0.68, 0.68, 0.60, 0.55, 0.64, 0.47])
    tissue = np.where(fat & (label == 0), 0.22, tissue)
    return label, np.where(spine & (label == 0), -1.0, tissue)


def draw_atrium(rng: np.random.Generator, grid) -> tuple[np.ndarray, np.ndarray]:
    """A left atrium with four pulmonary veins, an aorta and a spine next to it."""
    shift, radii = rng.uniform(-0.1, 0.1, 3), rng.uniform(0.30, 0.44, 3)
    inside = ellipse(grid, shift, radii)
    for side in (-1, 1):
        for height in (-0.18, 0.2):
            root = (shift[0] + 0.7 * side * radii[0], shift[1] + 0.2, shift[2] + height)
            tip = (root[0] + 0.32 * side, root[1] + rng.uniform(0.05, 0.2), root[2] + 0.15 * np.sign(height))
            inside |= tube(grid, [root, tip], (0.12, 0.06))
    tissue = np.where(ellipse(grid, (0, 0, 0), (0.95, 0.95, 1.5)), 0.35, 0.05)
    tissue = np.where(ellipse(grid[:2], (shift[0] + 0.1, shift[1] + 0.62), (0.12, 0.12)), 0.75, tissue)
    tissue = np.where(ellipse(grid[:2], (0, 0.85), (0.2, 0.12)), -1.0, tissue)
    return inside.astype(np.uint8), np.where(inside, 0.70, tissue)


def draw_curved_organ(rng: np.random.Generator, grid, thick: float) -> tuple[np.ndarray, np.ndarray]:
    """A pancreas (thick, head to tail) or a nerve canal (thin) along a curved line."""
    shift = rng.uniform(-0.08, 0.08, 3)
    line = [(-0.5, 0.15, 0.3), (-0.3, -0.1, 0.1), (0.0, -0.15, 0.0), (0.3, 0.0, -0.1), (0.55, 0.15, -0.25)]
    line = [tuple(np.array(point) + shift + rng.uniform(-0.04, 0.04, 3)) for point in line]
    inside = tube(grid, line, thick * np.array([1.5, 1.1, 0.9, 0.9, 0.7]))
    tissue = np.where(ellipse(grid, (0, 0, 0), (0.95, 0.9, 1.5)), 0.42, 0.05)
    tissue = np.where(ellipse(grid, (-0.55, -0.35, 0.0), (0.3, 0.4, 0.7)), 0.55, tissue)
    tissue = np.where(ellipse(grid[:2], (0.0, 0.6), (0.15, 0.2)), -1.0, tissue)
    return inside.astype(np.uint8), np.where(inside, 0.60, tissue)


ANATOMY = {
    "ACDC": draw_heart,
    "Synapse": draw_abdomen,
    "LA": draw_atrium,
    "Pancreas": lambda rng, grid: draw_curved_organ(rng, grid, 0.13),
    "IAN": lambda rng, grid: draw_curved_organ(rng, grid, 0.07),
}


def draw_case(
    rng: np.random.Generator, info: DatasetInfo, shape: Sequence[int], style: Style
) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 and label uint8 of one volume of this shape.

    Drawn on a grid twice as fine within the plane (the last two axes; in 3-D all), bent by a smooth random
    displacement; the image averages it (partial volume), the label samples it.
    """
    steps = (1 if info.dims == 2 else 2, 2, 2)
    fine = [size * step for size, step in zip(shape, steps)]
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in fine), indexing="ij")
    bent = [axis + 0.035 * smooth_field(rng, fine, 3) for axis in grid]
    if info.dims == 2:
        bent[0] = grid[0]  # slices stay flat
    label, tissue = ANATOMY[info.name](rng, bent)
    tissue = np.where(tissue < 0, style.highlight, np.clip(tissue + 0.03 * rng.standard_normal(tissue.shape), 0, None))
    image = tissue.reshape([n for pair in zip(shape, steps) for n in pair]).mean(axis=(1, 3, 5))
    label = label[tuple(slice(None, None, step) for step in steps)]

    image = image**style.gamma
    image = image * (1 + style.bias * 0.5 * np.clip(smooth_field(rng, shape, 1), -2, 2))
    image = image * (1 + style.texture * smooth_field(rng, shape, 12)) + style.noise * rng.standard_normal(shape)
    if info.dims == 2:
        image = (image - image.min()) / (image.max() - image.min())
    else:
        image = (image - image.mean()) / image.std()
    return image.astype(np.float32), label


def write_case(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    """One case as h5 or npz, by the path's suffix."""
    if path.suffix == ".npz":
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, image=image, label=label.astype(np.float32))  # as TransUNet's files have them
    else:
        write_h5(path, image, label, {"kind": KIND})


def case_names(info: DatasetInfo, train: int, val: int, test: int) -> dict[str, list[str]]:
    """The names of the volumes of each list, named as the real dataset names them."""
    if info.name == "ACDC":
        patients = [f"patient{number:03d}" for number in range(1, train + val + test + 1)]
        frames = [[f"{patient}_frame{frame:02d}" for frame in (1, 2)] for patient in patients]
        parts = frames[:train], frames[train : train + val], frames[train + val :]
        return {role: sum(part, []) for role, part in zip(("train", "val", "test"), parts)}
    published = published_cases(info.name)  # none of IAN
    names = {role: published.get(role, []) for role in ("train", "test")}
    if info.name == "Synapse":  # the labelled ones first
        first = info.protocols[20]
        names["train"] = [*first, *(name for name in names["train"] if name not in first)]
    for role, number in (("train", train), ("test", test)):
        if 0 < len(names[role]) < number:
            raise InputError(f"--{role} {number}: {info.name} has {len(names[role])} cases in its {role} list")
        names[role] = (names[role] or [f"{role}{index:03d}" for index in range(number)])[:number]
    return names


class Drawn(NamedTuple):
    """One case of a phantom, and the generator that drew it."""

    name: str
    image: np.ndarray
    label: np.ndarray
    rng: np.random.Generator


SHAPES = {2: (10, 72, 64), 3: (48, 48, 40)}  # of a volume, by the dataset's dimension


def draw_roles(
    info: DatasetInfo,
    train: int = 6,
    val: int = 2,
    test: int = 2,
    shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    few: int = 2,
) -> list[tuple[str, list[str], Iterator[Drawn]]]:
    """Role, names and cases of each list; the cases are drawn one by one as they are asked for.

    train, val, test: numbers of cases (patients with two frames each in ACDC; only ACDC has a validation list).
    shape: of a volume, (Z, H, W) in 2-D datasets. few: cases at the list's head that share one style, as the labelled
    part of a real study does; the others' styles differ. Raises InputError for more cases than the dataset has.
    """

    def draw(role: str, names: Sequence[str]) -> Iterator[Drawn]:
        for index, name in enumerate(names):
            rng = generator(seed, "phantom", ("train", "val", "test").index(role), index)
            style = draw_style(rng, shifted=role != "train" or index >= few * (2 if info.name == "ACDC" else 1))
            yield Drawn(name, *draw_case(rng, info, shape or SHAPES[info.dims], style), rng)

    return [(role, names, draw(role, names)) for role, names in case_names(info, train, val, test).items()]


# Which of a dataset's path templates a layout has, and which of its names of a list.
LAYOUTS = {"h5": (0, 0), "transunet": (-1, -2)}


def make_phantom(name: str, out: Path, layout: str = "h5", **cases) -> Path:
    """Write a phantom of the dataset `name` under `out` and return its folder. cases: as `draw_roles` takes them.

    layout "transunet": Synapse as TransUNet distributes it.
    """
    info = get_dataset(name)
    root = Path(out) / info.folders[0]
    place, list_place = LAYOUTS[layout]
    lists = draw_roles(info, **cases)
    write_text(root / DESCRIPTION, json.dumps({"kind": KIND}) + "\n")
    for role, names, drawn in lists:
        entries = []
        for case, image, label, rng in drawn:
            if info.dims == 3 or role != "train":
                write_case(root / info.volume_paths[place].format(id=case), image, label)
                entries.append(case)
                continue
            for z in rng.permutation(len(image)):
                entry = slice_entry(info.name, case, z)
                entries.append(entry.replace("_slice_", "_slice") if layout == "transunet" else entry)
                write_case(root / info.slice_paths[place].format(id=entries[-1]), image[z], label[z])
        if names:
            path = root / getattr(info, f"{role}_lists")[list_place]
            write_text(path, "".join(entry + "\n" for entry in entries))
    return root


def make_scans(name: str, out: Path, **cases) -> Path:
    """The cases of `make_phantom` as scans in out/images and out/labels, with a dataset.json; returns `out`.

    Every other training case has no label. Voxels are of odd sizes, axes oblique and, in every other scan, stored the
    other way round in x and y. The dataset's name is that of the phantom with My before it.
    """
    info, out = get_dataset(name), Path(out)
    for role, names, drawn in draw_roles(info, **cases):
        unlabelled = sorted({case.split("_frame")[0] for case in names})[1::2] if role == "train" else ()
        for index, (case, image, label, rng) in enumerate(drawn):
            arrays = [from_axes(array, "zyx" if info.dims == 2 else "xyz") for array in (image, label)]
            geometry = draw_geometry(rng, arrays[0].shape[::-1], thick=4.0 if info.dims == 2 else 1.5)
            if index % 2:
                geometry, arrays = geometry.flipped("xy"), [flip_array(array, "xy") for array in arrays]
            write_scan(out / "images" / f"{case}.nii.gz", np.rint(500 * arrays[0]).astype(np.int16), geometry)
            if case.split("_frame")[0] not in unlabelled:
                write_label(out / "labels" / f"{case}.nii.gz", arrays[1], geometry)
            patch_size = [size // 16 * 16 for size in image.shape[-info.dims :]]  # the same for all
    described = {"name": f"My{name}", "dims": info.dims, "classes": info.classes, "patch_size": patch_size}
    described.update(intensity="min-max" if info.dims == 2 else "z-score", kind=KIND)
    if info.name == "ACDC":  # two scans of each patient
        described.update(patient="^(patient\\d+)")
    write_text(out / DESCRIPTION, json.dumps(described) + "\n")
    return out


def draw_geometry(rng: np.random.Generator, size: Sequence[int], thick: float) -> Geometry:
    """Voxels of odd size, `thick` times as long in z as in x and y, turned by up to 20 degrees about each axis."""
    direction = Rotation.from_euler("XYZ", rng.uniform(-20, 20, 3), degrees=True).as_matrix()
    pixel, origin = rng.uniform(1.1, 1.9), rng.uniform(-200, 200, 3).tolist()
    return Geometry(tuple(size), (pixel, pixel, thick * pixel), tuple(origin), tuple(direction.ravel().tolist()))


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("--name", choices=tuple(DATASETS), default="ACDC", help="dataset (default: %(default)s)")
    parser.add_argument("--out", type=new_folder, required=True, help="folder that becomes DATASET_HOME")
    parser.add_argument("--train", type=positive, default=6, help="training cases (default: %(default)s)")
    parser.add_argument(
        "--val", type=not_negative, default=2, help="validation cases, ACDC only (default: %(default)s)"
    )
    parser.add_argument("--test", type=not_negative, default=2, help="test cases (default: %(default)s)")
    parser.add_argument(
        "--shape",
        type=array_size,
        nargs=3,
        metavar=("Z", "H", "W"),
        help="of a volume (default: 10 72 64 in 2-D, 48 48 40 in 3-D)",
    )
    parser.add_argument(
        "--layout",
        choices=(*LAYOUTS, "nifti"),
        default="h5",
        help="transunet: Synapse as TransUNet has it; nifti: scans for prepare.py --name Custom (default: %(default)s)",
    )
    parser.add_argument("--few", type=not_negative, default=2, help="cases that share one style (default: %(default)s)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the shapes and images (default: %(default)s)"
    )
    args, given = parser.parse_args(argv), parser.given(argv)
    if args.layout == "transunet" and args.name != "Synapse":
        parser.error("--layout transunet is Synapse's")
    if "val" in given and args.name != "ACDC":
        parser.error(f"--val: {args.name} has no validation list, leave it out")
    dims = DATASETS[args.name].dims
    least = 16 if args.layout == "nifti" else 8  # the networks' patch is a multiple of 16
    if args.shape and min(args.shape[-dims:]) < least:
        axes = "H and W" if dims == 2 else "every axis"
        parser.error(f"--shape {' '.join(map(str, args.shape))}: {axes} must have at least {least} voxels here")
    return args


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    cases = {key: getattr(args, key) for key in ("train", "val", "test", "shape", "seed", "few")}
    if args.layout == "nifti":
        print(f"scans in {make_scans(args.name, args.out, **cases)}/: images, labels, {DESCRIPTION}")
        return 0
    root = make_phantom(args.name, args.out, args.layout, **cases)
    print(f"phantom of {args.name} in {root}; to use it: export DATASET_HOME={args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
