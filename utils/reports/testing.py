"""What the test scripts share: every run found, best and last weights, files, one table with its footnotes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import torch

from dataloaders.datasets import VolumeDataset
from dataloaders.files import InputError, WriteError
from dataloaders.geometry import Geometry
from dataloaders.reading import file_hash, h5_attributes, list_hash, read_spacing, stated_kind
from dataloaders.registry import find_root, get_dataset
from dataloaders.scans.files import write_label
from dataloaders.scans.preparation import from_axes, restore
from dataloaders.training_data import open_volumes, require_list
from utils.cli import array_size, dataset_names, not_negative, voxel_size
from utils.evaluation.evaluate import evaluate
from utils.evaluation.inference import make_predictor
from utils.evaluation.metrics import HD95
from utils.prediction.colour_tables import write_colour_tables
from utils.reports.results import (
    COLUMNS,
    copy_results,
    footnotes,
    format_table,
    over_runs_row,
    published_notes,
    published_part,
    published_rows,
    table_header,
    table_row,
    titled,
    unpublished_note,
    write_results,
)
from utils.reports.runs import Run, disagreement, find_runs, size_notes, training_notes, unfinished
from utils.runs.device import describe_device, pick_device, set_seed
from utils.runs.folder import command_line, environment
from utils.runs.lock import hold
from utils.runs.weights import WeightsFile, state_hash


def add_test_flags(parser: argparse.ArgumentParser, dims: int, batch_size: int) -> None:
    """The flags of a test script for datasets of this dimension."""
    axes = {2: ("Z", "Y", "X"), 3: ("X", "Y", "Z")}[dims]
    names = dataset_names((dims,))
    parser.add_argument(
        "--name",
        "--dataset_name",
        metavar="NAME",
        help=f"dataset: {', '.join(names)} or the name of a custom one (default: {names[0]}; with --predict the one "
        "recorded in the weights file)",
    )
    parser.add_argument(
        "--output_dir", help="a run's folder, a folder of runs, or a folder with a bare .pth (required for a test)"
    )
    parser.add_argument("--root_path", help="folder of the dataset (default: its name under $DATASET_HOME)")
    parser.add_argument("--test_list", metavar="FILE", help="test list (default: the dataset's)")
    parser.add_argument(
        "--spacing",
        type=voxel_size,
        nargs=3,
        metavar=axes,
        help="voxel size in mm; distances are then in mm (default: voxels)",
    )
    parser.add_argument(
        "--unit",
        choices=("voxel", "mm"),
        default="voxel",
        help="unit of distances; mm: with --spacing, or each file's own voxel size (default: %(default)s, the papers')",
    )
    parser.add_argument(
        "--hd95",
        choices=HD95,
        default=HD95[0],
        help="pooled: 95th percentile of both directions' distances, as in MedPy and the papers; max: the larger of "
        "both directions' 95th percentiles, as in other libraries (default: %(default)s)",
    )
    parser.add_argument(
        "--empty",
        choices=("ours", "release"),
        default="ours",
        help="distance to an empty mask. ours: undefined, left out and counted; release: 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--patch_size",
        type=array_size,
        nargs=dims,
        metavar="N",
        help="size of the network's input, for a bare .pth that does not record it (default: the dataset's)",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=tuple(COLUMNS),
        default=list(COLUMNS),
        metavar="METRIC",
        help="metrics shown in the table; the files contain all (default: dice jaccard hd95 asd)",
    )
    what = {2: "slices", 3: "windows"}[dims]
    parser.add_argument(
        "--batch_size", type=array_size, default=batch_size, help=f"{what} per batch (default: %(default)s)"
    )
    parser.add_argument("--nms", action="store_true", help="keep the largest object of each class (default: off)")
    parser.add_argument(
        "--save_nifti",
        action="store_true",
        help="write the label maps as NIfTI, too, into nifti/ of a test's folder, on the scan's own grid where the h5 "
        "file states it (default: off)",
    )
    parser.add_argument(
        "--figures", action="store_true", help="draw curves and cases and write a page for each run (default: off)"
    )
    parser.add_argument(
        "--gpu", type=not_negative, metavar="N", help="CUDA device (default: the first one, or the CPU without one)"
    )


def run_tests(args: argparse.Namespace) -> int:
    """Test every run at or below --output_dir, print one table. What cannot be tested is named at the end.

    The exit code: 1 where a run cannot be read or seeds of one setting were trained with different flags. Raises
    InputError where nothing can be tested.
    """
    if args.figures:
        from utils.reports.report_page import plot_run  # first: says before the test which packages are missing
    runs = find_runs(Path(args.output_dir), get_dataset(args.name, args.root_path))
    for run in runs:
        hold(run.path, "test")
    volumes, device, about = open_test_list(args)
    title = titled(about["dataset"], about["kind"])
    print(f"{title}: {len(volumes)} volumes of {about['test_list']}; {describe_device(device)}", flush=True)

    if args.save_nifti:
        _say_geometry(volumes)

    columns = [*args.columns, "classes", "empty"]
    rows, summaries = [table_header(volumes.info.classes, args.unit, columns, args.hd95)], []
    tested: list[Run] = []
    faults = [run.fault for run in runs if run.fault]
    for home in dict.fromkeys(run.home for run in runs):
        members = [run for run in runs if run.home == home and not run.fault]
        of_group: dict[str, list] = {}
        for run in members:
            done: dict[tuple, Path] = {}
            for kind, path in run.weights.items():
                named = {**about, "run": f"{run.name} {kind}"}
                try:
                    folder = run.path / f"test_{kind}"
                    summary = score_weights(path, folder, volumes, args, device, named, done)
                except WriteError:
                    raise
                except InputError as error:
                    faults.append(str(error))
                    continue
                of_group.setdefault(kind, []).append(summary)
                rows.append(table_row(f"{run.name} {kind}", summary, columns))
                print(f"tested {path}: Dice {summary['metrics']['dice']['mean']:.4f}", flush=True)
        tested += members if of_group else []
        reason = disagreement(members) if of_group else ""
        faults += [reason] if reason else []
        for kind, several in of_group.items() if not reason else ():
            if len(several) > 1:
                name = f"{members[0].group} {kind}, mean ± std over {len(several)} runs"
                rows.append(over_runs_row(name, several, columns))
        summaries += sum(of_group.values(), [])
    if not summaries:
        raise InputError(faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""))
    _print_table(rows, summaries, tested, columns)
    if args.figures:
        for run in tested:
            print(f"page: {plot_run(run.path)}")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _print_table(rows: list, summaries: Sequence[dict], runs: Sequence[Run], columns: Sequence[str]) -> None:
    """The measured rows, the published ones of the same settings below them, and the footnotes."""
    first, small = summaries[0], size_notes(runs)
    settings = {run.group: (run.method, run.labelnum, run.preset) for run in runs}
    published = published_rows(first["dataset"], settings.values())
    rows += published_part(published, first["classes"], columns, first["hd95"], first["kind"], bool(small))
    print("\n" + format_table(rows))
    notes = [*footnotes(summaries, columns=columns), *small, *training_notes(runs, summaries)]
    last = {summary["run"]: summary for summary in summaries}
    notes += filter(None, (unfinished(run, last[f"{run.name} last"]) for run in runs if f"{run.name} last" in last))
    notes += unpublished_note(settings, published)
    for number, text in enumerate([*notes, *published_notes(published)], 1):
        print(f"[{number}] {text}")


def open_test_list(args: argparse.Namespace) -> tuple[VolumeDataset, torch.device, dict]:
    """The test volumes, read and checked, the device, and what every summary says of both."""
    if args.spacing:
        args.unit = "mm"
    info = get_dataset(args.name, args.root_path)
    device = pick_device(args.gpu)
    set_seed(0, deterministic=False)
    root = find_root(info, args.root_path)
    test_list = require_list(info, root, "test", args.test_list)
    volumes = open_volumes(info, root, test_list)
    about = {"dataset": info.name, "test_list": str(test_list), "test_list_sha256": list_hash(volumes.names)}
    about.update(test_data_sha256=volumes.check(), root=str(root), unit=args.unit, nms=args.nms, hd95=args.hd95)
    stride = getattr(args, "stride", None) or info.stride
    about["windows"] = f"windows with stride {stride[0]} {stride[0]} {stride[1]}" if info.dims == 3 else ""
    about["kind"] = stated_kind(root, volumes.sources)
    about.update(device=describe_device(device), command=command_line(), flags=vars(args), **environment())
    return volumes, device, about


def score_weights(
    path: Path,
    folder: Path,
    volumes: VolumeDataset,
    args,
    device: torch.device,
    about: dict,
    done: Optional[dict[tuple, Path]] = None,
) -> dict:
    """Predict and score the test list with one weights file; writes `folder` and returns its summary.

    done: the folders of tests with the same flags, by their weights, which are not tested again; this one is added.
    """
    done = {} if done is None else done
    info = volumes.info
    weights = WeightsFile.read(path)
    weights.check_name(info.name)
    net = weights.build_network(info)
    patch_size = tuple(weights.dataset.get("patch_size") or args.patch_size or info.patch_size)
    about = {
        **{key: weights.meta.get(key) for key in ("method", "iteration", "val_dice", "selection", "note")},
        **about,
    }
    about.update(weights=path.name, weights_sha256=file_hash(path), patch_size=list(patch_size))
    tested = state_hash(net), patch_size
    if tested in done:
        return copy_results(done[tested], folder, about)
    stride = getattr(args, "stride", None)
    predict = make_predictor(net.to(device).eval(), info, patch_size, stride, args.batch_size, args.nms)
    evaluated = evaluate(predict, volumes, unit=args.unit, spacing=args.spacing, hd95=args.hd95)
    sources = dict(zip(volumes.names, volumes.sources))

    def save(new: Path, case: str, pred: np.ndarray) -> None:
        write_nifti(new / "nifti" / f"{case}.nii.gz", pred, sources[case], info.dims)
        write_colour_tables(new / "nifti", info.classes)

    summary = write_results(folder, evaluated, info.classes, args.empty, about, save if args.save_nifti else None)
    done[tested] = folder
    return summary


def stated_geometry(path: Path) -> Optional[tuple]:
    """(axes, crop, grid, scan) of a prepared h5 file, which lead back to its scan's grid; None where it states none."""
    attributes = h5_attributes(path)
    grid, scan = (Geometry.from_attributes(attributes, prefix) for prefix in ("grid", "scan"))
    if grid is None or scan is None or not {"axes", "crop"} <= attributes.keys():
        return None
    return attributes["axes"], attributes["crop"], grid, scan


