#!/usr/bin/env python3
"""Check a prepared dataset: every list, every file, and between them; a table, findings, and a page of thumbnails.

    python scripts/check_dataset.py --name ACDC
    python scripts/check_dataset.py --name LA --train_list my_train.list --out /tmp/la.html

Each finding names the file, what is wrong and the fix; a note needs none. Training, validation and test images are
compared by content, so that a copy under another name is found. Exit code 0: clean, 1: findings, 2: could not check.
"""

from __future__ import annotations

import itertools
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.checks.findings import all_findings, labelled_by_protocol
from dataloaders.checks.inspection import Facts, inspect, middle_two
from dataloaders.checks.lists import ROLES, CheckedList, Finding, read_lists
from dataloaders.files import InputError, write_text
from dataloaders.registry import DatasetInfo, case_of, find_root, get_dataset, slice_number
from utils.cli import Parser, add_name_flag, new_file, one_line_errors, worker_count
from utils.pictures import can_draw
from utils.reports.contact_sheet import Card, render_sheet, thumbnail
from utils.reports.results import format_table
from utils.runs.stopping import blocked_in_children, leave_interrupts_to_parent


def parse_args(argv=None):
    parser = Parser(description=__doc__)
    add_name_flag(parser, (2, 3), required=True)
    parser.add_argument("--root_path", help="folder of the dataset (default: its name under $DATASET_HOME)")
    for role in ROLES:
        parser.add_argument(f"--{role}_list", metavar="FILE", help=f"{role} list (default: the dataset's)")
    parser.add_argument(
        "--out", type=new_file, metavar="PAGE.html", help="the page (default: check_<dataset>.html in this folder)"
    )
    parser.add_argument(
        "--num_workers",
        type=worker_count,
        default=0,
        help="number of extra processes that read files (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    args.out = args.out or Path(f"check_{get_dataset(args.name, args.root_path).name}.html")
    if args.out.suffix != ".html":
        parser.error(f"--out {args.out}: the page's name must end with .html")
    if not args.out.absolute().parent.is_dir():
        parser.error(f"--out {args.out}: no folder {args.out.absolute().parent}, make it first")
    return args


def read_all(
    info: DatasetInfo, lists: Sequence[CheckedList], num_workers: int
) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """Read every file once and fill the lists' facts; returns the thumbnails of each (role, volume)."""
    places, jobs = [], []
    for checked in lists:
        drawn = set(checked.files)
        if checked.dims == 2:  # of a volume in slices, two
            drawn = {entries[index] for entries in checked.volumes().values() for index in middle_two(len(entries))}
        for entry, path in checked.files.items():
            places.append((checked, entry))
            jobs.append((path, info, checked.dims, checked.role != "train", entry in drawn))
    thumbnails: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    results = run_jobs(inspect, jobs, num_workers)
    progress = tqdm(results, "checking files", len(jobs), unit="file", leave=False, disable=None)
    for (checked, entry), facts in zip(places, progress):
        tiles = [
            (name or entry[len(checked.volume_of(entry)) + 1 :], thumbnail(*arrays)) for name, *arrays in facts.planes
        ]
        thumbnails.setdefault((checked.role, checked.volume_of(entry)), []).extend(tiles)
        checked.facts[entry] = facts._replace(planes=())
    return thumbnails


def run_jobs(function, jobs: Sequence[tuple], num_workers: int) -> Iterator[Facts]:
    """function(*job) of each job, in their order, one at a time."""
    if num_workers == 0:
        yield from itertools.starmap(function, jobs)
        return
    with ProcessPoolExecutor(num_workers, initializer=leave_interrupts_to_parent) as pool:
        with blocked_in_children():
            results = pool.map(function, *zip(*jobs), chunksize=4)
        yield from results


def summary_tables(info: DatasetInfo, lists: Sequence[CheckedList]) -> list[list[list[str]]]:
    """A row for each list, then what each --labelnum labels."""
    shares = [f"{label} %" for label in info.classes]
    header = ["list", "entries", "expected", "cases", "files read", "shape", "values", *shares, "spacing"]
    tables = [[header, *(list_row(info, checked) for checked in lists)]]
    if lists[0].role == "train" and info.protocols:
        tables.append(labelnum_rows(info, lists[0]))
    return tables


def list_row(info: DatasetInfo, checked: CheckedList) -> list[str]:
    """Counts of a list, the extent of its images, the voxels of each class in per cent."""
    read = [fact for fact in checked.facts.values() if fact.shape]
    ranges = [(fact.low, fact.high) for fact in read if fact.low is not None]
    known = sum(fact.spacing is not None for fact in read)
    return [
        f"{checked.role}: {checked.path.name}",
        str(checked.lines),
        str(info.expected.get(checked.role, "-")),
        str(len(set(map(case_of, checked.entries)))),
        f"{len(read)} {'slices' if checked.dims == 2 else 'volumes'}",
        shape_range(fact.shape for fact in read),
        f"{min(low for low, _ in ranges):.3g} .. {max(high for _, high in ranges):.3g}" if ranges else "-",
        *(class_shares(read) or ["-"] * len(info.classes)),
        f"in {known} files" if known else "not known",
    ]


def class_shares(facts: Iterable[Facts]) -> list[str]:
    """The voxels of each foreground class in per cent of those files that have a label; empty where none has."""
    labelled = [fact for fact in facts if fact.voxels is not None and fact.shape]
    size = sum(math.prod(fact.shape) for fact in labelled)
    return [f"{100 * sum(column) / size:.2f}" for column in zip(*(fact.voxels for fact in labelled))]


def labelnum_rows(info: DatasetInfo, train: CheckedList) -> list[list[str]]:
    """--labelnum, the cases that it labels in this list and, in 2-D, their slices next to the published number."""
    rows = [["--labelnum", "labelled cases", "slices", "published"]]
    for labelnum, cases in labelled_by_protocol(info, train).items():
        counts = ["-", "-"]  # the list does not have them
        if not isinstance(cases, str):
            counts = [str(len(cases)), str(sum(case_of(entry) in cases for entry in train.entries))]
        rows.append([f"{labelnum} {info.labelnum_unit}", *counts, str(info.labelled_slices.get(labelnum, "-"))])
    return rows if info.dims == 2 else [row[:2] for row in rows]


def shape_range(shapes: Iterable[tuple]) -> str:
    """The shortest and longest of each axis: 154-216 x 256 x 6-10."""
    axes = [sorted(set(axis)) for axis in zip(*shapes)]
    return " x ".join(str(axis[0]) if len(axis) == 1 else f"{axis[0]}-{axis[-1]}" for axis in axes) or "-"


def make_sections(info: DatasetInfo, lists, findings: Sequence[Finding], thumbnails) -> list[tuple[str, list[Card]]]:
    """For each list its heading and its cases' cards."""
    sections = []
    for checked in lists:
        cards = []
        for volume, entries in checked.volumes().items():
            facts = [checked.facts[entry] for entry in entries if entry in checked.facts]
            extent = shape_range(fact.shape for fact in facts if fact.shape)
            shares = [f"{label} {share} %" for label, share in zip(info.classes, class_shares(facts))]
            text = f"{len(facts)} slices, " if checked.dims == 2 else ""
            text += f"{extent}; {', '.join(shares) or 'no label'}"
            concerning = [f for f in findings if (checked.role, volume) in f.volumes and not f.note]
            found = [f"{Path(f.where).name}: {f.what}" for f in concerning]
            pictures = sorted(thumbnails.get((checked.role, volume), []), key=lambda one: slice_number(f"_{one[0]}"))
            cards.append(Card(volume, text, pictures, found))
        sections.append((f"{checked.role}: {checked.path.name}, {len(cards)} volumes", cards))
    return sections


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    if not can_draw():
        raise InputError(
            "the page of thumbnails needs torchvision, made for this torch: pip install -r requirements.txt"
        )
    info = get_dataset(args.name, args.root_path)
    root = find_root(info, args.root_path)
    lists, findings = read_lists(info, root, {role: getattr(args, f"{role}_list") for role in ROLES})
    thumbnails = read_all(info, lists, args.num_workers)
    findings += all_findings(info, root, lists)
    findings.sort(key=lambda finding: not finding.note)  # notes first, findings where the eye ends

    tables = summary_tables(info, lists)
    lines = [str(finding) for finding in findings]
    number = sum(not finding.note for finding in findings)
    files = sum(len(checked.facts) for checked in lists)
    verdict = f"{number} finding{'s' if number > 1 else ''}" if number else "clean"
    print(f"{info.name} in {root}\n", *(format_table(rows) + "\n" for rows in tables), *lines, sep="\n")
    lines = [*lines[len(lines) - number :], *lines[: len(lines) - number]]  # a page is read from its top
    page = render_sheet(
        f"{info.name}: {verdict}", info.classes, tables, lines, make_sections(info, lists, findings, thumbnails)
    )
    write_text(args.out, page)
    print(f"{verdict}: {files} files of {len(lists)} lists; page: {args.out}")
    return 1 if number else 0


if __name__ == "__main__":
    sys.exit(main())
