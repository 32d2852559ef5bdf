import json
import re
from pathlib import Path

import pytest

from dataloaders.files import WriteError
from scripts.make_tables import main as make_tables
from utils.reports.report_page import merge_equal, plot_run


def summary(iteration, dice=0.5):
    return {"iteration": iteration, "metrics": {"dice": dice}}


def test_the_same_weights_are_one():
    def titles(tmp, *summaries):
        return list(merge_equal({tmp / f"test_{kind}": one for kind, one in zip(("best", "last"), summaries)}))

    folder = Path("runs")
    assert titles(folder, summary(9), summary(9)) == ["best = last weights, iteration 9"]
    assert titles(folder, summary(3), summary(9)) == ["best weights, iteration 3", "last weights, iteration 9"]
    assert len(titles(folder, summary(9, 0.5), summary(9, 0.6))) == 2  # tested by other rules
    assert titles(folder, summary(None), summary(None)) == ["best weights", "last weights"]  # bare files


def test_a_page_shows_equal_weights_once_and_how_far_a_run_is(tested_run):
    done = tested_run("Ours_MT_5", 1, last=3)
    page = plot_run(done).read_text()
    assert page.count("best, median and worst case") == page.count("no pictures: ") == 1  # no data here
    assert "best = last weights, iteration 3" in page and "1 labelled cases, 4 iterations" in page
    assert "Not finished" not in page and "published: SPC (MT), 5 %" in page
    assert "at the papers" not in page and "published, SPC (MT): " in page  # a run that does not state its size
    rows = (done / "metrics.jsonl").read_text().splitlines()
    (done / "metrics.jsonl").write_text("\n".join(rows[:2]))
    assert re.search("Not finished: </b>iteration 2 of 4", plot_run(done).read_text())


def test_a_folder_that_cannot_be_written_is_one_line(tested_run):
    run = tested_run("Ours_MT_5", 1)
    (run / "figures").write_text("a file")
    with pytest.raises(WriteError, match=r"figures/\w+.png: cannot be written"):
        plot_run(run)


def test_box_plots_of_equal_weights_are_drawn_once(tested_run, tmp_path):
    run = tested_run("Ours_MT_5", 1, last=3)
    out = tmp_path / "table.html"
    assert make_tables([str(run), "--format", "html", "--out", str(out)]) == 0
    assert out.read_text().count("Dice over test cases by class") == 1


def test_what_runs_call_themselves_is_escaped(tested_run, tmp_path):
    """Names, commands, flags and errors come from files that others may have written."""
    evil = "<script>alert(1)</script>"
    run = tested_run("Ours_MT_5", 1, exp=evil)
    config = json.loads((run / "config.json").read_text())
    config.update(method=evil, commit=evil, command=evil, device=evil, versions={evil: evil})
    config["later_starts"] = [{"command": evil, "commit": evil, "device": evil}]
    (run / "config.json").write_text(json.dumps(config))
    for kind in ("best", "last"):
        path = run / f"test_{kind}" / "summary.json"
        changed = {**json.loads(path.read_text()), "selection": evil, "note": evil, "command": evil, "root": f"/{evil}"}
        path.write_text(json.dumps({**changed, "run": f"{evil} {kind}"}))
    rows = [{"iteration": i, f"loss/{evil}": 1.0, f"val/dice/{evil}": 0.5, "val/dice": 0.5} for i in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "table.html"
    assert make_tables([str(run), "--format", "html", "--out", str(out)]) == 0
    for page in (plot_run(run).read_text(), out.read_text()):
        assert "<script" not in page and page.count("&lt;script&gt;") > 5


def test_published_rows_follow_a_small_run_below_a_line_of_their_own(tested_run):
    page = plot_run(tested_run("Ours_MT_5", 1, patch=(32, 32))).read_text()
    line = page.index("published, at the papers&#x27; size:")
    assert page.index("70.98" if "70.98" in page else "best weights") < line < page.index("published: SPC (MT), 5 %")
    assert "a small-size check, not the papers&#x27; setting" in page
