import csv
import io
import re

import pytest

from utils.reports.settings import Setting, find_settings
from utils.reports.tables import Shown, as_csv, as_latex, as_markdown, as_text, make_blocks


def absent(dataset, name, method, labelnum, status="not measured"):
    return Setting(name, dataset, method, labelnum, status=status)


def test_settings_without_a_run_stand_beside_what_is_published():
    (block,) = make_blocks(
        [absent("ACDC", "Ours_MT_5", "Ours_MT", 5), absent("ACDC", "DuCiSC_5", "DuCiSC", 5, "failed")]
    )
    text = as_markdown([block])
    assert "| Ours_MT_5 | - | 0 | not measured |" in text and "| DuCiSC_5 | - | 0 | failed |" in text
    assert "| published: SPC (MT), 5 % | best | - | 87.31 |" in text and "no published value for DuCiSC_5" in text
    assert len(block.tables) == 1 and "[1] no published value" in as_text([block])


def test_rows_go_by_label_number_and_each_published_row_is_shown_once():
    settings = [absent("Synapse", f"Ours_MT_{n}", "Ours_MT", n) for n in (10, 5)]
    settings.append(Setting("Ours_MT_10_no-contrast", "Synapse", "Ours_MT", 10, "no-contrast", status="not measured"))
    (block,) = make_blocks(settings)
    assert [row[0] for row in block.tables[0].rows[1:]] == [
        "Ours_MT_5",
        "published: SPC (MT), 5 %",
        "Ours_MT_10",
        "published: SPC (MT), 10 %",
        "Ours_MT_10_no-contrast",
        "published: SPC (MT), blending alone, 10 %",
    ]


def test_datasets_have_blocks_of_their_own_in_the_table_s_order():
    blocks = make_blocks([absent("LA", "DuCiSC_8", "DuCiSC", 8), absent("ACDC", "Ours_MT_5", "Ours_MT", 5)])
    assert [block.dataset for block in blocks] == ["ACDC", "LA"]


def test_wide_latex_tables_have_metrics_above_and_classes_below():
    text = as_latex(make_blocks([absent("Synapse", "Ours_MT_10", "Ours_MT", 10)]))
    heads = re.findall(r"\\toprule\n(.*?) \\\\\n", text)
    assert len(heads) == 2 and text.count(r"\begin{table}") == 1
    assert heads[0].split(" & ")[3:] == ["DSC \\%", "Jaccard \\%", "95HD (voxel)", "ASD (voxel)"]
    assert heads[1].split(" & ")[3:5] == ["Aorta \\%", "GB \\%"] and heads[1].endswith("empty")


FULL = {"patch": (256, 256), "batch_size": 24, "max_iterations": 30000}
SMALL = {"patch": (96, 96), "batch_size": 24, "max_iterations": 3000}


def names(block, table=0):
    return [row[0] for row in block.tables[table].rows[1:]]


def test_published_rows_are_next_to_our_rows_by_the_same_rule(tested_run):
    run = tested_run("Ours_MT_5", **FULL)
    (block,) = make_blocks(find_settings([run])[0])
    rows = block.tables[0].rows[1:]
    kinds = [row[1] for row in rows]
    assert rows[0][:2] == ["Ours_MT_5", "best"] and rows[1][:2] == ["published: SPC (MT), 5 %", "best"]
    last = kinds.index("last")
    assert rows[last][0] == "Ours_MT_5" and "last" not in kinds[:last] and set(kinds[last:]) == {"last"}
    assert [row[0] for row in rows[last + 1 :]] == ["published: CrossMatch, 5 %", "published: UniMatch, 5 %"]
    notes = "\n".join(block.notes)
    assert "published, CrossMatch, UniMatch: CrossMatch's README (2025); last weights, not chosen" in notes
    assert "SPC (MT): README of SPC" in notes and "weights chosen by mean Dice on the validation list" in notes


@pytest.mark.parametrize(
    "flags, size",
    [
        (FULL, ""),
        (SMALL, "96x96, 3,000 iterations"),
        ({**FULL, "patch": (256, 224)}, "256x224"),
        ({**FULL, "batch_size": 8}, "batch 8"),
        ({**FULL, "patch": (320, 320), "batch_size": 48, "max_iterations": 60000}, ""),
        ({**FULL, "method": "Ours_BCP", "pretrain_iterations": 1000}, "1,000 + 30,000 iterations"),
        ({**FULL, "method": "a method of one's own"}, ""),
    ],
)
def test_a_run_below_the_paper_s_size_is_a_small_size_check_apart_from_published_rows(tested_run, flags, size):
    (block,) = make_blocks(find_settings([tested_run("Ours_MT_5", **flags)])[0])
    caption, text = block.tables[0].caption, "a small-size check, not the papers' setting"
    assert (f". {size}: {text}." in caption) == bool(size) and (text in "".join(block.notes)) == bool(size)
    shown = names(block)
    separators = [name for name in shown if name == "published, at the papers' size:"]
    assert len(separators) == bool(size)
    if size:
        place = shown.index(separators[0])
        assert all(
            name.startswith("published: ") == (index > place) for index, name in enumerate(shown) if index != place
        )
    assert {row["size"] for row in csv.DictReader(io.StringIO(as_csv([block]))) if not row["source"]} <= {size, ""}


