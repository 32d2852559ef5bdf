"""One self-contained HTML page of tested settings: tables, box plots, curves, worst cases, commands and versions.

Works offline, on light and dark screens. Needs matplotlib.
"""

from __future__ import annotations

import html
import io
import json
import re
from typing import Sequence

import matplotlib
import matplotlib.pyplot as plt

from dataloaders.errors import InputError
from utils.figures import draw_boxes, draw_cases, draw_runs, rank_cases
from utils.pages import html_page
from utils.run_folder import read_metrics
from utils.runs import Run
from utils.settings import Setting
from utils.tables import Block, Table

WORST = 2  # cases shown of each setting


def as_html(blocks: Sequence[Block]) -> str:
    """The page, a part for each block."""
    title = "Results on " + ", ".join(dict.fromkeys(block.dataset for block in blocks))
    parts = [f"<h1>{title}</h1>"]
    for block in blocks:
        parts.append(f"<h2>{block.dataset}</h2>")
        parts += [_table(table) for table in block.tables]
        parts.append("<ol>" + "".join(f"<li>{html.escape(note)}</li>" for note in block.notes) + "</ol>")
        tested = [setting for setting in block.settings if setting.runs]
        if tested:
            parts += [*_boxes(block, tested), *_curves(tested)]
            parts += [f"<h3>Worst {WORST} cases by mean Dice</h3>", *map(_worst_cases, tested)]
            parts += [
                "<h3>Commands and versions</h3>",
                *(_story(setting, run) for setting in tested for run in setting.runs),
            ]
    return html_page(title, parts)


def _table(table: Table) -> str:
    head, *rows = table.rows
    lines = [f"<caption>{html.escape(table.caption)}</caption>", _row(head, "th")]
    for row in rows:
        lines.append(_row(row, "td", ' class="published"' if row[0].startswith("published: ") else ""))
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def _row(cells: Sequence[str], tag: str, attribute: str = "") -> str:
    return f"<tr{attribute}>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _boxes(block: Block, settings: Sequence[Setting]) -> list[str]:
    parts = []
    for kind in ("best", "last"):
        scores = {setting.name: setting.seed_mean(kind)[1]["dice"] for setting in settings if kind in setting.tests}
        if scores:
            figure = inline_svg(draw_boxes(settings[0].classes, scores))
            parts += [f"<h3>Dice over test cases by class, {kind} weights</h3>", figure]
    return parts


def _curves(settings: Sequence[Setting]) -> list[str]:
    runs = {}
    for setting in settings:
        paths = [run.path / "metrics.jsonl" for run in setting.runs]
        runs[setting.name] = [read_metrics(path) for path in paths if path.exists()]
    return ["<h3>Training</h3>", inline_svg(draw_runs(runs))]


def _worst_cases(setting: Setting) -> str:
    """Pictures of the first seed's worst cases, or why there are none."""
    kind = "best" if "best" in setting.tests else next(iter(setting.tests))
    test = setting.tests[kind][0]
    title = f"<h4>{html.escape(test.summary['run'])}</h4>"
    worst = rank_cases(test.folder)[: -WORST - 1 : -1]
    try:
        chosen = {f"worst {place}": (case, dice) for place, (dice, case) in enumerate(worst, 1)}
        return title + inline_svg(draw_cases(test.folder, chosen))
    except (InputError, OSError, ValueError) as error:
        return f'{title}<p class="small">no pictures: {html.escape(str(error))}</p>'


def _story(setting: Setting, run: Run) -> str:
    """How a run was made and tested."""
    config = run.config
    summaries = [test.summary for tests in setting.tests.values() for test in tests if test.folder.parent == run.path]
    tested_by = [summary["command"] for summary in summaries if "command" in summary]
    lines = [("train", config.get("command")), *(("test", command) for command in dict.fromkeys(tested_by))]
    changed = " with uncommitted changes" if config.get("uncommitted_changes") else ""
    lines.append(("commit", f"{config.get('commit', 'not recorded')}{changed}"))
    lines.append(("device", config.get("device")))
    lines.append(("versions", ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())))
    for start in config.get("later_starts", []):
        lines.append(("also run as", f"{start['command']} (commit {start['commit']}, {start['device']})"))
    items = "".join(f"<li>{name}: <code>{html.escape(str(text or 'not recorded'))}</code></li>" for name, text in lines)
    configuration = html.escape(json.dumps(config, indent=2))
    return (
        f"<details><summary>{html.escape(run.name)}</summary><ul>{items}</ul>"
        f"<details><summary>config.json</summary><pre>{configuration}</pre></details></details>"
    )


def inline_svg(figure) -> str:
    """The figure as SVG for a page: transparent, black drawn in the page's text colour."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "page", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("<text ", '<text fill="currentColor" ')
    return f"<figure>{svg.replace('#000000', 'currentColor')}</figure>"
