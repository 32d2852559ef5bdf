#!/usr/bin/env python3
"""From the official download of a dataset, or custom scans, to the h5 files and lists that the training reads.

The steps for each dataset: docs/PROTOCOLS.md; custom datasets: docs/DATA.md.

    python scripts/prepare.py --name ACDC --source /downloads/ACDC --out /data
    python scripts/prepare.py --name Synapse --source /downloads/Abdomen/RawData --out /data
    python scripts/prepare.py --name LA --source "/downloads/2018LA_Seg_Training Set" --out /data
    python scripts/prepare.py --name Pancreas --source /downloads/Pancreas-CT --out /data
    python scripts/prepare.py --name Custom --source /mine --out /data      # with images/, labels/, dataset.json
    export DATASET_HOME=/data

After an interruption, rerun the same command to resume. Exit code 0: all cases of the published lists are prepared
(or all but the two scans that Pancreas-CT withdrew); 1: cases are missing from the download, or --check found a
difference; 2: bad input. Whatever could be prepared has been written in any case.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import h5py
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.checks.patient_names import describe_suspects, suspect_patients
from dataloaders.custom_datasets import DESCRIPTION, read_custom_dataset
from dataloaders.files import InputError, WriteError, write_h5, write_text
from dataloaders.info import Preparation
from dataloaders.reading import read_arrays, resolve
from dataloaders.registry import PREPARATIONS, DatasetInfo, case_of, custom_info, get_dataset, slice_entry
from dataloaders.scans.comparison import Difference, compare_case
from dataloaders.scans.custom_scans import (
    CustomScan,
    find_scans,
    labelled_patients,
    scan_table,
    split_scans,
)
from dataloaders.scans.downloads import WITHDRAWN, Source, find_cases, published_cases
from dataloaders.scans.files import read_scan, scan_hash
from dataloaders.scans.preparation import FLIPS, align_label, attributes, draw_margin, prepare
from utils.cli import Parser, new_folder, not_negative, one_line_errors, seed_number, worker_count
from utils.runs.lock import hold
from utils.runs.stopping import blocked_in_children, leave_interrupts_to_parent

SLICE_AXES = [a + b for x in "xX" for y in "yY" for a, b in ((x, y), (y, x))]
SPLIT = (70, 10, 20)  # shares of a custom dataset's labelled patients in training, validation and test
ROUNDING = 1e-5  # --check: image values that differ by less are the same


class Job(NamedTuple):
    """One case to prepare."""

    case: str
    source: Source
    info: DatasetInfo
    root: Path
    in_slices: bool  # one file a slice, else one for the volume
    preparation: Preparation
    seed: int
    label_flip: Optional[str] = None
    content: str = ""  # SHA-256 of a custom scan's files, which may be corrected between two runs


def target(job: Job, index: int = 0) -> Path:
    """The file of a volume, or of one of its slices."""
    if job.in_slices:
        return job.root / job.info.slice_paths[0].format(id=slice_entry(job.info.name, job.case, index))
    return job.root / job.info.volume_paths[0].format(id=job.case)


def stated(job: Job) -> dict:
    """The attributes by which a later run knows its own files."""
    drawn = {} if job.preparation.margin is None or len(set(job.preparation.margin)) == 1 else {"seed": job.seed}
    named = {} if job.info.name in PREPARATIONS else {"source": job.source.image.name}  # scans may be added before it
    return {"preparation": job.preparation.to_json(), **drawn, **named}


def prepare_case(job: Job) -> None:
    """Read, prepare and write one case; slices from the last to the first, so that the first one marks the whole."""
    image, label = read_scan(job.source.image), job.source.label and read_scan(job.source.label)
    extra = {"source": job.source.image.name, **stated(job)}
    if job.content:
        extra["source_sha256"] = job.content
    if job.label_flip:
        label, extra["label_flip"] = align_label(image, label, job.label_flip)
    prepared = prepare(image, job.preparation, label, draw_margin(job.preparation, job.seed, job.case))
    facts = {**attributes(prepared, job.preparation), **extra}
    if not job.in_slices:
        write_h5(target(job), prepared.image, prepared.label, facts)
        return
    spacing = facts.pop("spacing")
    for index in reversed(range(len(prepared.image))):
        own = {**facts, "spacing": spacing[1:], "slice": index, "slices": len(prepared.image)}
        write_h5(target(job, index), prepared.image[index], None if label is None else prepared.label[index], own)


def slices_of(job: Job) -> int:
    """How many files a prepared case has."""
    if not job.in_slices:
        return 1
    with h5py.File(target(job), "r") as file:
        return int(file.attrs["slices"])


def is_done(job: Job) -> bool:
    """Whether the case exists, prepared in the same way; raises InputError for a file of another preparation.

    An own case whose scan or label is another since, or whose label came or went, is not done.
    """
    path = target(job)
    if not path.exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            other = {key: file.attrs.get(key) for key, value in stated(job).items() if file.attrs.get(key) != value}
            same_content = file.attrs.get("source_sha256", "") == job.content
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: exists but is not a readable h5 file ({error}); move it away") from error
    for key, value in other.items():
        how = ""
        if key == "preparation" and value:
            old, new = json.loads(value), json.loads(job.preparation.to_json())
            how = f" ({', '.join(name for name in new if old.get(name) != new[name])})"
        raise InputError(
            f"{path}: exists but was made with a different {key}{how}; use another --out or move {job.root} away"
        )
    return same_content and all(target(job, index).exists() for index in range(slices_of(job)))


def run_jobs(jobs: Sequence[Job], num_workers: int) -> list[str]:
    """Prepare all; returns what was wrong, one line per faulty case. A disk that is full ends it (WriteError)."""
    if not jobs:
        return []
    bar = tqdm(total=len(jobs), desc="preparing", unit="case", disable=None)
    faults = []

    def keep(prepare_one) -> None:
        try:
            prepare_one()
        except WriteError:
            raise
        except InputError as error:
            faults.append(str(error))
        bar.update()

    with bar:
        if num_workers == 0:
            for job in jobs:
                keep(lambda job=job: prepare_case(job))
            return faults
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(num_workers, len(jobs)), context, _start_worker) as pool:
            with blocked_in_children():
                futures = [pool.submit(prepare_case, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    keep(future.result)
            except BrokenProcessPool as error:
                raise InputError("a worker was killed, probably for lack of memory: use fewer --num_workers") from error
            finally:
                for future in futures:
                    future.cancel()
    return sorted(faults)


def _start_worker() -> None:
    """Workers share the cores by cases, not within one; they leave Ctrl-C to the parent and end when it was killed."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # ITK reads it when it is imported
    leave_interrupts_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def write_lists(
    info: DatasetInfo, root: Path, jobs: dict[str, Job], roles: dict[str, list[str]], without: Sequence[str]
) -> list[str]:
    """Write the list of each role whose cases are all there, but for those in `without`; a phrase for each list.

    The list of a role without cases, left by another split, is moved away: its cases have other roles now.
    """
    said = []
    for role, cases in roles.items():
        in_slices = info.dims == 2 and role == "train"
        path = root / getattr(info, f"{role}_lists")[0]
        if not cases:
            if path.exists():
                path.replace(path.with_name(path.name + ".old"))
                said.append(f"{path.name} of another split was kept as {path.name}.old")
            continue
        lacking = [case for case in cases if case not in without and not (case in jobs and is_done(jobs[case]))]
        if lacking:
            said.append(f"{path.name} not written, {len(lacking)} of its {len(cases)} cases are missing")
            continue
        entries = [case for case in cases if case in jobs]
        if in_slices:
            entries = [slice_entry(info.name, case, k) for case in entries for k in range(slices_of(jobs[case]))]
        said += write_new(path, "".join(entry + "\n" for entry in entries))
        said.append(f"{path.name} {len(entries)} {'slices' if in_slices else 'volumes'}")
    return said


