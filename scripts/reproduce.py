#!/usr/bin/env python3
"""The papers' tables as one command: trains and tests the rows that are missing, then writes the tables.

    python scripts/reproduce.py spc-acdc --dry-run                      # what would run, and how long if that is known
    python scripts/reproduce.py spc-acdc                                # MT and BCP, 5 % and 10 %
    python scripts/reproduce.py spc-synapse ducisc-la --seeds 3         # three seeds: mean ± deviation over runs
    python scripts/reproduce.py spc-acdc --gpus 4                       # four rows at a time on this machine's GPUs
    python scripts/reproduce.py spc-acdc --launcher slurm --gpus 4 --slurm slurm_partition=gpu
    python scripts/reproduce.py spc-acdc --smoke                        # every row at a tiny size, on phantoms
    python scripts/reproduce.py acdc-small --seeds 3 --report results   # real ACDC at a size that a CPU can train
    python scripts/reproduce.py acdc-small --only Ours_MT_5 --check results/acdc_small.json   # after a change
    python scripts/reproduce.py --verify runs/ACDC/Ours_MT_5/seed_1337  # verify the table

Each row is the train script's own command, then the test script's; the rows are declared in scripts/rows.py. What is
done is read from the runs' folders, so rerun the same command to resume after an interruption. Exit code 1 if a
row failed, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts run from anywhere

from dataloaders.files import InputError, write_text
from dataloaders.registry import find_root, get_dataset
from scripts.evidence import check, collect, read_record, write_report
from scripts.jobs import Job, card
from scripts.launchers import run_cluster, run_local
from scripts.make_phantom import KIND, make_phantom
from scripts.make_tables import SUFFIXES, render
from scripts.rows import SMOKE_FLAGS, SMOKE_PHANTOMS, TARGETS
from utils.cli import Parser, new_folder, not_negative, one_line_errors, seed_number, whole
from utils.reports.settings import Setting, find_settings
from utils.reports.tables import as_text, make_blocks
from utils.reports.verification import verify_run
from utils.runs.device import describe_device, pick_device
from utils.runs.lock import hold

SEEDS = (1337, 1, 2, 3, 4, 5, 6, 7, 8, 9)
seed_count = whole(1, len(SEEDS))


def seed_list(text: str) -> list[int]:
    """An argparse type: a number of seeds, or seeds with commas."""
    if "," in text:
        return list(dict.fromkeys(seed_number(part) for part in text.rstrip(",").split(",")))
    return list(SEEDS[: seed_count(text)])


def key_value(text: str) -> tuple[str, object]:
    """An argparse type: KEY=VALUE, the value a whole number where it looks like one."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text}")
    return key, int(value) if value.isdigit() else value


