"""Tables of settings next to published results, with their statistics, as text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace
from typing import NamedTuple, Sequence

from dataloaders.registry import DATASETS
from utils.evaluation.metrics import HD95
from utils.reports.results import (
    ALL_COLUMNS,
    COLUMNS,
    DISTANCES,
    footnotes,
    format_table,
    markdown_table,
    metric_title,
    over_runs,
    over_runs_row,
    published_notes,
    published_row,
    published_rows,
    selection_notes,
    setting_of,
    size_line,
    table_header,
    table_row,
    titled,
    unpublished_note,
)
from utils.reports.runs import size_notes, training_notes
from utils.reports.settings import Comparison, Setting, compare, pairs, rules_of
from utils.reports.statistics import CONFIDENCE, FEWEST, RESAMPLES, Difference


class Shown(NamedTuple):
    """What of the results the tables show."""

    columns: Sequence[str] = ALL_COLUMNS
    weights: str = "both"  # or "best", "last"
    notes: str = "full"  # or "short", "none"


EVERYTHING = Shown()


@dataclass
class Table:
    """Cells of text, the first row the header; `caption` says what they are.

    naming: the first columns, which name a row; split: where a table too wide for a page may be cut, 0: nowhere.
    """

    caption: str
    rows: list[list[str]]
    naming: int = 1
    split: int = 0


@dataclass
class Block:
    """All that is comparable: one dataset, test list and set of rules. `notes` are the footnotes of its tables."""

    dataset: str  # as titles name it
    settings: list[Setting]
    published: list[dict]
    comparisons: list[Comparison]
    tables: list[Table]
    notes: list[str]


def make_blocks(settings: Sequence[Setting], shown: Shown = EVERYTHING, faults: Sequence[str] = ()) -> list[Block]:
    """The tables of these settings; those without a test stand in the first block of their dataset.

    faults: what was left out of the settings, for the footnotes.
    """
    groups: dict[tuple, list[Setting]] = {}
    for setting in sorted(settings, key=lambda setting: not setting.runs):
        tests = next(iter(setting.tests.values()), None)
        known = [key for key in groups if key[0] == setting.dataset] or [(setting.dataset,)]
        groups.setdefault(rules_of(tests[0].summary) if tests else known[0], []).append(_chosen(setting, shown.weights))
    names = [*DATASETS, *sorted({setting.dataset for setting in settings} - set(DATASETS))]
    return [_make_block(groups[key], shown, faults) for key in sorted(groups, key=lambda key: names.index(key[0]))]


def _chosen(setting: Setting, weights: str) -> Setting:
    """The setting with the tests of these weights; a bare .pth is neither best nor last and stays."""
    other = {"best": "last", "last": "best"}.get(weights)
    tests = {kind: tests for kind, tests in setting.tests.items() if kind != other}
    if setting.tests and not tests:
        return replace(setting, runs=[], tests={}, status=f"{weights} weights not tested")
    return replace(setting, tests=tests)


def _make_block(settings: list[Setting], shown: Shown, faults: Sequence[str]) -> Block:
    settings = sorted(settings, key=lambda setting: (setting.labelnum is None, setting.labelnum or 0))  # stable
    known = [(s.method, s.labelnum, s.preset) for s in settings if s.labelnum is not None]
    published = published_rows(settings[0].dataset, known)
    metrics = [metric for metric in ("dice", "asd") if metric in shown.columns]
    comparisons = [found for pair in pairs(settings) for found in compare(*pair, metrics) if metrics]
    tests = _tests(settings)
    unit, hd95 = (tests[0].summary["unit"], tests[0].summary.get("hd95", HD95[0])) if tests else ("voxel", HD95[0])
    title = titled(settings[0].dataset, _kind(settings))
    header = table_header(settings[0].classes, unit, shown.columns, hd95)
    tables = [_over_runs(title, settings, published, header, hd95, shown)]
    if tests:
        tables.append(_over_cases(title, settings, header, shown))
    if comparisons:
        tables.append(_differences(title, comparisons, unit, shown))
    return Block(title, settings, published, comparisons, tables, _notes(settings, published, shown, faults))


def _kind(settings: Sequence[Setting]) -> str:
    return next((setting.kind for setting in settings if setting.kind), "")


def _tests(settings: Sequence[Setting]) -> list:
    return [test for setting in settings for of_kind in setting.tests.values() for test in of_kind]


def _over_runs(
    title: str, settings: Sequence[Setting], published: Sequence[dict], header: list[str], hd95: str, shown: Shown
) -> Table:
    """Over seeds, with published rows: by label number and weights, or below ours if these are of another size or data.

    header: without the columns that name weights and seeds.
    """
    classes, tests = settings[0].classes, _tests(settings)
    small = size_notes([run for setting in settings for run in setting.runs])
    of_data = _kind(settings)
    apart = bool(small or of_data)
    rows = [_insert(header, "weights", "seeds")]

    def beside(row):
        return _insert(published_row(row, classes, shown.columns, hd95), row["weights"], "-")

    for labelnum in dict.fromkeys(setting.labelnum for setting in settings):
        members = [setting for setting in settings if setting.labelnum == labelnum]
        left = [] if apart else [row for row in published if row["labelnum"] == labelnum]
        for kind in dict.fromkeys(("best", *(kind for setting in members for kind in setting.tests), "last")):
            theirs = [row for row in left if (row["weights"] == "last") == (kind == "last")]
            for setting in members:
                if kind in setting.tests:
                    of_kind = setting.tests[kind]
                    row = over_runs_row(setting.name, [test.summary for test in of_kind], shown.columns)
                    rows.append(_insert(row, kind, str(len(of_kind))))
                elif not setting.runs and kind == "best":
                    rows.append([setting.name, "-", "0", setting.status, *["-"] * (len(rows[0]) - 4)])
                own = [row for row in theirs if setting_of(row) == (setting.method, setting.labelnum, setting.preset)]
                rows += [beside(row) for row in own]
                theirs = [row for row in theirs if row not in own]
            rows += [beside(row) for row in theirs]
            left = [row for row in left if (row["weights"] == "last") != (kind == "last")]
    if apart and published:
        rows.append(size_line(of_data, len(rows[0])))
        rows += [beside(row) for row in sorted(published, key=lambda row: (row["labelnum"], row["weights"] == "last"))]
    several = any(len(tests) > 1 for setting in settings for tests in setting.tests.values())
    spread = "mean ± sample standard deviation over runs (seeds)" if several else "one run (seed) each"
    by_class = "; Dice (DSC) by class" if "classes" in shown.columns else ""
    parts = [f"{title}{', measured next to published' if published else ''}: {spread}{by_class}", *small]
    chosen = [note.split("; last: ")[0] for note in selection_notes([test.summary for test in tests])]
    parts += [re.sub("^best: ", "Best weights ", note) for note in chosen]
    return _table(". ".join(parts) + ".", rows, shown)


def _over_cases(title: str, settings: Sequence[Setting], header: list[str], shown: Shown) -> Table:
    rows = [_insert(header, "weights", "seeds")]
    intervals = False
    for setting in settings:
        for kind, tests in setting.tests.items():
            summary = setting.over_cases(kind)
            intervals |= any(entry["interval"] is not None for entry in summary["metrics"].values())
            row = table_row(setting.name, summary, shown.columns, class_spread=True)
            rows.append(_insert(row, kind, str(len(tests))))
    text = "mean ± standard deviation over test cases, each case's score being the mean of its seeds'"
    text += (
        f"; in brackets the {CONFIDENCE:.0%} percentile interval of the mean, by bootstrap over patients or scans "
        f"({RESAMPLES:,} draws)"
        if intervals
        else f"; too few cases for intervals, fewer than {FEWEST} patients or scans"
    )
    return _table(f"{title}, spread over cases: {text}.", rows, shown)


def _table(caption: str, rows: list[list[str]], shown: Shown) -> Table:
    """With one kind of weights its column goes into the caption, and so does a number of seeds that all rows share."""
    naming, drop = 3, []
    if shown.weights != "both":
        seeds = {row[2] for row in rows[1:]} - {"-", "0", ""}
        caption += f" Shown: {shown.weights} weights"
        drop = [1] if len(seeds) > 1 else [1, 2]
        caption += "".join(f", {seed} seed{'s'[: seed != '1']} each" for seed in seeds if len(seeds) == 1)
        caption += "."
        naming -= len(drop)
        rows = [[_marked(row, shown), *(cell for i, cell in enumerate(row) if i and i not in drop)] for row in rows]
    metrics = sum(metric in shown.columns for metric in COLUMNS)
    return Table(caption, rows, naming, naming + metrics if "classes" in shown.columns else 0)


def _marked(row: Sequence[str], shown: Shown) -> str:
    """A row's name, with its weights where they are others than the table's."""
    return row[0] if row[1] in (shown.weights, "-", "", "weights") else f"{row[0]} ({row[1]})"


def _differences(title: str, comparisons: Sequence[Comparison], unit: str, shown: Shown) -> Table:
    header, metrics = ["difference", "weights"], list(comparisons[0].differences)
    for metric in metrics:
        header += [metric_title(metric, unit), f"{CONFIDENCE:.0%} interval", "Wilcoxon p", "n"]
    rows = [header]
    for found in comparisons:
        cells = [cell for metric in metrics for cell in _difference_cells(found.differences[metric], metric)]
        rows.append([found.name, found.kind, *cells])
    text = (
        f"{title}, differences on the same cases: mean, {CONFIDENCE:.0%} percentile interval of the paired bootstrap "
        f"({RESAMPLES:,} draws) and two-sided p of Wilcoxon's signed-rank test, not corrected for several tests; "
        "n: patients or scans, a patient's frames and all seeds averaged first; a pair with an undefined distance is "
        "left out."
    )
    if shown.weights == "both":
        return Table(text, rows, naming=2, split=6)
    return Table(f"{text} Shown: {shown.weights} weights.", [[row[0], *row[2:]] for row in rows], naming=1, split=5)


def _difference_cells(difference: Difference, metric: str) -> list[str]:
    mean, low, high, p_value, count = difference
    scale = 1 if metric in DISTANCES else 100
    interval = "-" if low is None else f"{low * scale:+.2f} to {high * scale:+.2f}"
    p_text = "-" if p_value is None else "< 0.0001" if p_value < 1e-4 else f"{p_value:.4f}"
    if count < FEWEST:
        interval, p_text = "too few cases", "-"
    return ["-" if mean is None else f"{mean * scale:+.2f}", interval, p_text, str(count)]


def _notes(settings: Sequence[Setting], published: Sequence[dict], shown: Shown, faults: Sequence[str]) -> list[str]:
    if shown.notes == "none":
        return []
    short, summaries = shown.notes == "short", [test.summary for test in _tests(settings)]
    notes = footnotes(summaries, "deviation as each caption says", shown.columns, short) if summaries else []
    for setting in settings:
        if not short:
            notes += training_notes(setting.runs, [test.summary for tests in setting.tests.values() for test in tests])
        notes += setting.unfinished
    if not short:
        notes += unpublished_note({s.name: (s.method, s.labelnum, s.preset) for s in settings}, published)
    return [*notes, *published_notes(published), *(f"left out: {fault}" for fault in faults)]


def _insert(row: Sequence[str], *cells: str) -> list[str]:
    """The row with further cells after its name."""
    return [row[0], *cells, *row[1:]]


def as_text(blocks: Sequence[Block]) -> str:
    """For a terminal."""
    parts = []
    for block in blocks:
        parts += [f"{table.caption}\n\n{format_table(table.rows)}\n" for table in block.tables]
        parts.append("\n".join(f"[{number}] {note}" for number, note in enumerate(block.notes, 1)) + "\n")
    return "\n".join(parts)


def as_markdown(blocks: Sequence[Block]) -> str:
    """Tables as GitHub shows them."""
    parts = []
    for block in blocks:
        parts += ["\n".join([table.caption, "", *markdown_table(table.rows), ""]) for table in block.tables]
        parts.append("\n".join(f"{number}. {note}" for number, note in enumerate(block.notes, 1)) + "\n")
    return "\n".join(parts)


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX.update({"±": r"$\pm$", "×": r"$\times$", "<": r"$<$", ">": r"$>$", **{sign: "\\" + sign for sign in "&%$#_{}"}})


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is; a minus before a number becomes one."""
    text = "".join(LATEX.get(sign, sign) for sign in text).replace("--", "-{}-")  # no dash of two hyphens
    return re.sub(r"(?<![\w.])([-+])(\d)", r"$\1$\2", text)


