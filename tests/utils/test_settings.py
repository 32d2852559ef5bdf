import json

import numpy as np
import pytest

from dataloaders.errors import InputError
from utils.reports import read_results
from utils.settings import compare, find_settings, pairs
from utils.statistics import paired_difference


def test_seeds_are_one_setting_and_their_cases_are_averaged(tested_run):
    runs = [tested_run("Ours_MT_5", seed) for seed in (1, 2)]
    (setting,) = find_settings([runs[0].parent, runs[0], runs[1]])  # named twice, read once
    assert [run.seed for run in setting.runs] == ["seed_1", "seed_2"] and setting.split == ("patient001",)
    tables = [read_results(run / "test_best").tables["dice"] for run in runs]
    assert np.allclose(setting.seed_mean("best")[1]["dice"], (tables[0] + tables[1]) / 2)
    over_cases = setting.over_cases("best")["metrics"]["dice"]
    mean_table = (tables[0] + tables[1]) / 2
    assert over_cases["mean"] == pytest.approx(mean_table.mean())
    assert over_cases["std_over_cases"] == pytest.approx(np.std(mean_table.mean(axis=1), ddof=1))


def test_seeds_trained_with_other_flags_are_refused(tested_run):
    tested_run("Ours_MT_5", 1)
    run = tested_run("Ours_MT_5", 2, max_iterations=900)
    with pytest.raises(InputError, match="seed_2: trained with --max_iterations 900, its sister .*seed_1 with 4"):
        find_settings([run.parent])


def test_tests_by_other_rules_are_other_settings(tested_run):
    tested_run("Ours_MT_5", 1)
    run = tested_run("Ours_MT_5", 2, unit="mm")
    assert [len(setting.runs) for setting in find_settings([run.parent])] == [1, 1]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no test_\\*/summary.json at or below"):
        find_settings([tmp_path])
    with pytest.raises(InputError, match="nothing: no such folder"):
        find_settings([tmp_path / "nothing"])


def test_full_methods_are_compared_and_presets_with_their_own(tested_run):
    names = ["Ours_BCP_5", "Ours_MT_5", "Ours_MT_5_baseline", "Ours_MT_5_no-contrast"]
    folders = [tested_run(name, method=name.split("_5")[0]).parent for name in names]
    settings = find_settings(folders)
    found = [(a.name, b.name) for a, b in pairs(settings)]
    assert found == [
        ("Ours_MT_5", "Ours_BCP_5"),
        ("Ours_MT_5_baseline", "Ours_MT_5"),
        ("Ours_MT_5_no-contrast", "Ours_MT_5"),
    ]
    assert [(a.name, b.name) for a, b in pairs(settings[2:])] == [("Ours_MT_5_no-contrast", "Ours_MT_5_baseline")]
    config = folders[0] / "seed_1" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "labelled_cases": ["patient002"]}))
    assert ("Ours_MT_5", "Ours_BCP_5") not in [(a.name, b.name) for a, b in pairs(find_settings(folders))]


def test_differences_are_paired_over_classes_then_patients(tested_run):
    good, bad = tested_run("Ours_MT_5"), tested_run("Ours_BCP_5", offset=3, method="Ours_BCP")
    a, b = find_settings([good]) + find_settings([bad])
    comparison = next(iter(compare(a, b)))
    tables = [read_results(run / "test_best").tables["dice"] for run in (good, bad)]
    by_hand = (tables[0] - tables[1]).mean(axis=1)
    patients = np.repeat(["101", "102", "103"], 2)
    assert comparison.name == "Ours_MT_5 - Ours_BCP_5" and comparison.kind == "best"
    assert comparison.differences["dice"] == paired_difference(by_hand, patients)
    assert comparison.differences["dice"].count == 3 and comparison.differences["dice"].low > 0
    assert comparison.differences["asd"].mean < 0
