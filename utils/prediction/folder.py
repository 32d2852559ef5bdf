"""Predicting files: scans one after the other, their label maps, probabilities and volumes.csv in one folder."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Mapping, Optional, Sequence

import numpy as np

from dataloaders.files import InputError, WriteError, csv_text, write_json, write_text
from dataloaders.geometry import Geometry
from dataloaders.info import SUFFIXES, Preparation
from dataloaders.reading import file_hash
from dataloaders.scans.dicom import has_pixels, is_dicom
from dataloaders.scans.files import read_scan, scan_files, scan_hash, scan_suffix, write_label, write_scan
from dataloaders.scans.scan import Scan
from utils.cli import Parser, check_patch_size, dataset_names, new_folder
from utils.prediction.colour_tables import write_colour_tables
from utils.prediction.predict import Model, Prediction, load_model, predict_scan
from utils.runs.device import describe_device, pick_device, set_seed
from utils.runs.folder import command_line, environment
from utils.runs.lock import LOCK, hold

ONLY_TEST = ("output_dir", "test_list", "spacing", "unit", "empty", "hd95", "columns", "figures", "save_nifti")
DECIDES = {"weights_sha256": "weights", "probabilities": "--save_probabilities", "nms": "--nms", "stride": "--stride"}
ONLY_PREDICT = ("weights", "out", "save_probabilities", "one_pass")


def add_predict_flags(parser: argparse.ArgumentParser, dims: int) -> None:
    """The flags by which a test script predicts new scans instead."""
    group = parser.add_argument_group("predict new scans instead of a test")
    group.add_argument(
        "--predict",
        metavar="IN",
        help=f"a scan ({', '.join(SUFFIXES)}, a folder of DICOM slices) or a folder of them (default: a test)",
    )
    group.add_argument("--weights", metavar="FILE", help="a run's best.pth or last.pth, or a bare .pth with --name")
    group.add_argument(
        "--out",
        type=new_folder,
        default="predictions",
        help="folder of label maps and volumes.csv; existing results of the same weights and flags are "
        "skipped (default: %(default)s)",
    )
    group.add_argument(
        "--save_probabilities", action="store_true", help="also write one float32 file per class (default: off)"
    )
    if dims == 3:
        group.add_argument(
            "--one_pass",
            action="store_true",
            help="for models trained on crops around the ground truth: predict the whole scan at once instead of "
            "finding where to crop (default: off)",
        )


def parse_test_or_predict(parser: Parser, argv: Optional[Sequence[str]], dims: int) -> argparse.Namespace:
    """Parse; flags that say nothing in the mode they are given in are an error."""
    args, given = parser.parse_args(argv), parser.given(argv)
    foreign, where = (ONLY_TEST, "for a test, not") if args.predict else (ONLY_PREDICT, "only")
    found = [f"--{flag}" for flag in foreign if flag in given]
    if found:
        parser.error(f"{' '.join(found)}: {where} with --predict")
    check_patch_size(parser, args.patch_size)
    if args.spacing and given.get("unit") == "voxel":
        parser.error("--spacing gives distances in mm, not --unit voxel: leave one of them out")
    if args.predict and not args.weights:
        parser.error("--predict needs --weights FILE")
    if not args.predict:
        if not args.output_dir:
            parser.error("the following arguments are required: --output_dir (or --predict and --weights)")
        args.name = args.name or dataset_names((dims,))[0]
    return args


def run_predictions(args: argparse.Namespace, dims: int) -> int:
    """Predict every scan of --predict into --out. The exit code: 0, 1 where some scans are faulty, 2 where all are."""
    sources = find_scans(Path(args.predict))
    device = pick_device(args.gpu)
    set_seed(0, deterministic=False)
    chosen = {"stride": args.stride, "one_pass": args.one_pass} if dims == 3 else {}
    model = load_model(
        Path(args.weights),
        dims,
        device,
        args.batch_size,
        args.name,
        args.root_path,
        args.patch_size,
        nms=args.nms,
        **chosen,
    )
    hold(Path(args.out))
    folder = PredictionFolder(Path(args.out), description(args, model, describe_device(device)), model.info.classes)
    print(f"{args.weights}: {model.info.name}, classes {', '.join(model.info.classes)}; {describe_device(device)}")
    print(f"preparation as in training: {steps(model.preparation)}")
    print(f"axes: {model.axes}")
    print(f"coverage: {model.coverage}", flush=True)
    faulty = 0
    for number, (name, path) in enumerate(sources.items(), 1):
        try:
            line = predict_file(model, folder, name, path, args.save_probabilities)
            print(f"[{number}/{len(sources)}] {line}", flush=True)
        except WriteError:
            raise
        except InputError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            faulty += 1
    if faulty < len(sources):
        print(f"{len(sources) - faulty} of {len(sources)} scans predicted; volumes: {folder.path / 'volumes.csv'}")
    return 0 if not faulty else 1 if faulty < len(sources) else 2


def steps(preparation: Preparation) -> str:
    """The steps that an image goes through, in a line."""
    said = {key: value for key, value in asdict(preparation).items() if key not in ("name", "label_values", "version")}
    return ", ".join(f"{key} {value}" for key, value in said.items() if value not in (None, False))


def predict_file(model: Model, folder: PredictionFolder, name: str, path: Path, save_probabilities: bool) -> str:
    """Predict one scan, write what belongs to it and return the line that says so."""
    start, content = time.perf_counter(), scan_hash(path)
    if folder.has(name, path, content):
        return f"{path}: skipped, exists: {folder.target(name)}"
    scan = read_scan(path)
    if scan.geometry.tilted:
        print(
            f"WARNING: {path}: its axes are {scan.geometry.shear:.1f} degrees off the right angle (a tilted gantry); "
            "predicted on its own grid; distances in mm follow the sheared axes"
        )
    prediction = predict_scan(model, scan, save_probabilities)
    volumes = volumes_ml(prediction.label, scan.geometry, model.info.num_classes)
    folder.add(name, scan, content, prediction, volumes)
    found = ", ".join(f"{label} {volume:.4g} ml" for label, volume in zip(model.info.classes, volumes))
    nothing = "" if any(volumes) else " (NOTHING FOUND, the label map is empty)"
    return f"{path} -> {folder.target(name)}: {found}{nothing}; {time.perf_counter() - start:.1f} s"


def volumes_ml(label: np.ndarray, geometry: Geometry, num_classes: int) -> list[float]:
    """The volume of each foreground class in millilitres."""
    return [geometry.voxel_ml * int(count) for count in np.bincount(label.ravel(), minlength=num_classes)[1:]]


def find_scans(source: Path) -> dict[str, Path]:
    """The scans at `source` by the name of their outputs: itself, or those directly in the folder, by name.

    Raises InputError where there is none, or two that would give files of one name.
    """
    if not source.exists():
        raise InputError(f"--predict {source}: no such file or folder")
    paths = [source]
    if source.is_dir():
        inside = sorted(path for path in source.iterdir() if not path.name.startswith("."))
        paths = sorted([*scan_files(source), *(path for path in inside if path.is_dir() and holds_dicom(path))])
        loose = [path for path in inside if path not in paths and is_dicom(path)]
        if paths and any(map(has_pixels, loose)):
            raise InputError(f"--predict {source}: DICOM slices next to {paths[0].name}; give one of them")
        if loose and not paths:
            paths = [source]
        if not paths:
            raise InputError(f"--predict {source}: no scan in this folder ({', '.join(SUFFIXES)}, folders of DICOM)")
    found: dict[str, Path] = {}
    for path in paths:
        name = scan_name(path)
        if name in found:
            raise InputError(f"{path}: its label map would have the name of {found[name].name}'s; rename one of them")
        found[name] = path
    return found


def holds_dicom(folder: Path) -> bool:
    """Whether this folder holds DICOM slices, at any depth."""
    return any(is_dicom(path) for path in folder.rglob("*") if path.is_file())


def scan_name(path: Path) -> str:
    """A scan's name without the suffix of its format."""
    name = Path(os.path.abspath(path)).name
    return name if path.is_dir() else name[: len(name) - len(scan_suffix(path))]