LATEX_WIDTH, LATEX_NOTES = 90, 12  # characters in a row, notes below a table


def as_latex(blocks: Sequence[Block]) -> str:
    """One table environment for each table; a block's notes below its first one, many of them as text after its last.

    A table of more than LATEX_WIDTH characters is cut in two, one below the other, to stay readable.
    """
    parts = ["% needs \\usepackage{booktabs,graphicx}; tables wider than the line are scaled down"]
    for block in blocks:
        notes = [latex_escape(f"[{number}] {note}") for number, note in enumerate(block.notes, 1)]
        below = [rf"\par\footnotesize\raggedright {note}" for note in notes if len(notes) <= LATEX_NOTES]
        for table in block.tables:
            tabulars = [_tabular([[row[index] for index in chosen] for row in table.rows]) for chosen in _parts(table)]
            parts += [
                r"\begin{table}[htbp]",
                r"\centering",
                rf"\caption{{{latex_escape(table.caption)}}}\par\smallskip",
                "\n\\par\\medskip\n".join(tabulars),
                *(below if table is block.tables[0] else []),
                r"\end{table}",
            ]
        if notes and not below:
            parts += [
                r"\begingroup\footnotesize\raggedright",
                *(rf"\noindent {note}\par" for note in notes),
                r"\endgroup",
            ]
    return "\n".join(parts) + "\n"