def write_new(path: Path, text: str) -> list[str]:
    """Write a text file. A different one of that name is kept as .old, and the phrase returned says so."""
    changed = path.exists() and path.read_text() != text
    if changed:
        path.replace(path.with_name(path.name + ".old"))
    write_text(path, text)
    return [f"{path.name} differed; the old file was kept as {path.name}.old"] if changed else []


def check(info: DatasetInfo, jobs: dict[str, Job], existing: Path) -> bool:
    """Compare every prepared case with an existing preparation and print the differences; whether there are none."""
    root = next((existing / folder for folder in info.folders if (existing / folder).is_dir()), existing)
    if not root.is_dir():
        raise InputError(f"--check {existing}: no such folder")
    counts, largest = {"the same": 0, "the same except for the margin": 0, "different": 0, "not there": 0}, 0.0
    for case, job in tqdm(jobs.items(), desc="comparing", unit="case", leave=False, disable=None):
        if not is_done(job):
            continue
        differences = [_check_file(info, job, root, index) for index in range(slices_of(job))]
        found = [difference for difference in differences if difference]
        largest = max([largest, *(one.image for one in found if not math.isnan(one.image))])
        wrong = [one for one in found if one.labels or not one.image <= ROUNDING]
        if not found:
            verdict, line = "not there", "not there"
        elif wrong or len(found) < len(differences):
            verdict, line = "different", wrong[0].line() if wrong else ""
            if job.in_slices:
                line += f" ({len(wrong)} of {len(differences)} slices, {len(differences) - len(found)} not there)"
        else:
            verdict, line = "the same", ""
            if any(one.recropped for one in found):
                verdict, line = "the same except for the margin", found[0].shape
        counts[verdict] += 1
        if line:
            tqdm.write(f"{case}: {line.strip()}")
    if counts["not there"] == sum(counts.values()):
        raise InputError(f"--check {root}: contains none of the prepared cases; name the folder of {info.name}")
    parts = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    print(f"check against {root}: {parts}; image values differ by up to {largest:g}")
    return not counts["different"]


