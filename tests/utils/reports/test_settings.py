import json

import numpy as np
import pytest

import train_Ours_MT
from dataloaders.files import InputError
from dataloaders.reading import file_hash
from utils.reports.results import means, read_results
from utils.reports.runs import describe_run, disagreement
from utils.reports.settings import compare, find_settings, pairs
from utils.reports.statistics import paired_difference


def test_seeds_are_one_setting_and_their_cases_are_averaged(tested_run):
    runs = [tested_run("Ours_MT_5", seed) for seed in (1, 2)]
    (setting,), faults = find_settings([runs[0].parent, runs[0], runs[1]])  # named twice, read once
    assert not faults and list(setting.tests) == ["best", "last"]
    assert [run.seed for run in setting.runs] == ["seed_1", "seed_2"] and setting.split == ("patient001",)
    tables = [read_results(run / "test_best").tables["dice"] for run in runs]
    assert np.allclose(setting.seed_mean("best")[1]["dice"], (tables[0] + tables[1]) / 2)
    over_cases = setting.over_cases("best")["metrics"]["dice"]
    mean_table = (tables[0] + tables[1]) / 2
    assert over_cases["mean"] == pytest.approx(mean_table.mean())
    assert over_cases["std_over_cases"] == pytest.approx(np.std(mean_table.mean(axis=1), ddof=1))
    low, high = over_cases["interval"]
    assert low < over_cases["mean"] < high


def miss(run, cases):
    """Make a test's result one that misses the class Myo in its first `cases` cases."""
    folder = run / "test_best"
    path, summary = folder / "per_case.csv", json.loads((folder / "summary.json").read_text())
    lines = path.read_text().splitlines()
    for number in range(cases):
        parts = lines[2 + 3 * number].split(",")
        lines[2 + 3 * number] = ",".join([*parts[:2], "0.0", "0.0", "", "", "1", "0"])
    path.write_text("\n".join(lines) + "\n")
    for name, table in read_results(folder).tables.items():
        summary["metrics"][name] = means(table, summary["classes"])
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary["metrics"]


def test_there_is_one_mean_of_a_distance_where_seeds_miss_a_class(tested_run):
    """Over cases, then classes, then seeds: the mean over seeds of what each test shows, not of cases' means."""
    runs = [tested_run("Ours_MT_5", seed) for seed in (1, 2)]
    shown = [miss(run, cases) for run, cases in zip(runs, (9, 1))]
    (setting,), _ = find_settings([runs[0].parent])
    over_cases = setting.over_cases("best")["metrics"]
    for name in ("dice", "hd95", "asd"):
        assert over_cases[name]["mean"] == pytest.approx(np.mean([metrics[name]["mean"] for metrics in shown]))
        by_class = [metrics[name]["by_class"]["Myo"]["mean"] for metrics in shown]
        assert over_cases[name]["by_class"]["Myo"]["mean"] == pytest.approx(np.mean(by_class))
    other_order = means(setting.seed_mean("best")[1]["hd95"], ("RV", "Myo", "LV"))["mean"]
    assert over_cases["hd95"]["mean"] != pytest.approx(other_order)  # so the data distinguishes the orders


def test_seeds_trained_with_other_flags_are_left_out_and_the_rest_is_read(tested_run):
    tested_run("Ours_MT_5", 1)
    run = tested_run("Ours_MT_5", 2, max_iterations=900)
    with pytest.raises(InputError, match="seed_2: trained with --max_iterations 900, but .*seed_1 with 4"):
        find_settings([run.parent])
    tested_run("Ours_BCP_5", 1, method="Ours_BCP")
    (setting,), (fault,) = find_settings([run.parent.parent])
    assert setting.name == "Ours_BCP_5" and "Ours_MT_5/seed_2: trained with --max_iterations 900" in fault


@pytest.mark.parametrize("value, same", [(0.99, True), (0.9, False)])
def test_a_flag_that_an_older_run_lacks_has_its_default(tested_run, value, same):
    tested_run("Ours_MT_5", 1)
    run = tested_run("Ours_MT_5", 2, ema_decay=value)
    assert train_Ours_MT.parse_args([]).ema_decay == 0.99
    assert ("--ema_decay" not in disagreement([describe_run(run.parent / f"seed_{n}") for n in (1, 2)])) == same