def _parts(table: Table) -> list[Sequence[int]]:
    """The columns of a table, in one part or two that both begin with the naming ones."""
    width = sum(max(len(cell) for cell in column) for column in zip(*table.rows))
    count = len(table.rows[0])
    if width <= LATEX_WIDTH or not table.naming < table.split < count:
        return [range(count)]
    return [range(table.split), [*range(table.naming), *range(table.split, count)]]


def _tabular(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells; one whose other cells are empty is a heading between rows."""
    head, *lines = [
        " & ".join(map(latex_escape, row)) + r" \\"
        if any(row[1:])
        else rf"\midrule \multicolumn{{{len(row)}}}{{l}}{{{latex_escape(row[0])}}} \\"
        for row in rows
    ]
    start = [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}",
    ]
    return "\n".join([*start, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}}"])


CSV_COLUMNS = (
    "dataset", "labelnum", "setting", "method", "preset", "weights", "against", "metric", "class", "unit", "value",
    "std_over_runs", "runs", "std_over_cases", "cases", "ci_low", "ci_high", "wilcoxon_p", "empty_predictions",
    "source", "selection", "size", "kind", "hd95",
)  # fmt: skip


def as_csv(blocks: Sequence[Block]) -> str:
    """A line for each number, at full precision: fractions for overlaps, distances in `unit`; class empty: the mean.

    Of differences (`against` is filled) `cases` counts patients or scans. Published rows have a `source`. size: what is
    smaller than the papers' runs; kind: of data that are not patients'; hd95: its definition.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for block in blocks:
        for setting in block.settings:
            for kind in setting.tests:
                writer.writerows(_csv_rows(setting, kind))
        for found in block.comparisons:
            for metric, difference in found.differences.items():
                value, low, high, p_value, count = difference
                row = {
                    "dataset": block.settings[0].dataset,
                    "setting": found.name.split(" - ")[0],
                    "weights": found.kind,
                }
                row.update(against=found.name.split(" - ")[1], metric=metric, value=value, cases=count)
                writer.writerow({**row, "ci_low": low, "ci_high": high, "wilcoxon_p": p_value})
        for row in block.published:
            scores = [(metric, "", row.get(metric)) for metric in COLUMNS]
            scores += [("dice", label, value) for label, value in row.get("by_class", {}).items()]
            for metric, label, value in scores:
                if value is not None:
                    value = value if metric in DISTANCES else round(value / 100, 6)
                    published = {"setting": row["name"], "metric": metric, "class": label, "value": value}
                    published.update(weights=row["weights"], selection=row["rule"])
                    named = {key: row.get(key) for key in ("dataset", "labelnum", "method", "preset", "source")}
                    writer.writerow({**named, **published, "unit": "voxel" if metric in DISTANCES else ""})
    return text.getvalue()


def _csv_rows(setting: Setting, kind: str) -> list[dict]:
    tests, over_cases = setting.tests[kind], setting.over_cases(kind)["metrics"]
    first = {"dataset": setting.dataset, "labelnum": setting.labelnum, "setting": setting.name, "weights": kind}
    first.update(method=setting.method, preset=setting.preset, runs=len(tests), cases=len(tests[0].cases))
    first.update(selection=tests[0].summary.get("selection"), kind=setting.kind)
    first.update(size="; ".join(dict.fromkeys(run.size for run in setting.runs)))
    rows = []
    for metric in COLUMNS:
        for label in ("", *tests[0].summary["classes"]):
            entries = [_entry(test.summary["metrics"][metric], label) for test in tests]
            value, deviation = over_runs(entry["mean"] for entry in entries)
            missed = [test.summary["empty_predictions"] for test in tests]
            count = sum(sum(one.values()) if not label else one[label] for one in missed)
            low, high = (None if label else over_cases[metric]["interval"]) or ("", "")
            rows.append(
                {
                    **first,
                    "metric": metric,
                    "class": label,
                    "value": value,
                    "std_over_runs": deviation,
                    "std_over_cases": _entry(over_cases[metric], label)["std_over_cases"],
                    "empty_predictions": count,
                    "unit": tests[0].summary["unit"] if metric in DISTANCES else "",
                    "ci_low": low,
                    "ci_high": high,
                    "hd95": tests[0].summary.get("hd95", HD95[0]) if metric == "hd95" else "",
                }
            )
    return rows


def _entry(metric: dict, label: str) -> dict:
    return metric["by_class"][label] if label else metric