def parse_args(argv=None):
    parser = Parser(description=__doc__, epilog="targets: " + ", ".join(TARGETS))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="tables to make, see below (default: none)")
    parser.add_argument(
        "--seeds",
        type=seed_list,
        default=[SEEDS[0]],
        metavar="N",
        help=f"a number of seeds, taken from {', '.join(map(str, SEEDS[:4]))}, ..., or the seeds themselves with "
        "commas, one as `7,` (default: 1, the seed 1337)",
    )
    parser.add_argument(
        "--output_dir", type=new_folder, help="parent of the runs' folders (default: runs, with --smoke smoke)"
    )
    parser.add_argument(
        "--dry-run",
        "--dry_run",
        action="store_true",
        help="print states, commands and estimated hours, run nothing (default: off)",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few iterations of every row at a small size on phantoms (default: off)"
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="this machine, or a Slurm cluster through submitit (default: %(default)s)",
    )
    parser.add_argument(
        "--gpus",
        type=not_negative,
        metavar="K",
        help="rows at a time, a GPU each; 0: local one row at a time on the device that the train scripts pick, slurm "
        "all rows at once without a GPU (default: local 0, slurm 1)",
    )
    parser.add_argument(
        "--slurm",
        type=key_value,
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="parameters of submitit's executor: slurm_partition=gpu, timeout_min=2880 (default: 1440 minutes, 4 CPUs)",
    )
    parser.add_argument(
        "--accept_code_change",
        action="store_true",
        help="resume trainings although the code has changed since they were started (default: such a row fails)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SETTING",
        help="only these settings of the targets, by their folders' names, e.g. Ours_MT_5_baseline (default: all)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="also write a page with table, curves and commands, and a record of aggregate numbers (default: none)",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="RECORD",
        help="compare each mean Dice with a record of --report; exit code 1 if one lies outside the 95 %% prediction "
        "interval of the recorded seeds (default: none)",
    )
    parser.add_argument(
        "--verify",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="test the weights of these runs' folders again, elsewhere, and compare (default: none)",
    )
    args, given = parser.parse_args(argv), parser.given(argv)
    unknown = [target for target in args.targets if target not in TARGETS]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}: choose from {', '.join(TARGETS)}")
    if bool(args.targets) == bool(args.verify):
        parser.error("name tables to make, or runs to --verify")
    if args.report and (len(args.targets) != 1 or args.smoke or args.only):
        parser.error("--report is about one whole target, not about several, --smoke or --only")
    unused = [f"--{flag}" for flag in given if args.verify and flag not in ("targets", "verify")]
    if unused:
        parser.error(f"{' '.join(unused)}: not with --verify, which reads the runs' folders alone")
    if args.slurm and args.launcher != "slurm":
        parser.error("--slurm is for --launcher slurm")
    if args.gpus is None:
        args.gpus = 1 if args.launcher == "slurm" else 0
    args.output_dir = args.output_dir or ("smoke" if args.smoke else "runs")
    return args


def plan(args: argparse.Namespace) -> list[Job]:
    """The jobs of the targets, the first seed of every row first; a row that two targets share occurs once."""
    rows = list(dict.fromkeys(row for target in args.targets for row in TARGETS[target]))
    jobs = []
    for seed in args.seeds:
        for row in rows:
            extra, root = (), None
            if args.smoke:
                info = get_dataset(row.dataset)
                extra = tuple(f"{SMOKE_FLAGS[info.dims]} {SMOKE_FLAGS[row.script]}".split())
                root = str(Path(args.output_dir) / "phantoms" / info.folders[0])
            accepts = ("--accept_code_change",) if args.accept_code_change else ()
            jobs.append(Job(row, seed, str(Path(args.output_dir) / row.folder), (*extra, *accepts), root))
    if args.only:
        names = dict.fromkeys(job.folder.parent.name for job in jobs)
        unknown = [name for name in args.only if name not in names]
        if unknown:
            raise InputError(f"--only {' '.join(unknown)}: no such setting; there are {', '.join(names)}")
        jobs = [job for job in jobs if job.folder.parent.name in args.only]
    return jobs


def prepare_data(args: argparse.Namespace, jobs: list[Job]) -> None:
    """Make the phantoms of a smoke run; else raise InputError for data of these jobs that do not exist."""
    for name, root in dict.fromkeys((job.row.dataset, job.root_path) for job in jobs):
        if not args.smoke:
            find_root(get_dataset(name), root)
            continue
        home = Path(args.output_dir) / "phantoms"
        if not (home / get_dataset(name).folders[0] / "test.list").exists():  # what is written last
            train, val, test, shape = SMOKE_PHANTOMS[name]
            root = make_phantom(name, home, train=train, val=val, test=test, shape=shape)
            print(f"phantoms of {name} in {root}", flush=True)


def dry_run(jobs: list[Job]) -> int:
    """Print each job's state, commands and estimated hours on this machine's device, and their sum."""
    device = card(describe_device(pick_device(None)))
    total, unknown = 0.0, 0
    for job in jobs:
        hours = 0.0 if job.is_trained else job.hours_left(device)
        estimate = "not measured" if hours is None else f"{hours:.2f} h"
        print(f"# {job.name}: {job.state}; training left: {estimate}")
        for command in job.commands().values():
            print(f"python {shlex.join(command)}")
        unknown += hours is None
        total += hours or 0.0
    if unknown < len(jobs):
        print(f"# {len(jobs) - unknown} rows and seeds, one after the other: {total:.2f} h of training left")
    if unknown:
        print(f"# {unknown} rows and seeds: not measured, no run below {jobs[0].output_dir} did this on this device")
    print(f"# {device}")
    return 0


