"""What a target's runs show, as files that can be published: a page with table, commands and curves, and a record of
aggregate numbers (JSON) that later runs can be checked against. Nothing of a single case is in them.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

import numpy as np
from scipy import stats

from dataloaders.files import InputError, write_json, write_text
from scripts.jobs import Job
from utils.reports.results import markdown_table, metric_title, over_runs, score_cell
from utils.reports.settings import Setting
from utils.reports.tables import Block
from utils.runs.folder import read_metrics

MARK = "<!-- below: written by a script; edit above this line only -->"
SCORES = ("dice", "jaccard", "hd95", "asd")


def training_rows(folder: Path) -> list[dict]:
    """The rows of metrics.jsonl of a run's folder; those of a second stage are counted on from the first's end."""
    stages = [stage for stage in (folder / "pretrain", folder / "self") if stage.is_dir()] or [folder]
    rows, start = [], 0
    for stage in stages:
        found = read_metrics(stage / "metrics.jsonl")
        rows += [{**row, "iteration": row["iteration"] + start} for row in found]
        start = rows[-1]["iteration"] if rows else 0
    return rows


def hours(rows: Sequence[dict]) -> float:
    """Training and validation, from what the run recorded."""
    seconds, before = 0.0, 0
    for row in rows:
        if "monitor/iterations_per_s" in row:
            seconds += (row["iteration"] - before) / row["monitor/iterations_per_s"]
            before = row["iteration"]
        seconds += row.get("val/seconds", 0.0)
    return seconds / 3600


def scores_of(summary: dict) -> dict:
    """The aggregate numbers of one test."""
    metrics = summary["metrics"]
    return {
        **{name: metrics[name]["mean"] for name in SCORES},
        "dice_by_class": {label: entry["mean"] for label, entry in metrics["dice"]["by_class"].items()},
        "dice_std_over_cases": metrics["dice"]["std_over_cases"],
        "empty_predictions": sum(summary["empty_predictions"].values()),
        "iteration": summary["iteration"],
    }


def collect(target: str, settings: Sequence[Setting], jobs: Sequence[Job], blocks: Sequence[Block]) -> dict:
    """The record of a target: for each setting its command and, for each seed, scores, hours and validation curve; and
    the paired differences of settings.
    """
    commands = {job.folder.parent.name: job for job in jobs}
    comparisons = [found for block in blocks for found in block.comparisons]
    record: dict = {"target": target, "settings": {}}
    record["differences"] = [
        {"difference": found.name, "weights": found.kind, **found.differences["dice"]._asdict()}
        for found in comparisons
    ]
    for setting in settings:
        job = commands[setting.name]
        entry: dict = {"command": f"python {shlex.join([job.commands()['train'][0], *job.row_flags])}", "seeds": {}}
        for index, run in enumerate(setting.runs):
            rows = training_rows(run.folder)
            made = run.config
            entry["seeds"][str(made["flags"]["seed"])] = {
                **{kind: scores_of(tests[index].summary) for kind, tests in setting.tests.items()},
                "hours": round(hours(rows), 3),
                "commit": made["commit"],
                "device": made["device"].replace("device: ", ""),
                "torch": made["versions"]["torch"],
                "validation_dice": {str(row["iteration"]): row["val/dice"] for row in rows if "val/dice" in row},
            }
        record["settings"][setting.name] = entry
    return record


def merge(old: dict, new: dict) -> dict:
    """The new record, and of an older one of the same target the seeds and differences that it lacks."""
    settings = {}
    for name in dict.fromkeys((*old["settings"], *new["settings"])):
        was, now = (record["settings"].get(name, {"seeds": {}}) for record in (old, new))
        settings[name] = {**was, **now, "seeds": {**was["seeds"], **now["seeds"]}}
    known = {(row["difference"], row["weights"]) for row in new["differences"]}
    kept = [row for row in old.get("differences", []) if (row["difference"], row["weights"]) not in known]
    return {**new, "settings": settings, "differences": kept + new["differences"]}


def summary_table(record: dict) -> list[str]:
    """All settings as Markdown: mean ± sample standard deviation over the seeds; the spread over cases separately."""
    first = next(iter(next(iter(record["settings"].values()))["seeds"].values()))
    classes = list(first["best"]["dice_by_class"])
    titles = ["setting", "seeds", "DSC %, last", "DSC %, best", *(f"{name} %" for name in classes)]
    titles += [*(metric_title(metric, "voxel") for metric in SCORES[1:]), "spread over cases, DSC %", "empty"]
    rows = [titles]
    for name, entry in record["settings"].items():
        best, last = ([seed[kind] for seed in entry["seeds"].values()] for kind in ("best", "last"))
        cells = [name, str(len(best))]
        cells += [score_cell(*over_runs(seed["dice"] for seed in seeds), "dice") for seeds in (last, best)]
        cells += [score_cell(*over_runs(seed["dice_by_class"][label] for seed in best), "dice") for label in classes]
        cells += [score_cell(*over_runs(seed[metric] for seed in best), metric) for metric in SCORES[1:]]
        cells += [f"{100 * np.mean([seed['dice_std_over_cases'] for seed in best]):.1f}"]
        cells += [str(sum(seed["empty_predictions"] for seed in best))]
        rows.append(cells)
    return markdown_table(rows)


def difference_table(record: dict) -> list[str]:
    """Paired differences of Dice as Markdown."""
    rows = [["difference", "weights", "DSC %", "95 % interval", "Wilcoxon p", "n"]]
    for row in record["differences"]:
        if row["mean"] is not None:
            interval = "-" if row["low"] is None else f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
            p_value = "-" if row["p_value"] is None else f"{row['p_value']:.2g}"
            mean = f"{100 * row['mean']:+.2f}"
            rows.append([row["difference"], row["weights"], mean, interval, p_value, row["count"]])
    return markdown_table(rows)


def draw_curves(record: dict):
    """Validation Dice over the iterations, a panel for each train script: of each setting its seeds' mean and range."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    panels: dict[str, list[str]] = {}
    for name, entry in record["settings"].items():
        panels.setdefault(entry["command"].split()[1], []).append(name)
    figure = Figure(figsize=(1 + 4 * len(panels), 4))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axis, (script, names) in zip(axes[0], panels.items()):
        for number, name in enumerate(names):
            curves = [seed["validation_dice"] for seed in record["settings"][name]["seeds"].values()]
            shared = [key for key in curves[0] if all(key in curve for curve in curves)]
            values = 100 * np.array([[curve[key] for key in shared] for curve in curves])
            iterations, colour = [int(key) for key in shared], colormaps["tab10"](number % 10)
            if shared:
                low, high = values.min(axis=0), values.max(axis=0)
                axis.fill_between(iterations, low, high, color=colour, alpha=0.15, linewidth=0)
                axis.plot(iterations, values.mean(axis=0), color=colour, linewidth=1.4, label=name)
        axis.set_title(script, fontsize=10)
        axis.set(xlabel="iteration", ylim=(0, 100))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False, loc="lower right")
    axes[0, 0].set_ylabel("validation Dice, %")
    figure.tight_layout()
    return figure


