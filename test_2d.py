#!/usr/bin/env python3
"""Test the runs of a 2-D dataset: Dice, Jaccard, 95HD and ASD for each case and class, best and last weights.

    python test_2d.py --name ACDC --output_dir runs/ACDC/Ours_MT_5        # a run, or a folder of runs (seeds)
    python test_2d.py --name ACDC --output_dir runs/ACDC --figures        # all runs, with pictures and a page each
    python test_2d.py --name ACDC --output_dir downloads/                 # a folder with a bare .pth of this family

Each run gets test_best/ and test_last/ with per_case.csv, summary.json and predictions/. Protocol: docs/PROTOCOLS.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import torch

from dataloaders.datasets import DATASETS, find_root, get_dataset
from dataloaders.errors import InputError
from dataloaders.reading import list_hash
from dataloaders.training_data import open_volumes, require_list
from networks import net_factory
from utils.device import describe_device, pick_device, set_seed
from utils.evaluation import evaluate
from utils.inference import predict_slices
from utils.options import Parser, one_line_errors, positive
from utils.reports import (
    COLUMNS,
    format_table,
    over_runs_row,
    published_row,
    published_rows,
    table_header,
    table_row,
    write_results,
)
from utils.runs import Run, find_runs
from utils.weights import fit_weights, load_weights


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    names = [name for name, info in DATASETS.items() if info.dims == 2]
    parser.add_argument(
        "--name", "--dataset_name", default="ACDC", choices=names, help="dataset (default: %(default)s)"
    )
    parser.add_argument(
        "--output_dir", required=True, help="a run's folder, a folder of runs, or a folder with a bare .pth (required)"
    )
    parser.add_argument("--root_path", help="the dataset's own folder (default: its name under $DATASET_HOME)")
    parser.add_argument("--test_list", metavar="FILE", help="test list (default: the dataset's own)")
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxel size in mm: distances in mm (default: voxels)",
    )
    parser.add_argument(
        "--unit", choices=("voxel", "mm"), default="voxel",
        help="unit of the distances; mm takes --spacing or what each file states (default: %(default)s, the papers')",
    )  # fmt: skip
    parser.add_argument(
        "--empty", choices=("ours", "release"), default="ours",
        help="distance to an empty mask: undefined, left out and counted, or the releases' 0 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--patch_size", type=positive, nargs=2, metavar=("H", "W"),
        help="network's input in pixels, for a bare .pth that does not state it (default: the dataset's)",
    )  # fmt: skip
    parser.add_argument(
        "--columns", nargs="+", choices=tuple(COLUMNS), default=list(COLUMNS), metavar="METRIC",
        help="metrics in the table; the files hold all (default: dice jaccard hd95 asd)",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=positive, default=24, help="slices at a time (default: %(default)s)")
    parser.add_argument(
        "--figures", action="store_true", help="draw curves, cases and a page for each run (default: off)"
    )
    parser.add_argument(
        "--gpu", type=int, metavar="N", help="CUDA device (default: the first if there is any, else the CPU)"
    )
    args = parser.parse_args(argv)
    if args.spacing:
        args.unit = "mm"
    return args


def load_network(path: Path, info, device, patch_size: Optional[list]):
    """The network of a weights file, in eval mode on the device, its patch size and what the file says besides."""
    weights = load_weights(path)
    dataset = weights.meta.get("dataset") or {}
    if dataset and dataset.get("name") != info.name:
        raise InputError(f"{path}: weights of {dataset.get('name')}, not of {info.name}; give its --name")
    net_type = "unet_proj" if any(name.startswith("proj_head.") for name in weights.state) else "unet"
    net = net_factory(net_type, 1, info.num_classes)
    fit_weights(net, weights.state, path)
    return net.to(device).eval(), tuple(dataset.get("patch_size") or patch_size or info.patch_size), weights.meta


def test_weights(path: Path, folder: Path, volumes, args, device, common: dict) -> dict:
    """Predict and score the test list with one weights file; writes `folder` and returns its summary."""
    net, patch_size, meta = load_network(path, volumes.info, device, args.patch_size)
    about = {key: meta.get(key) for key in ("method", "iteration", "val_dice", "selection")}
    about.update(weights=path.name, patch_size=list(patch_size), **common)
    evaluated = evaluate(
        lambda image: predict_slices(net, image, patch_size, args.batch_size),
        volumes,
        unit=args.unit,
        spacing=args.spacing,
    )
    return write_results(folder, evaluated, volumes.info.classes, args.empty, about)


def footnotes(runs: list[Run], summaries: list[dict], info, args) -> list[str]:
    """What a reader has to know to trust the table."""
    count = summaries[0]["cases"]
    notes = [
        f"{info.name}, {count} test volumes; mean ± standard deviation over cases; classes by label value: "
        + ", ".join(f"{index + 1} {label}" for index, label in enumerate(info.classes)),
        "empty: predictions that miss a class the case has. "
        + (
            "Distances to an empty mask are undefined and left out"
            if args.empty == "ours"
            else "Distances to an empty mask count as 0, as in the releases (--empty release)"
        ),
    ]
    for rule in dict.fromkeys(summary["selection"] for summary in summaries if summary.get("selection")):
        notes.append(f"best: chosen by {rule}; last: the end of training, not chosen")
    for summary in summaries:
        penalty = summary["metrics"]["asd"].get("mean_with_penalty")
        if penalty is not None:
            hd95 = summary["metrics"]["hd95"]["mean_with_penalty"]
            notes.append(
                f"{summary['run']}: with the volume's diagonal for empty masks 95HD {hd95:.2f}, ASD {penalty:.2f}"
            )
    for run in runs:
        if run.training:
            made = [
                f"{s['run'].split()[-1]} at {s['iteration']}" for s in summaries if s["run"].startswith(run.name + " ")
            ]
            notes.append(f"{run.name}: {run.training}; weights of iteration: {', '.join(made)}")
    return notes


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    info = get_dataset(args.name)
    runs = find_runs(Path(args.output_dir), info.name)
    device = pick_device(args.gpu)
    set_seed(0, deterministic=False)
    root = find_root(info, args.root_path)
    test_list = require_list(info, root, "test", args.test_list)
    volumes = open_volumes(info, root, test_list)
    print(f"{info.name}: {len(volumes)} volumes of {test_list}; {describe_device(device)}", flush=True)

    common = {
        "test_list": str(test_list),
        "test_list_sha256": list_hash(volumes.names),
        "root": str(root),
        "unit": args.unit,
    }
    rows, summaries = [table_header(info.classes, args.unit, args.columns)], []
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        of_group: dict[str, list] = {}
        for run in members:
            for kind, path in run.weights.items():
                summary = test_weights(
                    path,
                    run.path / f"test_{kind}",
                    volumes,
                    args,
                    device,
                    {**common, "run": f"{run.name} {kind}", "dataset": info.name},
                )
                of_group.setdefault(kind, []).append(summary)
                rows.append(table_row(f"{run.name} {kind}", summary, args.columns))
                print(f"tested {path}: Dice {summary['metrics']['dice']['mean']:.4f}", flush=True)
        if len(members) > 1:
            for kind, several in of_group.items():
                rows.append(
                    over_runs_row(f"{group} {kind}, mean ± std over {len(several)} runs", several, args.columns)
                )
        for row in published_rows(info.name, members[0].method, members[0].labelnum):
            rows.append(published_row(row, info.classes, args.columns))
        summaries += sum(of_group.values(), [])
    print("\n" + format_table(rows))
    for number, note in enumerate(footnotes(runs, summaries, info, args), 1):
        print(f"[{number}] {note}")
    if args.figures:
        from utils.figures import plot_run  # needs matplotlib

        for run in runs:
            print(f"page: {plot_run(run.path)}")
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