def run(args: argparse.Namespace, missing: list[Job]) -> dict[Job, str]:
    """Run these jobs; returns the failures, "interrupted" among them, and prints each end as it comes."""
    failures: dict[Job, str] = {}
    if args.launcher == "slurm":
        ends = run_cluster(missing, Path(args.output_dir) / "reproduce" / "slurm", args.gpus, dict(args.slurm))
    else:
        ends = run_local(missing, args.gpus)
    try:
        for job, outcome in ends:
            if outcome.failure:
                failures[job] = outcome.failure
            if outcome.failure != "interrupted":
                end = f"FAILED: {outcome.failure}" if outcome.failure else "trained and tested"
                print(f"{job.name}: {end} ({outcome.seconds:.0f} s)\n", end="", flush=True)
    except KeyboardInterrupt:  # jobs of a cluster continue without us
        print("the cluster's jobs continue (scancel ends them)")
        failures.update({job: "interrupted" for job in missing if not job.is_tested})
    return failures


def write_tables(args: argparse.Namespace, jobs: list[Job], failures: dict[Job, str]) -> list[str]:
    """The tables of these jobs' runs, printed and in all formats; settings without a test say why.

    Also what --report and --check ask for. Returns what had to be left out and what --check found to differ.
    """
    folders = [job.folder for job in jobs if job.is_tested]
    tested, faults = find_settings(folders) if folders else ([], [])
    settings = list(tested)
    known = {(setting.dataset, setting.name) for setting in settings}
    for job in jobs:
        name = job.folder.parent.name
        if (job.row.dataset, name) not in known:
            known.add((job.row.dataset, name))
            status = "failed" if job in failures else "not measured"
            row, kind = job.row, KIND if args.smoke else ""
            settings.append(Setting(name, row.dataset, job.method, row.labelnum, row.preset, status=status, kind=kind))
    blocks = make_blocks(settings, faults=faults)
    print("\n" + as_text(blocks))
    base = Path(args.output_dir) / "tables" / "_".join(args.targets)
    hold(base.parent, base.name)
    for format, suffix in SUFFIXES.items():
        write_text(base.with_suffix(suffix), render(blocks, format))
        print(f"{format}: {base.with_suffix(suffix)}")
    if args.report:
        for path in write_report(args.report, collect(args.targets[0], tested, jobs, blocks)):
            print(f"report: {path}")
    if args.check:
        for line, expected in check(read_record(args.check), tested):
            print(f"{'DIFFERS' if expected is False else 'as recorded' if expected else 'not compared'}: {line}")
            faults += [f"not as {args.check} has it: {line}"] if expected is False else []
    return faults


def verify(paths: Sequence[Path]) -> int:
    """Say of every test below these folders whether it is what its weights give; 1 if one is not."""
    wrong = 0
    for path in paths:
        for verdict in verify_run(path):
            wrong += bool(verdict.found)
            print(f"{verdict.folder}: {verdict.state}", flush=True)
            for line in (*verdict.found, *(f"not verifiable: {what}" for what in verdict.unverifiable)):
                print(f"    {line}")
    return 1 if wrong else 0


@one_line_errors
def main(argv=None):
    args = parse_args(argv)
    if args.verify:
        return verify(args.verify)
    jobs = plan(args)
    if args.dry_run:
        return dry_run(jobs)
    import utils.reports.report_page  # noqa: F401  a missing matplotlib or torchvision is reported before hours of training

    missing = [job for job in jobs if not (job.is_trained and job.is_tested)]
    prepare_data(args, missing)
    print(f"{len(jobs)} rows and seeds, {len(jobs) - len(missing)} of them already done", flush=True)
    failures = run(args, missing) if missing else {}
    if "interrupted" in failures.values():
        print("interrupted; rerun the same command to resume")
        return 130
    faults = write_tables(args, jobs, failures)
    for job, failure in failures.items():
        print(f"FAILED: {job.name}: {failure}\n    whole log: {job.log}")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if failures or faults else 0


if __name__ == "__main__":
    sys.exit(main())
