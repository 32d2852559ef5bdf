import re

from utils.settings import Setting
from utils.tables import as_latex, as_markdown, as_text, make_blocks


def absent(dataset, name, method, labelnum, status="not measured"):
    return Setting(name, dataset, method, labelnum, status=status)


def test_settings_without_a_run_stand_beside_what_is_published():
    (block,) = make_blocks(
        [absent("ACDC", "Ours_MT_5", "Ours_MT", 5), absent("ACDC", "DuCiSC_5", "DuCiSC", 5, "failed")]
    )
    text = as_markdown([block])
    assert "| Ours_MT_5 | - | 0 | not measured |" in text and "| DuCiSC_5 | - | 0 | failed |" in text
    assert "| published: SPC (MT), 5 % | - | - | 87.31 |" in text and "not published here: DuCiSC_5" in text
    assert len(block.tables) == 1 and "[1] not published here" in as_text([block])


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
