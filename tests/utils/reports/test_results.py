import csv
import errno
import json
import os

import numpy as np
import pytest

from dataloaders.files import InputError, WriteError
from utils.evaluation.evaluate import CaseResult
from utils.evaluation.metrics import METRICS, Metric, case_metrics
from utils.reports.results import (
    footnotes,
    format_table,
    means,
    over_runs_row,
    published_row,
    published_rows,
    read_results,
    selection_notes,
    summarise,
    table_header,
    table_row,
    unpublished_note,
    write_results,
)

CLASSES = ("RV", "Myo", "LV")
ABOUT = {"dataset": "ACDC", "run": "a best", "unit": "voxel", "nms": False, "iteration": 3}


def result(name, pred, label):
    values = case_metrics(pred, label, 4)
    empties = ([not (array == index).any() for index in (1, 2, 3)] for array in (pred, label))
    return CaseResult(name, values, *map(np.array, empties), 10.0)


@pytest.fixture
def results():
    label = np.zeros((1, 8, 8), np.uint8)
    label[0, :4, :4], label[0, 4:, 4:] = 1, 3  # no class 2
    missed = np.where(label == 3, 0, label).astype(np.uint8)  # misses class 3
    added = label.copy()
    added[0, 0, 7] = 2  # has a class that is not there
    return [result("a", label, label), result("b", missed, label), result("c", added, label)]


