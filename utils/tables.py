"""Tables of settings beside published results, with their statistics, as text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Sequence

from dataloaders.datasets import DATASETS
from utils.reports import (
    COLUMNS,
    DISTANCES,
    footnotes,
    format_table,
    over_runs,
    over_runs_row,
    published_row,
    published_rows,
    table_header,
    table_row,
)
from utils.runs import training_notes
from utils.settings import RULES, Comparison, Setting, compare, pairs
from utils.statistics import CONFIDENCE, RESAMPLES, Difference


@dataclass
class Table:
    """Cells of text, the first row the header; `caption` says what they are."""

    caption: str
    rows: list[list[str]]


@dataclass
class Block:
    """All that is comparable: one dataset, test list and set of rules. `notes` are the footnotes of its tables."""

    dataset: str
    settings: list[Setting]
    published: list[dict]
    comparisons: list[Comparison]
    tables: list[Table]
    notes: list[str]


def make_blocks(settings: Sequence[Setting]) -> list[Block]:
    """The tables of these settings; those without a test stand in the first block of their dataset."""
    groups: dict[tuple, list[Setting]] = {}
    for setting in sorted(settings, key=lambda setting: not setting.runs):
        rules = _rules(setting) if setting.runs else next((key for key in groups if key[0] == setting.dataset), None)
        groups.setdefault(rules or (setting.dataset,), []).append(setting)
    blocks = [_make_block(group) for group in groups.values()]
    names = [*DATASETS, *sorted({block.dataset for block in blocks} - set(DATASETS))]
    return sorted(blocks, key=lambda block: names.index(block.dataset))


def _rules(setting: Setting) -> tuple:
    summary = next(iter(setting.tests.values()))[0].summary
    return tuple(summary.get(name) for name in RULES)


def _make_block(settings: list[Setting]) -> Block:
    settings = sorted(settings, key=lambda setting: (setting.labelnum is None, setting.labelnum or 0))  # stable
    dataset = settings[0].dataset
    published = published_rows(dataset, [(s.method, s.labelnum, s.preset) for s in settings if s.labelnum is not None])
    comparisons = [found for pair in pairs(settings) for found in compare(*pair)]
    tests = [test for setting in settings for of_kind in setting.tests.values() for test in of_kind]
    unit = tests[0].summary["unit"] if tests else "voxel"
    tables = [_over_runs(settings, published, unit)]
    if tests:
        tables.append(_over_cases(settings, unit))
    if comparisons:
        tables.append(_differences(comparisons, unit))
    return Block(dataset, settings, published, comparisons, tables, _notes(settings, published))


def _over_runs(settings: Sequence[Setting], published: Sequence[dict], unit: str) -> Table:
    dataset, classes = settings[0].dataset, settings[0].classes
    rows = [_insert(table_header(classes, unit), "weights", "seeds")]
    for labelnum in dict.fromkeys(setting.labelnum for setting in settings):
        shown = []
        for setting in (setting for setting in settings if setting.labelnum == labelnum):
            for kind, tests in setting.tests.items():
                row = over_runs_row(setting.name, [test.summary for test in tests])
                rows.append(_insert(row, kind, str(len(tests))))
            if not setting.runs:
                rows.append([setting.name, "-", "0", setting.status, *["-"] * (len(rows[0]) - 4)])
            own = (setting.method, setting.labelnum, setting.preset)
            shown += [row for row in published if _key(row) == own and row not in shown]
            rows += [_insert(published_row(row, classes), "-", "-") for row in published if _key(row) == own]
        others = [row for row in published if row["labelnum"] == labelnum and row not in shown]
        rows += [_insert(published_row(row, classes), "-", "-") for row in others]
    several = any(len(tests) > 1 for setting in settings for tests in setting.tests.values())
    spread = "mean ± sample standard deviation over runs (seeds)" if several else "one run (seed) each"
    text = f"{dataset}, measured beside published: {spread}; Dice (DSC) by class."
    tests = [test for setting in settings for of_kind in setting.tests.values() for test in of_kind]
    chosen = [test.summary for test in tests if test.summary.get("val_dice", 0) is not None]  # else the last weights
    rules = dict.fromkeys(summary["selection"] for summary in chosen if summary.get("selection"))
    for rule in rules:
        text += f" Best weights chosen by {rule}."
    return Table(text, rows)


def _over_cases(settings: Sequence[Setting], unit: str) -> Table:
    rows = [_insert(table_header(settings[0].classes, unit), "weights", "seeds")]
    for setting in settings:
        for kind, tests in setting.tests.items():
            row = table_row(setting.name, setting.over_cases(kind), class_spread=True)
            rows.append(_insert(row, kind, str(len(tests))))
    text = "mean ± standard deviation over test cases, each case's score being the mean of its seeds'"
    return Table(f"{settings[0].dataset}, spread over cases: {text}.", rows)


def _differences(comparisons: Sequence[Comparison], unit: str) -> Table:
    header, metrics = ["difference", "weights"], list(comparisons[0].differences)
    for metric in metrics:
        header += [COLUMNS[metric].format(unit=unit), f"{CONFIDENCE:.0%} interval", "Wilcoxon p", "n"]
    rows = [header]
    for found in comparisons:
        cells = [cell for metric in metrics for cell in _difference_cells(found.differences[metric], metric)]
        rows.append([found.name, found.kind, *cells])
    return Table(
        f"Differences on the same cases: mean, {CONFIDENCE:.0%} percentile interval of the paired bootstrap "
        f"({RESAMPLES:,} draws) and two-sided p of Wilcoxon's signed-rank test, not corrected for several tests; "
        "n: patients or scans, a patient's frames and all seeds averaged first.",
        rows,
    )


def _difference_cells(difference: Difference, metric: str) -> list[str]:
    mean, low, high, p_value, count = difference
    scale = 1 if metric in DISTANCES else 100
    interval = "-" if low is None else f"{low * scale:+.2f} to {high * scale:+.2f}"
    p_text = "-" if p_value is None else "< 0.0001" if p_value < 1e-4 else f"{p_value:.4f}"
    return ["-" if mean is None else f"{mean * scale:+.2f}", interval, p_text, str(count)]


def _notes(settings: Sequence[Setting], published: Sequence[dict]) -> list[str]:
    summaries = [test.summary for setting in settings for tests in setting.tests.values() for test in tests]
    notes = footnotes(summaries, "deviation as each caption says") if summaries else []
    for setting in settings:
        notes += training_notes(setting.runs, [test.summary for tests in setting.tests.values() for test in tests])
        for test in setting.tests.get("last", []):
            run = next(run for run in setting.runs if run.path == test.folder.parent)
            wanted = run.config.get("flags", {}).get("max_iterations")
            if wanted and test.summary["iteration"] < wanted:
                notes.append(f"{run.name}: NOT FINISHED, iteration {test.summary['iteration']} of {wanted}")
    known = {_key(row) for row in published}
    unpublished = [s.name for s in settings if (s.method, s.labelnum, s.preset) not in known]
    if unpublished:
        notes.append(f"not published here: {', '.join(unpublished)}")
    for source in dict.fromkeys(row["source"] for row in published):
        names = dict.fromkeys(row["name"] for row in published if row["source"] == source)
        notes.append(f"published, {', '.join(names)}: {source}")
    return notes


def _key(row: dict) -> tuple:
    return row["method"], row["labelnum"], row.get("preset")


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
        for table in block.tables:
            lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
            lines.insert(1, "|" + "---|" * len(table.rows[0]))
            parts.append(f"{table.caption}\n\n" + "\n".join(lines) + "\n")
        parts.append("\n".join(f"{number}. {note}" for number, note in enumerate(block.notes, 1)) + "\n")
    return "\n".join(parts)


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX.update({"±": r"$\pm$", "×": r"$\times$", "<": r"$<$", ">": r"$>$", **{sign: "\\" + sign for sign in "&%$#_{}"}})


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is; a minus before a number becomes one."""
    text = "".join(LATEX.get(sign, sign) for sign in text).replace("--", "-{}-")  # no dash of two hyphens
    return re.sub(r"(?<![\w.])([-+])(\d)", r"$\1$\2", text)