def description(args: argparse.Namespace, model: Model, device: str) -> dict:
    """What prediction.json holds. `decides` must agree where a folder is filled by several runs."""
    decides = {
        "weights_sha256": file_hash(Path(args.weights)), "dataset": model.info.name,
        "preparation": asdict(model.preparation), "patch_size": model.info.patch_size, "stride": model.stride,
        "coverage": model.coverage, "nms": model.nms, "probabilities": args.save_probabilities,
    }  # fmt: skip
    about = {"weights": args.weights, "device": device, "command": command_line(), **environment()}
    return json.loads(json.dumps({"decides": decides, **about}))


class PredictionFolder:
    """--out: <scan>.nii.gz, <scan>_probability_<label>.nii.gz, volumes.csv, colour tables, its mark prediction.json.

    Raises InputError for a folder that holds anything else, or predictions by other weights or flags.
    """

    def __init__(self, path: Path, about: Mapping, classes: Sequence[str]):
        self.path, self.about, self.classes = path, about, classes
        self.header = ["file", *(f"{label} ml" for label in classes), "sha256"]  # the latter of the scan
        self.rows: dict[str, list] = {}  # scan -> its row of volumes.csv
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {path}: not a folder")
        if path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()):
            self._read()

    def _read(self) -> None:
        try:
            stored = json.loads((self.path / "prediction.json").read_text())["decides"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"--out {self.path}: holds other files, name a new or an empty folder") from error
        differing = [key for key, value in self.about["decides"].items() if stored.get(key) != value]
        if differing:
            what = ", ".join(DECIDES.get(key, key) for key in differing)
            raise InputError(f"--out {self.path}: holds predictions with other {what}; use another --out")
        if (self.path / "volumes.csv").exists():
            with open(self.path / "volumes.csv", newline="") as file:
                self.rows = {scan_name(Path(row[0])): row for row in list(csv.reader(file))[1:] if row}

    def target(self, name: str) -> Path:
        """The label map of a scan."""
        return self.path / f"{name}.nii.gz"

    def has(self, name: str, path: Path, content: str) -> bool:
        """Whether this scan, with this SHA-256, was predicted; raises InputError where one of another place was."""
        row = self.rows.get(name)
        if row and row[0] != os.path.abspath(path):
            raise InputError(f"{path}: {self.target(name)} exists already, for {row[0]}; use another --out")
        return bool(row) and row[-1] == content and self.target(name).exists()

    def add(self, name: str, scan: Scan, content: str, prediction: Prediction, volumes: Sequence[float]) -> None:
        """Write what belongs to one scan, each file whole, and last the row that counts it as done."""
        if not (self.path / "prediction.json").exists():
            write_json(self.path / "prediction.json", self.about)
        write_colour_tables(self.path, self.classes)
        for index, scores in enumerate(() if prediction.scores is None else prediction.scores):
            write_scan(self.path / f"{name}_probability_{index}.nii.gz", scores, scan.geometry, scan.header)
        write_label(self.target(name), prediction.label, scan.geometry, scan.header)
        self.rows[name] = [os.path.abspath(scan.path), *(f"{volume:.6g}" for volume in volumes), content]
        write_text(self.path / "volumes.csv", csv_text([self.header, *self.rows.values()]))