@pytest.mark.parametrize(
    "file, text",
    [
        ("test_best/summary.json", '{"empty_predictions": 0}'),
        ("test_best/summary.json", "[]"),
        ("test_best/per_case.csv", ""),
        ("config.json", '{"flags": {"seed": 1}}'),
        ("config.json", "{"),
        ("config.json", "[]"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_the_rest_is_read(tested_run, file, text):
    run = tested_run("Ours_MT_5", 1)
    tested_run("Ours_MT_5", 2)
    (run / file).write_text(text)
    (setting,), (fault,) = find_settings([run.parent])
    assert str(run / file) in fault and "\n" not in fault
    assert [result.folder.parent.name for result in setting.tests["best"]] == ["seed_2"]


def test_tests_by_other_rules_are_other_settings(tested_run):
    tested_run("Ours_MT_5", 1)
    tested_run("Ours_MT_5", 2, unit="mm")
    run = tested_run("Ours_MT_5", 3, about={"hd95": "max"})
    tested_run("Ours_MT_5", 4, about={"hd95": "pooled"})  # as the first, which does not say it
    assert [len(setting.runs) for setting in find_settings([run.parent])[0]] == [2, 1, 1]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no test_\\*/summary.json at or below"):
        find_settings([tmp_path])
    with pytest.raises(InputError, match="nothing: no such folder"):
        find_settings([tmp_path / "nothing"])


def edit(folder, **values):
    """Change flags of the run in `folder`, or, where it is none of them, its network."""
    path = folder / "seed_1" / "config.json"
    config = json.loads(path.read_text())
    config["network"] = values.pop("network", None)
    path.write_text(json.dumps({**config, "flags": {**config["flags"], **values}}))


def test_a_test_of_unfinished_weights_is_noted(tested_run):
    run = tested_run("Ours_MT_5", last=3)
    (run / "last.pth").write_bytes(b"weights of iteration 3")
    (run / "best.pth").touch()
    summary = run / "test_last" / "summary.json"
    stored = {**json.loads(summary.read_text()), "weights_sha256": file_hash(run / "last.pth")}
    summary.write_text(json.dumps(stored))
    assert find_settings([run])[0][0].unfinished == ["Ours_MT_5 seed_1: NOT FINISHED, iteration 3 of 4"]
    (run / "last.pth").write_bytes(b"weights of iteration 4")
    (note,) = find_settings([run])[0][0].unfinished
    assert note.startswith("Ours_MT_5 seed_1: TESTED TOO EARLY, at iteration 3; its weights have changed since")
    assert find_settings([tested_run("Ours_MT_5", 2)])[0][0].unfinished == []


def test_full_methods_are_compared_and_presets_with_their_own(tested_run):
    names = ["Ours_BCP_5", "Ours_MT_5", "Ours_MT_5_baseline", "Ours_MT_5_no-contrast"]
    folders = [tested_run(name, method=name.split("_5")[0]).parent for name in names]
    settings, _ = find_settings(folders)
    found = [(a.name, b.name) for a, b in pairs(settings)]
    assert found == [
        ("Ours_MT_5", "Ours_BCP_5"),
        ("Ours_MT_5_baseline", "Ours_MT_5"),
        ("Ours_MT_5_no-contrast", "Ours_MT_5"),
    ]
    assert [(a.name, b.name) for a, b in pairs(settings[2:])] == [("Ours_MT_5_no-contrast", "Ours_MT_5_baseline")]
    variant = tested_run("Ours_MT_5_variant").parent  # --exp variant comes first, yet is not the full method
    edit(variant, preset=None, exp="variant")
    of_variant = [(a.name, b.name) for a, b in pairs(find_settings([variant, *folders])[0])]
    assert ("Ours_MT_5_baseline", "Ours_MT_5") in of_variant
    edit(folders[2], network="tiny")  # a preset with another network than its full method
    assert [a.name for a, _ in pairs(find_settings(folders)[0])] == ["Ours_MT_5", "Ours_MT_5_no-contrast"]
    config = folders[0] / "seed_1" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "labelled_cases": ["patient002"]}))
    assert ("Ours_MT_5", "Ours_BCP_5") not in [(a.name, b.name) for a, b in pairs(find_settings(folders)[0])]


def test_differences_are_paired_over_classes_then_patients(tested_run):
    good, bad = tested_run("Ours_MT_5"), tested_run("Ours_BCP_5", offset=3, method="Ours_BCP")
    (a, b), _ = find_settings([good, bad])
    comparison = next(iter(compare(a, b)))
    tables = [read_results(run / "test_best").tables["dice"] for run in (good, bad)]
    by_hand = (tables[0] - tables[1]).mean(axis=1)
    patients = np.repeat(["101", "102", "103", "104", "105", "106"], 2)
    assert comparison.name == "Ours_MT_5 - Ours_BCP_5" and comparison.kind == "best"
    assert comparison.differences["dice"] == paired_difference(by_hand, patients)
    assert comparison.differences["dice"].count == 6 and comparison.differences["dice"].low > 0
    assert comparison.differences["asd"].mean < 0