def test_empty_masks_are_left_out_counted_and_penalised_apart(results):
    summary = summarise(results, CLASSES)
    dice, asd = (summary["metrics"][name] for name in ("dice", "asd"))
    assert [dice["by_class"][label]["mean"] for label in CLASSES] == pytest.approx([1, 2 / 3, 2 / 3])
    assert dice["mean"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert dice["by_class"]["LV"]["std_over_cases"] == pytest.approx(np.std([1, 0, 1], ddof=1))
    assert asd["mean"] == 0 and asd["by_class"]["Myo"]["mean"] is None
    assert summary["empty_predictions"] == {"RV": 0, "Myo": 0, "LV": 1}
    assert summary["predictions_of_absent_classes"] == {"RV": 0, "Myo": 1, "LV": 0}
    # RV 0; Myo: both empty left out, one case 10; LV: 0, 10, 0
    assert asd["mean_with_penalty"] == pytest.approx((0 + 10 + 10 / 3) / 3)


def test_the_releases_rule_scores_them_zero(results):
    summary = summarise(results, CLASSES, empty="release")
    assert summary["metrics"]["asd"]["by_class"]["Myo"]["mean"] == 0
    assert "mean_with_penalty" not in summary["metrics"]["asd"]


def test_one_case_has_no_deviation(results):
    summary = summarise(results[:1], CLASSES)
    assert summary["metrics"]["dice"]["std_over_cases"] is None
    assert table_row("a", summary)[1] == "100.00"


def test_files_are_replaced_whole_or_not_at_all(results, tmp_path):
    folder = tmp_path / "test_best"
    pred = np.ones((1, 8, 8), np.uint8)
    summary = write_results(folder, ((result, pred) for result in results), CLASSES, "ours", {"weights": "best.pth"})
    assert json.loads((folder / "summary.json").read_text()) == summary and summary["weights"] == "best.pth"
    with open(folder / "per_case.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["class"]) for row in rows[:4]] == [("a", "RV"), ("a", "Myo"), ("a", "LV"), ("b", "RV")]
    assert rows[5]["dice"] == "0.0" and rows[5]["asd"] == "" and rows[5]["prediction_empty"] == "1"
    (folder / "mine.txt").write_text("from the first test")

    def broken():
        yield results[0], pred
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_results(folder, broken(), CLASSES, "ours", {})
    assert (folder / "mine.txt").exists() and len(list((folder / "predictions").iterdir())) == 3
    write_results(folder, [(results[0], pred)], CLASSES, "ours", {})
    assert sorted(path.name for path in folder.iterdir()) == ["per_case.csv", "predictions", "summary.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["test_best"]


@pytest.mark.parametrize("file", ["a.h5", "summary.json", "per_case.csv"])
def test_a_full_disk_is_one_line_and_keeps_the_old_test(results, tmp_path, monkeypatch, file):
    folder, pred = tmp_path / "test_best", np.ones((1, 8, 8), np.uint8)
    write_results(folder, [(results[0], pred)], CLASSES, "ours", {})
    before = (folder / "summary.json").read_bytes()
    replace = os.replace

    def full(source, target):
        if target.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("dataloaders.files.os.replace", full)
    with pytest.raises(WriteError, match=f"{file}: cannot be written .No space left on device.; make room"):
        write_results(folder, [(results[0], pred)], CLASSES, "ours", {"note": "new"})
    assert (folder / "summary.json").read_bytes() == before


def test_a_test_stays_readable_when_a_metric_is_added_or_removed(results, tmp_path, monkeypatch):
    write_results(tmp_path / "test_best", [(results[0], np.ones((1, 8, 8), np.uint8))], CLASSES, "ours", ABOUT)
    before = read_results(tmp_path / "test_best")
    with monkeypatch.context() as patch:
        patch.setitem(METRICS, "sensitivity", Metric("Sensitivity %"))
        added = read_results(tmp_path / "test_best")
        assert added.summary["metrics"]["sensitivity"]["mean"] is None
        assert added.tables["sensitivity"].shape == before.tables["dice"].shape
        assert np.isnan(added.tables["sensitivity"]).all()
    summary = json.loads((tmp_path / "test_best" / "summary.json").read_text())
    summary["metrics"]["specificity"] = summary["metrics"]["dice"]
    (tmp_path / "test_best" / "summary.json").write_text(json.dumps(summary))
    removed = read_results(tmp_path / "test_best")
    assert removed.summary == before.summary and removed.tables.keys() == before.tables.keys()
    whole = (tmp_path / "test_best" / "per_case.csv").read_text()
    (tmp_path / "test_best" / "per_case.csv").write_text(whole.replace("asd", "other", 1))
    with pytest.raises(InputError, match="per_case.csv: not a test's result, test the run again .no 'asd'"):
        read_results(tmp_path / "test_best")
    del summary["metrics"]["asd"]
    (tmp_path / "test_best" / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="'metrics' has dice, jaccard, hd95, specificity, not all of asd, dice"):
        read_results(tmp_path / "test_best")


def test_class_columns_say_that_they_are_dice_where_its_column_is_left_out():
    assert table_header(CLASSES, "voxel", ("dice", "classes"))[-1] == "LV %"
    assert table_header(CLASSES, "voxel", ("asd", "classes"))[1:] == [
        "ASD (voxel)",
        "RV DSC %",
        "Myo DSC %",
        "LV DSC %",
    ]


def test_settings_of_a_protocol_without_a_published_row_are_named_each():
    settings = dict.fromkeys(("DuCiSC_5", "DuCiSC_5_wide"), ("DuCiSC", 5, None))
    settings.update({"DuCiSC_3cases": ("DuCiSC", None, None), "Ours_MT_5": ("Ours_MT", 5, None)})
    published = published_rows("ACDC", settings.values())
    assert unpublished_note(settings, published) == ["no published value for DuCiSC_5, DuCiSC_5_wide"]
    assert unpublished_note({"Ours_MT_5": settings["Ours_MT_5"]}, published) == []


def test_published_rows_name_the_classes_by_value(root):
    (row,) = [row for row in published_rows("ACDC", [("Ours_MT", 5, None)]) if row["method"] == "Ours_MT"]
    assert row["by_class"] == {"RV": 85.60, "Myo": 84.90, "LV": 91.42} and "2507.20729" in row["source"]
    assert published_row(row, CLASSES) == [
        "published: SPC (MT), 5 %",
        "87.31",
        "-",
        "-",
        "1.10",
        "85.60",
        "84.90",
        "91.42",
        "-",
    ]
    assert published_rows("ACDC", [("Ours_MT", 7, None)]) == [] == published_rows("ACDC", [(None, None, None)])
    rows = json.loads((root / "results/published.json").read_text())["rows"]
    assert len([row for row in rows if "by_class" in row]) == 8
    for row in rows:
        assert (
            row["source"]
            and "by_class" not in row
            or row["dice"] == pytest.approx(np.mean(list(row["by_class"].values())), abs=0.1)
        ), row


def test_table_and_spread_over_runs(results):
    summaries = [summarise(results[:2], CLASSES), summarise(results[:1], CLASSES)]
    row = over_runs_row("two seeds", summaries)
    dice = [summary["metrics"]["dice"]["mean"] * 100 for summary in summaries]
    assert row[1] == f"{np.mean(dice):.2f} ± {np.std(dice, ddof=1):.2f}"
    text = format_table([table_header(CLASSES, "mm"), table_row("a run", summaries[0]), row])
    assert "95HD (mm)" in text and "RV %" in text and len(text.splitlines()) == 4


def test_an_ablation_has_its_own_published_row_beside_the_full_method_s():
    def named(*settings):
        return [row["name"] for row in published_rows("Synapse", settings)]

    assert named(("Ours_MT", 10, "no-contrast")) == ["SPC (MT)", "SPC (MT), blending alone"]
    assert named(("Ours_MT", 10, None), ("Ours_BCP", 10, "no-contrast")) == ["SPC (MT)", "SPC (BCP)"]


def test_what_was_written_is_read_back(results, tmp_path):
    pred = np.ones((1, 8, 8), np.uint8)
    for empty, distance in (("ours", np.nan), ("release", 0.0)):
        summary = write_results(tmp_path / "t", ((result, pred) for result in results), CLASSES, empty, ABOUT)
        read = read_results(tmp_path / "t")
        assert read.summary == summary and read.cases == ["a", "b", "c"]
        assert read.tables["dice"][1].tolist() == [1, 1, 0]
        assert np.array_equal(read.tables["asd"][1, 2], distance, equal_nan=True)
        assert means(read.tables["asd"], CLASSES)["mean"] == summary["metrics"]["asd"]["mean"]
    path = tmp_path / "t" / "per_case.csv"
    for damage in (lambda text: text.replace("b,Myo", "b,LV"), lambda text: text.replace("0.0", "x"), lambda text: ""):
        whole = path.read_text()
        path.write_text(damage(whole))
        with pytest.raises(InputError, match="per_case.csv: not a test's result"):
            read_results(tmp_path / "t")
        path.write_text(whole)


def change(summary, path, value):
    """The summary with the entry at this path changed, or taken out for ... ."""
    first, *rest = path
    changed = change(summary[first], rest, value) if rest else value
    kept = {key: old for key, old in summary.items() if key != first}
    return kept if changed is ... else {**kept, first: changed}


@pytest.mark.parametrize(
    "path, value",
    [
        (["empty_predictions"], 0),
        (["empty_predictions", "RV"], "none"),
        (["empty_predictions", "RV"], ...),
        (["predictions_of_absent_classes"], []),
        (["metrics"], None),
        (["metrics", "asd"], ...),
        (["metrics", "dice", "mean"], "0.9"),
        (["metrics", "dice", "mean"], ...),
        (["metrics", "dice", "by_class"], {}),
        (["metrics", "dice", "by_class", "RV", "std_over_cases"], True),
        (["classes"], "RV"),
        (["classes"], ["RV"]),
        (["cases"], 4),
        (["run"], ...),
        (["unit"], None),
        (["nms"], "off"),
        (["empty_rule"], "mine"),
        (["iteration"], "300"),
        (["iteration"], ...),
        (["val_dice"], "0.5"),
        (["selection"], 1),
        (["note"], {}),
        (["kind"], []),
        (["hd95"], "mean"),
        (["flags"], 3),
    ],
)
def test_a_summary_that_is_not_one_is_one_line(results, tmp_path, path, value):
    pred = np.ones((1, 8, 8), np.uint8)
    write_results(tmp_path / "t", ((result, pred) for result in results), CLASSES, "ours", ABOUT)
    file = tmp_path / "t" / "summary.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()), path, value)))
    with pytest.raises(InputError, match="not a test's result, test the run again") as error:
        read_results(tmp_path / "t")
    assert "\n" not in str(error.value)


def test_several_rules_of_selection_name_their_rows(results):
    def tested(run, rule, **more):
        return {**summarise(results, CLASSES), "dataset": "ACDC", "nms": False, "run": run, "selection": rule, **more}

    runs = [("a", "x"), ("a seed_1", "x"), ("a seed_2", "x"), ("b seed_1", "y"), ("c seed_1", "x"), ("c seed_2", "y")]
    summaries = [tested(f"{run} {kind}", rule) for run, rule in runs for kind in ("best", "last")]
    notes = [note.split("; last")[0] for note in selection_notes(summaries)]
    assert notes == ["a best, c seed_1 best: chosen by x", "b best, c seed_2 best: chosen by y"]
    assert selection_notes(summaries[:4])[0].startswith("best: chosen by x")
    unchosen = selection_notes([*summaries[:2], tested("d seed_1 best", "x", val_dice=None)])
    assert unchosen == [
        "a best: chosen by x; last: the end of training, not chosen",
        "d best: not chosen, a copy of the last weights: no validation was run",
    ]


def test_every_published_row_has_a_rule_of_selection(root):
    published = json.loads((root / "results/published.json").read_text())
    assert {row["selection"] for row in published["rows"]} == set(published["selections"])
    assert {rule["weights"] for rule in published["selections"].values()} == {"best", "last", "-"}
    rows = {row["name"]: row for row in published_rows("ACDC", [("Ours_MT", 5, None)])}
    assert rows["CrossMatch"]["weights"] == "last" and rows["SPC (MT)"]["weights"] == "best"
    assert published_row(rows["CrossMatch"], CLASSES, hd95="max")[1:5] == ["88.27", "80.17", "-", "0.46"]


def test_the_note_on_95hd_is_there_where_the_metric_is(results):
    summary = {**summarise(results, CLASSES), **ABOUT}
    for hd95, columns, wanted in (
        ("pooled", ("dice", "hd95"), "MedPy's; libraries"),
        ("max", ("dice", "hd95"), "95HD max: the larger"),
        ("pooled", ("dice", "asd"), None),
    ):
        notes = [note for note in footnotes([{**summary, "hd95": hd95}], columns=columns) if note.startswith("95HD")]
        assert len(notes) == bool(wanted) and (not wanted or wanted in notes[0])


def test_footnotes_name_rule_selection_and_penalty(results):
    about = {"dataset": "ACDC", "nms": False, "run": "a best", "selection": "mean Dice on val.list (2 volumes)"}
    notes = "\n".join(footnotes([{**summarise(results, CLASSES), **about}]))
    assert "1 RV, 2 Myo, 3 LV" in notes and "best: chosen by mean Dice on val.list" in notes
    assert "undefined and left out" in notes and "a best: with the volume's diagonal" in notes
    assert "0, as in the releases" in footnotes([{**summarise(results, CLASSES, "release"), **about}])[1]


def test_the_best_of_a_run_that_was_never_validated_was_not_chosen(results):
    about = {"dataset": "ACDC", "nms": False, "run": "a best", "selection": "mean Dice on val.list", "val_dice": None}
    notes = "\n".join(footnotes([{**summarise(results, CLASSES), **about}]))
    assert "a best: not chosen, a copy of the last weights: no validation was run" in notes and "chosen by" not in notes


@pytest.mark.parametrize("cases, marked", [(40, False), (39, True)])
def test_another_number_of_cases_than_the_published_lists_is_marked(results, cases, marked):
    """Pancreas-CT as it is downloaded today lacks a test case, for example."""
    about = {"run": "r best", "dataset": "ACDC", "nms": False, "unit": "voxel", "cases": cases}
    note = footnotes([{**summarise(results, CLASSES), **about}])[0]
    assert (f"ACDC, {cases} test volumes, not the 40 of the published list; mean" in note) == marked
    assert f"ACDC, {cases} test volumes" in note