def write_nifti(path: Path, pred: np.ndarray, source: Path, dims: int) -> None:
    """A test's label map as NIfTI: on the grid of the scan that its h5 file was made of, where the file states it.

    Otherwise with voxels of the size that the file states, else of 1 mm, and without an orientation.
    """
    geometry = stated_geometry(source)
    if geometry is not None:
        try:
            return write_label(path, restore(pred, *geometry), geometry[-1])
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"{source}: its recorded geometry is not that of its image; prepare it again") from error
    axes = "zyx" if dims == 2 else "xyz"
    spacing = dict(zip(axes, read_spacing(source) or (1.0, 1.0, 1.0)))
    label = from_axes(pred, axes)
    identity = tuple(np.eye(3).flat)
    return write_label(path, label, Geometry(label.shape[::-1], tuple(spacing[a] for a in "xyz"), (0.0,) * 3, identity))


def _say_geometry(volumes: VolumeDataset) -> None:
    """One line where label maps are written as NIfTI without their scans' geometry."""
    bare = [name for name, path in zip(volumes.names, volumes.sources) if stated_geometry(path) is None]
    if bare:
        print(
            f"--save_nifti: {len(bare)} of {len(volumes)} files state no geometry of a scan ({bare[0]}, ...): their "
            "label maps get voxels of the file's `spacing`, else of 1 mm, and no orientation"
        )
