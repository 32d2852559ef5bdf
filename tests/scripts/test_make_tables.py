import csv
import io
import re
import shutil
import subprocess

import numpy as np
import pytest

from scripts.make_tables import main
from utils.reports.results import read_results
from utils.reports.tables import latex_escape


@pytest.fixture
def runs(tested_run):
    """Two methods, one of them with two seeds."""
    tested_run("Ours_MT_5", 1)
    tested_run("Ours_MT_5", 2)
    return tested_run("Ours_BCP_5", 1, offset=2, method="Ours_BCP", last=2).parent.parent


def table(runs, format, out=None):
    out = runs.parent / f"table.{format}" if out is None else out
    assert main([str(runs), "--format", format, "--out", str(out)]) == 0
    return out.read_text()


def cells(text, start):
    """The cells of the Markdown rows that begin so."""
    lines = [line for line in text.splitlines() if line.startswith(start)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_markdown_measured_beside_published(runs, capsys):
    text = table(runs, "markdown")
    assert main([str(runs)]) == 0 and capsys.readouterr().out.endswith(text)
    dice = [read_results(runs / "Ours_MT_5" / f"seed_{n}" / "test_best").summary["metrics"]["dice"] for n in (1, 2)]
    values = [100 * entry["mean"] for entry in dice]
    over_runs, over_cases = cells(text, "| Ours_MT_5 | best")
    assert over_runs[:4] == ["Ours_MT_5", "best", "2", f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"]
    assert over_cases[3].startswith(f"{np.mean(values):.2f} ± ") and over_cases[3] != over_runs[3]
    assert "published: SPC (MT), 5 % | best | - | 87.31" in text
    assert "Best weights chosen by mean Dice on val.list." in text
    assert "its column titles Myo, LV, RV belong to the values RV, Myo, LV" in text
    assert "Ours_BCP_5 seed_1: NOT FINISHED, iteration 2 of 4" in text
    assert "Ours_MT_5 - Ours_BCP_5 | best" in text or "Ours_BCP_5 - Ours_MT_5 | best" in text


def test_one_seed_shows_no_deviation_over_runs(runs):
    over_runs, over_cases = cells(table(runs, "markdown"), "| Ours_BCP_5 | best")
    assert not any("±" in cell for cell in over_runs) and over_runs[2] == "1"
    assert "±" in over_cases[3]
    for row in csv.DictReader(io.StringIO(table(runs, "csv"))):
        assert (row["std_over_runs"] == "") == (row["runs"] != "2")


def test_csv_has_every_number_at_full_precision(runs):
    rows = list(csv.DictReader(io.StringIO(table(runs, "csv"))))
    summary = read_results(runs / "Ours_BCP_5" / "seed_1" / "test_last").summary
    wanted = {"setting": "Ours_BCP_5", "weights": "last", "metric": "hd95", "class": "Myo", "against": ""}
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert float(row["value"]) == summary["metrics"]["hd95"]["by_class"]["Myo"]["mean"] and row["unit"] == "voxel"
    (row,) = [row for row in rows if row["source"] and (row["setting"], row["class"]) == ("SPC (MT)", "RV")]
    assert float(row["value"]) == 0.856 and "2507.20729" in row["source"]
    differences = [row for row in rows if row["against"]]
    assert [(row["metric"], row["weights"]) for row in differences] == [
        (metric, kind) for kind in ("best", "last") for metric in ("dice", "asd")
    ]
    means = [row for row in rows if row["metric"] == "dice" and row["runs"] and not row["class"]]
    for row in (*differences, *means):
        assert float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"])


def test_latex_is_balanced(runs):
    text = table(runs, "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for part in re.findall(r"\\begin\{tabular\}\{(lr+)\}(.*?)\\end\{tabular\}", text, re.S):
        columns, rows = len(part[0]), [line for line in part[1].splitlines() if line.endswith(r"\\")]
        assert len(rows) > 2 and {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
    assert text.count("$") % 2 == 0


def test_latex_escape():
    assert latex_escape("Ours_MT 5 % ± 1 -2.5 < 3") == r"Ours\_MT 5 \% $\pm$ 1 $-$2.5 $<$ 3"
    assert latex_escape("a{b}\\~^#&") == r"a\{b\}\textbackslash{}\textasciitilde{}\textasciicircum{}\#\&"
    assert latex_escape("--protocol holdout") == "-{}-protocol holdout"
    assert latex_escape("val-2 +1.0") == "val-2 $+$1.0"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(runs, tmp_path):
    table(runs, "latex", tmp_path / "table.tex")
    assert (
        main(
            [
                str(runs),
                *"--format latex --columns dice asd --weights best --notes short --out".split(),
                str(tmp_path / "narrow.tex"),
            ]
        )
        == 0
    )
    document = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "document.tex").write_text(document + r"\input{table}\input{narrow}\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "document.pdf").stat().st_size > 10_000


def test_the_page_needs_no_other_file_and_follows_the_colour_scheme(runs):
    text = table(runs, "html")
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg|#)[^"]*"', text) and "<script" not in text
    assert "color-scheme: light dark" in text and "currentColor" in text and "#000000" not in text
    assert text.count("<table>") == 3
    assert text.count("<svg") == text.count("<title>") - 1 == 8  # boxes of 3 classes, best and last; loss and Dice
    assert "python train_Ours_BCP.py" in text and "python test_2d.py" in text
    assert "no pictures: " in text  # these runs have no data
    assert text.count("<figure") == text.count("</figure>") and text.count("<details>") == text.count("</details>")


def test_what_cannot_be_read_is_one_line_and_the_rest_is_shown(runs, capsys):
    path = runs / "Ours_MT_5" / "seed_1" / "test_best" / "per_case.csv"
    path.write_text(path.read_text().replace("RV", "XX", 1))
    assert main([str(runs)]) == 1
    out, error = capsys.readouterr()
    assert len(error.splitlines()) == 1 and str(path) in error
    assert "| Ours_MT_5 | best | 1 |" in out and "| Ours_BCP_5 | best | 1 |" in out and f"left out: {path}" in out
    other = path.parent.parent / "test_last" / "summary.json"
    other.write_text("{}")
    with pytest.raises(SystemExit) as stop:
        main([str(path.parent.parent)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and len(error.splitlines()) == 1 and str(path) in error and "(and 1 more)" in error