NAMING, METRICS, LATEX_WIDTH = 3, len(COLUMNS), 12  # columns: a row's name, weights and seeds; its metrics; on a page


def as_latex(blocks: Sequence[Block]) -> str:
    """One table environment for each table, its notes below the last of a block.

    A table of more than LATEX_WIDTH columns has its metrics above and its classes below, to stay readable.
    """
    parts = ["% needs \\usepackage{booktabs,graphicx}; tables wider than the line are scaled down"]
    for block in blocks:
        for table in block.tables:
            width, middle = len(table.rows[0]), NAMING + METRICS
            columns = [range(width)]
            if width > LATEX_WIDTH:
                columns = [range(middle), [*range(NAMING), *range(middle, width)]]
            tabulars = [_tabular([[row[index] for index in chosen] for row in table.rows]) for chosen in columns]
            notes = block.notes if table is block.tables[-1] else []
            parts += [
                r"\begin{table}[htbp]", r"\centering", rf"\caption{{{latex_escape(table.caption)}}}",
                "\n\\par\\medskip\n".join(tabulars),
                *(rf"\par\footnotesize\raggedright {latex_escape(f'[{n}] {note}')}" for n, note in enumerate(notes, 1)),
                r"\end{table}",
            ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _tabular(rows: Sequence[Sequence[str]]) -> str:
    head, *lines = [" & ".join(map(latex_escape, row)) + r" \\" for row in rows]
    start = [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}",
    ]
    return "\n".join([*start, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}}"])