def page_above(page: Path, title: str) -> str:
    """What a written page keeps: its text up to the mark, the mark included; of a new page its title."""
    text = page.read_text() if page.exists() else f"# {title}\n\n{MARK}"
    if MARK not in text:
        raise InputError(f"{page}: not a page that a script wrote (its mark is missing); move it away or name another")
    return f"{text.split(MARK)[0].rstrip()}\n\n{MARK}\n\n"


def write_report(folder: Path, record: dict) -> list[Path]:
    """<target>.json, <target>.svg and <target>.md in `folder`.

    Of a page that exists the text above MARK is kept, of a record the seeds whose runs are not at hand any more.
    """
    name = record["target"].replace("-", "_")
    page, curves, numbers = (Path(folder) / f"{name}{suffix}" for suffix in (".md", ".svg", ".json"))
    text = page_above(page, record["target"])
    if numbers.exists():
        read_record(numbers)
        record = merge(json.loads(numbers.read_text()), record)
    write_json(numbers, record)
    figure = draw_curves(record)
    figure.savefig(curves, metadata={"Date": None})
    seeds = [seed for entry in record["settings"].values() for seed in entry["seeds"].values()]
    about = [f"{key}: {', '.join(dict.fromkeys(seed[key] for seed in seeds))}" for key in ("torch", "commit")]
    commands = [["setting", "device", "hours for each seed", "command, and `--seed`"]]
    for setting, entry in record["settings"].items():
        spent = ", ".join(f"{seed['hours']:.2f}" for seed in entry["seeds"].values())
        devices = ", ".join(dict.fromkeys(seed["device"] for seed in entry["seeds"].values()))
        commands.append([setting, devices, spent, f"`{entry['command']}`"])
    total = sum(seed["hours"] for seed in seeds)
    parts = [
        f"{len(seeds)} runs, {total:.1f} hours of training and validation together; " + "; ".join(about),
        f"![validation Dice over the iterations, mean and range over the seeds]({curves.name})",
        "\n".join(summary_table(record)),
        "Mean ± sample standard deviation over the seeds; all columns but the first DSC are of the best weights by "
        "validation. Spread over cases: the standard deviation over the test cases, mean over the seeds. Empty: "
        "predictions that miss a class the case has, over all seeds.",
        "\n".join(difference_table(record)),
        "Paired differences on the same test cases, a patient's frames and all seeds averaged first (n patients): "
        "percentile interval of the bootstrap (10,000 draws), two-sided Wilcoxon signed-rank test, not corrected for "
        "several tests.",
        "\n".join(markdown_table(commands)),
    ]
    write_text(page, text + "\n\n".join(parts) + "\n")
    return [page, curves, numbers]