def _check_file(info: DatasetInfo, job: Job, root: Path, index: int) -> Optional[Difference]:
    """The difference of one file, None where it is not there."""
    paths = info.slice_paths if job.in_slices else info.volume_paths
    entry = slice_entry(info.name, job.case, index) if job.in_slices else job.case
    path = resolve(root, paths, entry) or resolve(root, paths, entry.replace("_slice_", "_slice"))
    if path is None:
        return None
    theirs = read_arrays(path)
    for key in ("image", "label"):
        if key not in theirs:
            raise InputError(f"{path}: no '{key}' in this file, nothing to compare with")
    return compare_case(read_arrays(target(job, index)), theirs, job.preparation.margin is not None)


def parse_args(argv=None):
    """The flags; those of one dataset are refused for another."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--name",
        required=True,
        help=f"{', '.join(PREPARATIONS)}, or Custom for a custom dataset with a {DESCRIPTION} (required)",
    )
    parser.add_argument(
        "--source",
        required=True,
        type=Path,
        help="the unpacked download, searched at any depth; for Custom: the folder with images/, labels/ and "
        f"{DESCRIPTION} (required)",
    )
    parser.add_argument("--out", required=True, type=new_folder, help="folder that becomes DATASET_HOME (required)")
    parser.add_argument(
        "--num_workers",
        type=worker_count,
        default=4,
        help="processes, one case each; a CT case takes about 2 GB; 0: only this process (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=1337,
        help="random seed of the margins around LA's labels and of Custom's split (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        type=not_negative,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        help="Custom: shares of the patients with labels in training, validation and test; all others are used for "
        "training (default: 70 10 20)",
    )
    parser.add_argument(
        "--slice_axes",
        choices=SLICE_AXES,
        metavar="AXES",
        help="Synapse: scan axes along which rows and columns of a slice run, upper case: backwards; one of "
        f"{', '.join(SLICE_AXES)} (default: xy)",
    )
    parser.add_argument(
        "--label_flip",
        choices=("auto", *FLIPS),
        help="Pancreas: the flip that aligns labels and scans; auto: found by their overlap with soft tissue "
        "(default: auto)",
    )
    parser.add_argument(
        "--check",
        type=Path,
        action="append",
        default=[],
        metavar="EXISTING",
        help="compare with an existing preparation afterwards: its folder or its DATASET_HOME; can be repeated; "
        "not for Custom (default: none)",
    )
    args = parser.parse_args(argv)
    args.out = Path(args.out)
    for flag, name in (("slice_axes", "Synapse"), ("label_flip", "Pancreas")):
        if getattr(args, flag) and args.name != name:
            parser.error(f"--{flag} is {name}'s")
    if args.split and args.name in PREPARATIONS:
        parser.error(f"--split is Custom's, {args.name} has published lists")
    if args.split and not args.split[0]:
        parser.error("--split: the share of the training must not be 0")
    if args.name not in PREPARATIONS and args.check:
        parser.error(f"--check compares with published preparations: {', '.join(PREPARATIONS)}")
    return args


def run_missing(jobs: Sequence[Job], args, what: str) -> list[str]:
    """Prepare the missing cases; returns one line per faulty one. `what` says in words which."""
    todo = [job for job in jobs if not is_done(job)]
    print(f"{what}, {len(jobs) - len(todo)} done before")
    return run_jobs(todo, args.num_workers)


def report(lines: Sequence[str], other_fault: bool = False) -> None:
    """The faults, one per line, at the very end; exit with 2, or with 1 for another fault reported before."""
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    if lines or other_fault:
        raise SystemExit(2 if lines else 1)


def prepare_published(args) -> None:
    """A dataset of PREPARATIONS from its official download, by the published lists."""
    info, preparation = get_dataset(args.name), PREPARATIONS[args.name]
    if args.slice_axes:
        preparation = replace(preparation, axes="z" + args.slice_axes)
    label_flip = (args.label_flip or "auto") if args.name == "Pancreas" else None
    root, roles = args.out / info.folders[0], published_cases(args.name)
    hold(root)
    found, faults = find_cases(args.name, args.source)
    jobs = {
        case: Job(case, found[case], info, root, info.dims == 2 and role == "train", preparation, args.seed, label_flip)
        for role, cases in roles.items()
        for case in cases
        if case in found
    }
    wanted = [case for cases in roles.values() for case in cases]
    lines = [fault for case, fault in faults.items() if case in map(case_of, wanted)]
    what = f"{info.name}: {len(wanted)} cases in the published lists, {len(jobs)} in {args.source}"
    lines += run_missing(list(jobs.values()), args, what)

    absent = dict.fromkeys(case_of(case) for case in wanted if case not in jobs and case_of(case) not in faults)
    withdrawn = [case for case in absent if case in WITHDRAWN]
    missing = [case for case in absent if case not in WITHDRAWN]
    if missing:
        print(f"missing from the download, {len(missing)}: {', '.join(missing)}")
    if withdrawn:
        print(
            f"missing as in every download since 2020: {', '.join(withdrawn)} (withdrawn, the same scan as image0002); "
            "the lists leave them out, so that one of the twelve labelled cases differs: report this with your numbers"
        )
    print(f"{root}: {'; '.join(write_lists(info, root, jobs, roles, withdrawn))}")
    if info.name == "ACDC":
        print("patients are in the published order; within a patient slices are in order, where SSL4MIS shuffles them")
    same = [check(info, jobs, existing) for existing in args.check]
    report(lines, bool(missing) or not all(same))


def prepare_custom(args) -> None:
    """A custom dataset, as its dataset.json says, with lists by a split of its patients."""
    path = args.source / DESCRIPTION
    if args.name == "Custom" and not args.source.is_dir():
        raise InputError(f"--source {args.source}: no such folder")
    if not path.is_file():
        names = ", ".join(PREPARATIONS)
        raise InputError(f"--name {args.name}: choose {names}, or a custom dataset, which needs {path}; no such file")
    info = read_custom_dataset(path)
    if args.name not in ("Custom", info.name):
        raise InputError(f"--name {args.name}: {path} describes {info.name}; give --name {info.name} or Custom")
    found = find_scans(custom_info(info), args.source)
    root = args.out / info.name
    hold(root)
    try:
        scans = split_scans(found.scans, args.split or SPLIT, args.seed)
    except InputError as error:
        return report([*found.faults, str(error)])
    jobs = {
        scan.volume: Job(
            scan.volume,
            Source(scan.image, scan.label),
            info,
            root,
            info.dims == 2 and role == "train",
            info.preparation,
            args.seed,
            content="".join(scan_hash(path) for path in (scan.image, scan.label) if path),
        )
        for role, of_role in scans.items()
        for scan in of_role
    }
    labels = sum(scan.label is not None for scan in found.scans)
    what = f"{info.name}: {len(found.scans)} scans in {args.source}, {labels} with a label"
    warnings = [] if info.patient else patient_warnings(scans)
    print(*warnings, sep="\n", end="\n" * len(warnings))  # first: with another expression all work is done again
    lines = found.faults + run_missing(list(jobs.values()), args, what)
    for note in (*info.notes, *found.notes):
        print(note)
    if lines:
        print(f"{root}: lists not written; fix or remove the files below, then run the same command again")
        return report(lines)
    said = write_new(root / DESCRIPTION, info.path.read_text()) + write_new(root / "scans.csv", scan_table(scans))
    roles = {role: [scan.volume for scan in of_role] for role, of_role in scans.items()}
    said += write_lists(info, root, jobs, roles, ())
    print(f"{root}: {'; '.join(said)}")
    if any(phrase.endswith(".list.old") for phrase in said):
        print("the lists have changed: a run trained on the old ones may have seen the new test cases")
    counts = {role: (len({scan.patient for scan in of_role}), len(of_role)) for role, of_role in scans.items()}
    told = "" if info.patient else "; the patient is taken from the scan's name; 'patient' in dataset.json changes this"
    parts = ", ".join(f"{role} {number} ({several})" for role, (number, several) in counts.items())
    print(f"patients (scans): {parts}{told}")
    for role, needed_by in (("val", "--protocol says how training does without"), ("test", "a test needs --test_list")):
        if not scans[role]:
            print(f"this split has no {role} list: {needed_by}")
    number = len(labelled_patients(scans["train"]))
    print(
        f"of the training patients {number} have labels: --labeled_cases 1 to {number}; scans and patients: scans.csv"
    )
    print(*warnings, sep="\n", end="\n" * len(warnings))


def patient_warnings(scans: dict[str, list[CustomScan]]) -> list[str]:
    """A line where scans that count as patients of their own look like several scans of one."""
    roles = {scan.patient: [role] for role, of_role in scans.items() for scan in of_role}
    suspects = suspect_patients(roles)
    return [f"WARNING: {describe_suspects(suspects, roles)[0]}"] if suspects else []


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    if args.name in PREPARATIONS:
        prepare_published(args)
    else:
        prepare_custom(args)


if __name__ == "__main__":
    main()