def test_settings_of_several_sizes_and_rules_are_named(tested_run):
    test_list = {"selection": "mean Dice on the TEST list"}
    runs = [tested_run("Ours_MT_5", **SMALL), tested_run("Ours_MT_5_baseline", **FULL, about=test_list)]
    (block,) = make_blocks(find_settings(runs)[0])
    caption, notes = block.tables[0].caption, "\n".join(block.notes)
    assert ". Ours_MT_5: 96x96, 3,000 iterations: a small-size check" in caption and "baseline: 256" not in caption
    assert "Ours_MT_5 best: chosen by mean Dice on val.list" in notes
    assert "Ours_MT_5_baseline best: chosen by mean Dice on the TEST list" in notes
    assert "Ours_MT_5_baseline best: chosen by mean Dice on the TEST list" in caption


def test_phantoms_are_named_in_every_caption_note_and_title(tested_run):
    runs = [tested_run("Ours_MT_5", **FULL, about={"kind": "phantoms"}), tested_run("Ours_MT_5_baseline", **FULL)]
    blocks = make_blocks(find_settings(runs)[0])
    (block,) = blocks
    assert block.dataset == "ACDC (phantoms)" and block.notes[0].startswith("ACDC (phantoms), 12 test volumes")
    assert len(block.tables) == 3 and all(table.caption.startswith("ACDC (phantoms)") for table in block.tables)
    assert "published, at the papers' size on patients' data:" in names(block)
    assert "phantoms" in {row["kind"] for row in csv.DictReader(io.StringIO(as_csv(blocks)))}


def test_other_definitions_of_95hd_share_no_table_and_no_published_value(tested_run):
    runs = [tested_run("Ours_MT_5", **FULL), tested_run("Ours_MT_5_baseline", **FULL, about={"hd95": "max"})]
    pooled, other = make_blocks(find_settings(runs)[0])
    assert "95HD (voxel)" in pooled.tables[0].rows[0] and "95HD max (voxel)" in other.tables[0].rows[0]
    column = other.tables[0].rows[0].index("95HD max (voxel)")
    assert {row[column] for row in other.tables[0].rows if row[0].startswith("published: ")} == {"-"}
    assert any(note.startswith("95HD max: the larger") for note in other.notes)
    assert any("both directions' surface distances pooled" in note for note in pooled.notes)


def test_columns_weights_and_notes_make_a_table_narrow(tested_run):
    runs = [tested_run(name, seed, **FULL) for name in ("Ours_MT_5", "Ours_MT_5_baseline") for seed in (1, 2)]
    settings, _ = find_settings(runs)
    (block,) = make_blocks(settings, Shown(("dice", "asd"), "last", "none"), ["a fault"])
    assert [table.rows[0] for table in block.tables[:2]] == [["", "DSC %", "ASD (voxel)"]] * 2
    assert block.notes == [] and "Shown: last weights, 2 seeds each." in block.tables[0].caption
    assert "published: SPC (MT), 5 % (best)" in names(block) and "published: CrossMatch, 5 %" in names(block)
    assert block.tables[2].rows[0][:2] == ["difference", "DSC %"]
    assert block.tables[2].caption.endswith("Shown: last weights.")
    (full,), (short,) = (make_blocks(settings, Shown(notes=notes), ["a fault"]) for notes in ("full", "short"))
    assert set(short.notes) < set(full.notes) and len(short.notes) < len(full.notes) - 4
    assert full.notes[-1] == short.notes[-1] == "left out: a fault"
    assert any(note.startswith("best: chosen by") for note in short.notes)
    (best,) = make_blocks(settings, Shown(weights="best", notes="short"))
    assert "Ours_MT_5 seed_1: NOT FINISHED, iteration 4 of 30000" in best.notes
    (dice,) = make_blocks(settings, Shown(("dice",)))
    assert dice.tables[2].rows[0] == ["difference", "weights", "DSC %", "95% interval", "Wilcoxon p", "n"]
    assert len(make_blocks(settings, Shown(("hd95",)))[0].tables) == 2


def test_latex_notes_stay_with_their_table_and_tables_fit(tested_run):
    runs = [tested_run(name, **SMALL) for name in ("Ours_MT_5", "Ours_MT_5_baseline")]
    settings, _ = find_settings(runs)
    short = as_latex(make_blocks(settings, Shown(("dice", "asd"), "best", "short")))
    first, *others = short.split(r"\end{table}")
    assert "[1] ACDC" in first and not any("[1]" in other for other in others)
    assert r"\midrule \multicolumn{3}{l}{published, at the papers' size:} \\" in first
    full = as_latex(make_blocks(settings, Shown(), ["a fault"]))
    assert "[1] ACDC" in full.split(r"\end{table}")[-1] and full.rstrip().endswith(r"\endgroup")
    differences = full.split(r"\begin{table}")[3]
    assert differences.count(r"\begin{tabular}{lrrrrr}") == 2  # Dice above, ASD below
    for tabular in re.findall(r"\\begin{tabular}.*?\\end{tabular}", short, re.S):
        rows = re.sub(r"\$|\\pm|\\", "", tabular).splitlines()
        assert max(len(row) for row in rows) < 110


def test_a_setting_without_the_weights_asked_for_says_so(tested_run):
    run = tested_run("Ours_MT_5", **FULL)
    for path in (run / "test_best").iterdir():
        if path.is_file():
            path.unlink()
    (block,) = make_blocks(find_settings([run])[0], Shown(weights="best"))
    assert block.tables[0].rows[1][:2] == ["Ours_MT_5", "best weights not tested"]