def read_record(path: Path) -> dict:
    """A record that --report wrote; raises InputError where the file is not one."""
    try:
        record = json.loads(Path(path).read_text())
        return {name: entry["seeds"] for name, entry in record["settings"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a record of --report ({error})") from error


def device_kind(device: str) -> str:
    """CPU or GPU, from a device as a run states it."""
    return "CPU" if device.replace("device: ", "").startswith("CPU") else "GPU"


def check(recorded: Mapping[str, dict], settings: Sequence[Setting]) -> Iterator[tuple[str, Optional[bool]]]:
    """For each test of these settings a line about its mean Dice against the record, and whether it is as expected.

    Expected is the 95 % prediction interval of one more run (Student's t) around the mean of the setting's seeds that
    were recorded on the same kind of device, CPU or GPU; None where fewer than three were. Its deviation is that over
    seeds, pooled over all settings: three seeds alone can agree by chance.
    """

    def seeds(name: str, kind: str, device: str) -> list[float]:
        found = (seed for seed in recorded.get(name, {}).values() if kind in seed)
        return [100 * seed[kind]["dice"] for seed in found if device_kind(seed["device"]) == device]

    for setting in settings:
        for kind, tests in setting.tests.items():
            for run, test in zip(setting.runs, tests):
                device = device_kind(run.config["device"])
                known = seeds(setting.name, kind, device)
                dice = 100 * test.summary["metrics"]["dice"]["mean"]
                line = f"{run.name} {kind}: Dice {dice:.2f}"
                if len(known) < 3:
                    yield f"{line}; {len(known)} seeds recorded on a {device}, too few to compare with", None
                    continue
                groups = [group for group in (seeds(name, kind, device) for name in recorded) if group]
                freedom = sum(len(group) - 1 for group in groups)
                deviation = (sum(np.var(group) * len(group) for group in groups) / freedom) ** 0.5
                reach = stats.t.ppf(0.975, freedom) * deviation * (1 + 1 / len(known)) ** 0.5
                place = "within" if min(known) <= dice <= max(known) else "outside"
                line += f", {place} the range of {len(known)} recorded seeds, {min(known):.2f} to {max(known):.2f}"
                line += f"; 95 % prediction interval {np.mean(known) - reach:.2f} to {np.mean(known) + reach:.2f}"
                yield line, bool(abs(dice - np.mean(known)) <= reach)
