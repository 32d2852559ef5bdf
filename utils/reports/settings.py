"""Tested runs, read back from their folders: the seeds of one setting together, settings that may be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

import numpy as np

from dataloaders.files import InputError
from dataloaders.registry import case_of, get_dataset
from utils.evaluation.evaluate import defined_mean
from utils.evaluation.metrics import HD95
from utils.reports.results import Results, find_tests, means, over_runs, read_results
from utils.reports.runs import Run, describe_run, disagreement, unfinished, usual_network
from utils.reports.statistics import Difference, mean_interval, paired_difference

# What has to agree in two tests so that their numbers may stand in one table, and what a summary that lacks it means.
RULES = {"dataset": None, "test_list_sha256": None, "test_data_sha256": None, "unit": None, "empty_rule": None}
RULES.update(nms=None, hd95=HD95[0])


def rules_of(summary: dict) -> tuple:
    """The values of RULES."""
    return tuple(summary.get(name, default) for name, default in RULES.items())


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
    unfinished: list[str] = field(default_factory=list)  # a note for each run whose training has not ended
    kind: str = ""  # what the data are if they are not patients': "phantoms"

    @property
    def classes(self) -> Sequence[str]:
        """As the tests state them; of a setting without any the dataset's."""
        tests = next(iter(self.tests.values()), [])
        return tests[0].summary["classes"] if tests else get_dataset(self.dataset).classes

    @property
    def split(self) -> tuple:
        """The labelled cases; runs on other ones are not compared."""
        return tuple(self.runs[0].config.get("labelled_cases", ())) if self.runs else ()

    @property
    def network(self) -> Optional[str]:
        """By name; the method's own where the runs do not state it."""
        return (self.runs[0].config.get("network") or usual_network(self.runs[0].config)) if self.runs else None

    def seed_mean(self, kind: str) -> tuple[list[str], dict[str, np.ndarray]]:
        """The cases and, by metric, the table (cases, classes) averaged over the seeds, NaN where none is defined."""
        tests = self.tests[kind]
        names = tests[0].tables
        return tests[0].cases, {name: defined_mean(np.stack([test.tables[name] for test in tests])) for name in names}

    def over_cases(self, kind: str) -> dict:
        """A summary: the mean of the seeds' means, each over cases, then classes, with its bootstrap `interval`.

        The deviations are those over the cases, each case's score being the mean of its seeds'.
        """
        tests = self.tests[kind]
        cases, tables = self.seed_mean(kind)
        patients = np.array([case_of(case) for case in cases])
        metrics = {}
        for name, table in tables.items():
            entry, measured = means(table, self.classes), [test.summary["metrics"][name] for test in tests]
            entry["mean"] = over_runs(one["mean"] for one in measured)[0]
            for label, of_class in entry["by_class"].items():
                of_class["mean"] = over_runs(one["by_class"][label]["mean"] for one in measured)[0]
            entry["interval"] = mean_interval(np.stack([test.tables[name] for test in tests]), patients)
            metrics[name] = entry
        empty = [sum(test.summary["empty_predictions"].values()) for test in tests]
        return {"classes": self.classes, "metrics": metrics, "empty_predictions": {"all": sum(empty)}}


def find_settings(folders: Sequence[Path]) -> tuple[list[Setting], list[str]]:
    """The settings of all tests at or below these folders, by their folders' names, and what is left out of them.

    Left out, one line each: a test or a run that cannot be read, and a setting whose seeds were trained with
    different flags. Raises InputError where nothing is left.
    """
    found: dict[tuple, Setting] = {}
    faults: list[str] = []
    seen = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        for test in find_tests(folder):
            place = test.resolve()
            run = None if place in seen else describe_run(test.parent)
            seen.add(place)
            if run is None:
                continue
            try:
                if run.fault:
                    raise InputError(run.fault)
                results = read_results(test)
            except InputError as error:
                faults.append(str(error))
                continue
            setting = found.setdefault(
                (run.home.resolve(), *rules_of(results.summary)),
                Setting(run.group, results.summary["dataset"], run.method, run.labelnum, run.preset),
            )
            setting.kind = setting.kind or results.summary.get("kind") or run.config.get("kind") or ""
            if run.path not in [other.path for other in setting.runs]:
                setting.runs.append(run)
            setting.tests.setdefault(test.name[len("test_") :], []).append(results)
    for setting in found.values():
        tests = [(run, test) for run in setting.runs for test in setting.tests.get("last", ())]
        notes = (unfinished(run, test.summary) for run, test in tests if test.folder.parent == run.path)
        setting.unfinished = list(filter(None, notes))
        setting.tests = dict(sorted(setting.tests.items(), key=lambda item: (item[0] != "best", item[0] == "last")))
    reasons = {id(setting): disagreement(setting.runs) for setting in found.values()}
    faults = list(dict.fromkeys([*faults, *filter(None, reasons.values())]))
    settings = [setting for setting in found.values() if not reasons[id(setting)]]
    if faults and not settings:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    if not settings:
        raise InputError(
            f"{', '.join(map(str, folders))}: no test_*/summary.json at or below; test first: "
            "python test_2d.py --name ACDC --output_dir runs/ACDC"
        )
    return settings, faults


class Comparison(NamedTuple):
    """One setting minus another on the same cases, with the same kind of weights."""

    name: str
    kind: str
    differences: dict[str, Difference]  # metric -> of the mean over classes


def pairs(settings: Sequence[Setting]) -> Iterator[tuple[Setting, Setting]]:
    """Which settings are compared: on one labelled part, full methods with each other, a preset with its full method.

    A preset whose full method is not there is compared with the first setting of its method; settings of one method
    with different networks are compared only where neither is a preset's.
    """
    tested = [setting for setting in settings if setting.runs]
    for index, setting in enumerate(tested):
        others = [other for other in tested[:index] + tested[index + 1 :] if other.split == setting.split]
        if setting.preset is None:
            yield from ((setting, other) for other in tested[:index] if other in others and other.preset is None)
            continue
        own = [other for other in others if (other.method, other.network) == (setting.method, setting.network)]
        full = [other for other in own if other.preset is None]
        full = [other for other in full if not other.runs[0].config.get("flags", {}).get("exp")] or full
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