CSV_COLUMNS = (
    "dataset", "labelnum", "setting", "method", "preset", "weights", "against", "metric", "class", "unit", "value",
    "std_over_runs", "runs", "std_over_cases", "cases", "ci_low", "ci_high", "wilcoxon_p", "empty_predictions",
    "source",
)  # fmt: skip


def as_csv(blocks: Sequence[Block]) -> str:
    """A line for each number, at full precision: fractions for overlaps, distances in `unit`; class empty: the mean.

    Of differences (`against` is filled) `cases` counts patients or scans. Published rows have a `source`.
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
                row = {"dataset": block.dataset, "setting": found.name.split(" - ")[0], "weights": found.kind}
                row.update(against=found.name.split(" - ")[1], metric=metric, value=value, cases=count)
                writer.writerow({**row, "ci_low": low, "ci_high": high, "wilcoxon_p": p_value})
        for row in block.published:
            scores = [(metric, "", row.get(metric)) for metric in COLUMNS]
            scores += [("dice", label, value) for label, value in row.get("by_class", {}).items()]
            for metric, label, value in scores:
                if value is not None:
                    value = value if metric in DISTANCES else round(value / 100, 6)
                    published = {"setting": row["name"], "metric": metric, "class": label, "value": value}
                    named = {key: row.get(key) for key in ("dataset", "labelnum", "method", "preset", "source")}
                    writer.writerow({**named, **published, "unit": "voxel" if metric in DISTANCES else ""})
    return text.getvalue()


def _csv_rows(setting: Setting, kind: str) -> list[dict]:
    tests, over_cases = setting.tests[kind], setting.over_cases(kind)["metrics"]
    first = {"dataset": setting.dataset, "labelnum": setting.labelnum, "setting": setting.name, "weights": kind}
    first.update(method=setting.method, preset=setting.preset, runs=len(tests), cases=len(tests[0].cases))
    rows = []
    for metric in COLUMNS:
        for label in ("", *tests[0].summary["classes"]):
            entries = [_entry(test.summary["metrics"][metric], label) for test in tests]
            value, deviation = over_runs(entry["mean"] for entry in entries)
            missed = [test.summary["empty_predictions"] for test in tests]
            count = sum(sum(one.values()) if not label else one[label] for one in missed)
            rows.append({
                **first, "metric": metric, "class": label, "value": value, "std_over_runs": deviation,
                "std_over_cases": _entry(over_cases[metric], label)["std_over_cases"], "empty_predictions": count,
                "unit": tests[0].summary["unit"] if metric in DISTANCES else "",
            })  # fmt: skip
    return rows


def _entry(metric: dict, label: str) -> dict:
    return metric["by_class"][label] if label else metric
