"""Tested runs, read back from their folders: the seeds of one setting together, settings that may be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

import numpy as np

from dataloaders.datasets import case_of, get_dataset
from dataloaders.errors import InputError
from utils.evaluation import defined_mean
from utils.reports import Results, means, read_results
from utils.run_folder import FREE_ON_RESUME, recorded_flags
from utils.runs import Run, describe_run
from utils.statistics import Difference, paired_difference

# What has to agree in two tests so that their numbers may stand in one table.
RULES = ("dataset", "test_list_sha256", "test_data_sha256", "unit", "empty_rule", "nms")


@dataclass
class Setting:
    """One method with its flags on one labelled part: its runs (seeds), and the tests of each kind of weights.

    A setting of which nothing is tested has no `runs`; `status` says why.
    """

    name: str  # the runs' folder: Ours_MT_5_baseline
    dataset: str
    method: Optional[str] = None
    labelnum: Optional[int] = None
    preset: Optional[str] = None
    runs: list[Run] = field(default_factory=list)
    tests: dict[str, list[Results]] = field(default_factory=dict)  # "best" -> one a seed
    status: str = ""

    @property
    def classes(self) -> Sequence[str]:
        """As the tests state them; of a setting without any the dataset's."""
        tests = next(iter(self.tests.values()), [])
        return tests[0].summary["classes"] if tests else get_dataset(self.dataset).classes

    @property
    def split(self) -> tuple:
        """The labelled cases; runs on other ones are not compared."""
        return tuple(self.runs[0].config.get("labelled_cases", ())) if self.runs else ()

    def seed_mean(self, kind: str) -> tuple[list[str], dict[str, np.ndarray]]:
        """The cases and, by metric, the table (cases, classes) averaged over the seeds, NaN where none is defined."""
        tests = self.tests[kind]
        names = tests[0].tables
        return tests[0].cases, {name: defined_mean(np.stack([test.tables[name] for test in tests])) for name in names}

    def over_cases(self, kind: str) -> dict:
        """A summary of the seeds' mean, its deviations over cases."""
        summary = self.tests[kind][0].summary
        _, tables = self.seed_mean(kind)
        empty = [sum(test.summary["empty_predictions"].values()) for test in self.tests[kind]]
        return {
            "classes": summary["classes"],
            "metrics": {name: means(table, summary["classes"]) for name, table in tables.items()},
            "empty_predictions": {"all": sum(empty)},
        }


def find_settings(folders: Sequence[Path]) -> list[Setting]:
    """The settings of all tests at or below these folders, by their folders' names.

    Raises InputError where there is none, and for seeds of one folder that were trained with different flags.
    """
    found: dict[tuple, Setting] = {}
    seen = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        for path in sorted(folder.rglob("test_*/summary.json")):
            test, home = path.parent.resolve(), path.parent.parent
            run = None if test in seen or test.suffix in (".new", ".old") else describe_run(home)
            seen.add(test)
            if run is None:
                continue
            results = read_results(path.parent)
            where = run.folder.parent if run.seed else run.folder
            rules = tuple(results.summary.get(name) for name in RULES)
            setting = found.setdefault(
                (where.resolve(), *rules),
                Setting(run.group, results.summary["dataset"], run.method, run.labelnum, run.preset),
            )
            if run.path not in [other.path for other in setting.runs]:
                _same_training(setting.runs[0] if setting.runs else run, run)
                setting.runs.append(run)
            setting.tests.setdefault(path.parent.name[len("test_") :], []).append(results)
    if not found:
        raise InputError(
            f"{', '.join(map(str, folders))}: no test_*/summary.json at or below; test first: "
            "python test_2d.py --name ACDC --output_dir runs/ACDC"
        )
    return list(found.values())


def _same_training(first: Run, run: Run) -> None:
    pair = [other.config for other in (first, run)]
    names = {key for config in pair for key in config.get("flags", {})}
    flags = [recorded_flags(config, names) if "flags" in config else {} for config in pair]
    free = set(FREE_ON_RESUME) - {"max_iterations"} | {"seed", "root_path"}
    for key in sorted({*flags[0], *flags[1]} - free):
        if flags[0].get(key) != flags[1].get(key):
            raise InputError(
                f"{run.path}: trained with --{key} {flags[1].get(key)}, its sister {first.path} with "
                f"{flags[0].get(key)}: no seeds of one setting; move one away, or name the folders that belong together"
            )


class Comparison(NamedTuple):
    """One setting minus another on the same cases, with the same kind of weights."""

    name: str
    kind: str
    differences: dict[str, Difference]  # metric -> of the mean over classes


def pairs(settings: Sequence[Setting]) -> Iterator[tuple[Setting, Setting]]:
    """Which settings are compared: on one labelled part, full methods with each other, a preset with its full method.

    A preset whose full method is not there is compared with the first setting of its method.
    """
    tested = [setting for setting in settings if setting.runs]
    for index, setting in enumerate(tested):
        others = [other for other in tested[:index] + tested[index + 1 :] if other.split == setting.split]
        if setting.preset is None:
            yield from ((setting, other) for other in tested[:index] if other in others and other.preset is None)
            continue
        own = [other for other in others if other.method == setting.method]
        full = [other for other in own if other.preset is None]
        if full or (own and tested.index(own[0]) < index):
            yield setting, (full or own)[0]


def compare(a: Setting, b: Setting, metrics: Sequence[str] = ("dice", "asd")) -> Iterator[Comparison]:
    """a minus b for each kind of weights that both have, paired by case and class.

    Over the classes of a case, then over the frames of a patient, then over patients; a pair of which one distance is
    undefined is left out.
    """
    for kind in (kind for kind in a.tests if kind in b.tests):
        (cases, ours), (others, theirs) = a.seed_mean(kind), b.seed_mean(kind)
        if cases != others:
            raise InputError(f"{a.tests[kind][0].folder} and {b.tests[kind][0].folder}: their cases differ")
        patients = np.array([case_of(case) for case in cases])
        differences = {
            name: paired_difference(defined_mean(ours[name] - theirs[name], axis=1), patients) for name in metrics
        }
        yield Comparison(f"{a.name} - {b.name}", kind, differences)
