"""The two pages of results, each one self-contained HTML file: of a run, and of the tables of many.

They work offline, on light and dark screens and on a phone. Need matplotlib and torchvision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

from dataloaders.files import InputError, whole_file, write_text
from utils.evaluation.metrics import HD95
from utils.pictures import ERRORS, class_colour, encode
from utils.reports.figures import (
    draw_boxes,
    draw_cases,
    draw_curves,
    draw_runs,
    inline_svg,
    pick_cases,
    rank_cases,
    save_strips,
)
from utils.reports.pages import Html, folded, image, join, legend, listing, page, table, tag
from utils.reports.results import (
    ALL_COLUMNS,
    find_tests,
    footnotes,
    published_notes,
    published_part,
    published_rows,
    read_results,
    table_header,
    table_row,
)
from utils.reports.runs import Run, describe_run, size_notes
from utils.reports.settings import Setting
from utils.reports.tables import Block
from utils.runs.folder import folder_size, read_metrics

WORST = 2  # cases shown of each setting
COUNTED = (
    "Click a picture to enlarge it. Of each case the slice with the most foreground; slices are counted from 1, as in "
    "ITK-SNAP; 3D Slicer and array indices count from 0. Grey levels: the volume's 1st to 99th percentile."
)


def plot_run(path: Path) -> Path:
    """Draw a run's curves and, where it was tested, its best, median and worst case; returns the path of the page.

    Writes report.html and figures/ into the run's folder, and figures/ into each test's. Raises InputError for a
    folder without anything to draw.
    """
    path = Path(path)
    tests = {test: read_results(test).summary for test in find_tests(path) if test.parent == path}
    metrics = read_metrics(path / "metrics.jsonl") if (path / "metrics.jsonl").exists() else []
    if not tests and not metrics:
        raise InputError(
            f"{path}: no metrics.jsonl and no test_*/summary.json: not a run's folder, or nothing has run yet"
        )
    run = describe_run(path) or Run(path, path.resolve().name, path.resolve().name, {}, path)
    tested = merge_equal(tests)
    parts = [*_training_line(run, metrics)]
    if tests:
        parts += _results(run, {title: tests[folder] for title, folder in tested.items()})
    if metrics:
        parts += [tag("h2", "Training"), _charts(metrics, path / "figures")]
    for title, folder in tested.items():
        parts += [tag("h2", f"{title}: best, median and worst case by Dice"), *_key(tests[folder]["classes"])]
        parts.append(_cases(folder, pick_cases(folder), folder / "figures"))
    if run.config:
        parts.append(tag("h2", "How it was made"))
        parts.append(_story(run, list(tests.values())))
    target = path / "report.html"
    write_text(target, page(" on ".join(filter(None, [run.name, _dataset(run, tests)])), parts))
    return target


def _dataset(run: Run, tests: Mapping[Path, dict]) -> str:
    names = [summary["dataset"] for summary in tests.values()] or [run.config.get("dataset", {}).get("name")]
    return names[0] or ""


def merge_equal(tests: Mapping[Path, dict]) -> dict[str, Path]:
    """What to call each test -> its folder; those of the same weights (best = last) with the same result are one."""
    groups: list[list[Path]] = []
    for folder, summary in tests.items():
        same = [group for group in groups if same_weights(tests[group[0]], summary)]
        if same:
            same[0].append(folder)
        else:
            groups.append([folder])
    titles = (" = ".join(folder.name[len("test_") :] for folder in group) + " weights" for group in groups)
    iterations = (tests[group[0]].get("iteration") for group in groups)
    return {
        title if iteration is None else f"{title}, iteration {iteration}": group[0]
        for title, iteration, group in zip(titles, iterations, groups)
    }


def same_weights(one: dict, other: dict) -> bool:
    """Whether two summaries of one run are of the same weights, tested alike: the best were the last."""
    return one.get("iteration") is not None and all(one.get(key) == other.get(key) for key in ("iteration", "metrics"))


def _training_line(run: Run, metrics: Sequence[dict]) -> Iterator[Html]:
    """How the run was trained, and how far it is."""
    if run.training:
        yield tag("p", tag("b", "Trained: "), f"{run.method}, {run.training}")
    done = metrics[-1]["iteration"] if metrics else None
    wanted = run.config.get("flags", {}).get("max_iterations")
    if done is not None and wanted is not None and done < wanted:
        yield tag("p", tag("b", "Not finished: "), f"iteration {done} of {wanted}")


def _results(run: Run, tested: Mapping[str, dict]) -> list[Html]:
    """The table of a run's tests (title -> summary) next to what is published, and its footnotes."""
    summaries = list(tested.values())
    first, hd95 = summaries[0], summaries[0].get("hd95", HD95[0])
    rows = [table_header(first["classes"], first["unit"], hd95=hd95)]
    rows += [table_row(title, summary) for title, summary in tested.items()]
    published = published_rows(first["dataset"], [(run.method, run.labelnum, run.preset)])
    rows += published_part(published, first["classes"], ALL_COLUMNS, hd95, first.get("kind", ""), bool(run.size))
    notes = [*footnotes(summaries), *size_notes([run]), *published_notes(published)]
    return [table(rows, f"Test of {first['cases']} cases"), listing(notes, "ol")]


def _charts(metrics: Sequence[dict], folder: Path) -> Html:
    """The curves of a run for its page, kept as PNG files, too."""
    charts = []
    for name, (title, figure) in draw_curves(metrics).items():
        with whole_file(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=110, facecolor="white")
        charts.append(tag("figure", inline_svg(figure, title)))
    return tag("div", *charts, class_="grid curves")


def _key(classes: Sequence[str]) -> list[Html]:
    """The legend of the pictures of cases."""
    colours = {name: class_colour(label) for label, name in enumerate(classes, start=1)}
    return [legend({**colours, **ERRORS}), tag("p", COUNTED, class_="small")]


def _cases(folder: Path, chosen: Mapping[str, tuple[str, float]], keep: Optional[Path] = None) -> Html:
    """Pictures of these cases of a test, or why there are none; kept as PNG files in a folder `keep`, too."""
    try:
        strips = draw_cases(folder, chosen)
        if keep:
            save_strips(strips, keep)
    except (InputError, OSError, ValueError) as error:
        return tag("p", f"no pictures: {error}", class_="small")
    parts = []
    for strip in strips:
        parts.append(tag("h4", f"{strip.title}: {strip.case}, Dice {strip.dice:.3f}, {strip.where}"))
        tiles = (
            tag("figure", image(encode(picture), f"{strip.case}, {strip.where}, {text}"), tag("figcaption", text))
            for text, picture in strip.tiles.values()
        )
        parts.append(tag("div", *tiles, class_="grid tiles"))
    return join(parts)


def as_html(blocks: Sequence[Block]) -> str:
    """The page of tables, a part for each block."""
    parts = []
    for block in blocks:
        parts.append(tag("h2", block.dataset))
        parts += [table(found.rows, found.caption) for found in block.tables]
        parts.append(listing(block.notes, "ol"))
        tested = [setting for setting in block.settings if setting.runs]
        if tested:
            parts += [*_boxes(tested), *_curves(tested), tag("h3", f"Worst {WORST} cases by mean Dice")]
            parts += [*_key(tested[0].classes), *map(_worst_cases, tested), tag("h3", "How each run was made")]
            for setting in tested:
                summaries = [test for tests in setting.tests.values() for test in tests]
                for run in setting.runs:
                    own = [test.summary for test in summaries if test.folder.parent == run.path]
                    parts.append(folded(run.name, _story(run, own)))
    return page("Results on " + ", ".join(dict.fromkeys(block.dataset for block in blocks)), parts)


def _boxes(settings: Sequence[Setting]) -> Iterator[Html]:
    """Box plots of the best and of the last weights; once where they are the same in all runs."""
    kinds = {"best": "best weights", "last": "last weights"}
    pairs = [zip(setting.tests.get("best", ()), setting.tests.get("last", ())) for setting in settings]
    if all(set(setting.tests) >= set(kinds) for setting in settings) and all(
        same_weights(best.summary, last.summary) for pair in pairs for best, last in pair
    ):
        kinds = {"best": "best weights, which are the last ones"}
    for kind, name in kinds.items():
        scores = {setting.name: setting.seed_mean(kind)[1]["dice"] for setting in settings if kind in setting.tests}
        if scores:
            charts = (tag("figure", inline_svg(*reversed(drawn))) for drawn in draw_boxes(settings[0].classes, scores))
            yield tag("h3", f"Dice over test cases by class, {name}")
            yield tag("div", *charts, class_="grid boxes")


def _curves(settings: Sequence[Setting]) -> Iterator[Html]:
    runs = {}
    for setting in settings:
        paths = [run.path / "metrics.jsonl" for run in setting.runs]
        runs[setting.name] = [read_metrics(path) for path in paths if path.exists()]
    charts = [tag("figure", inline_svg(figure, title)) for title, figure in draw_runs(runs)]
    if charts:
        yield tag("h3", "Training")
        yield tag("div", *charts, class_="grid curves")


def _worst_cases(setting: Setting) -> Html:
    """Pictures of the first seed's worst cases, or why there are none."""
    kind = "best" if "best" in setting.tests else next(iter(setting.tests))
    test = setting.tests[kind][0]
    worst = rank_cases(test.folder)[: -WORST - 1 : -1]
    chosen = {f"worst {place}": (case, dice) for place, (dice, case) in enumerate(worst, 1)}
    return join([tag("h4", test.summary["run"]), _cases(test.folder, chosen)])


def _story(run: Run, summaries: Sequence[dict]) -> Html:
    """Commands, code, device and versions of a run and its tests, and its config.json."""
    config = run.config
    changed = " with uncommitted changes" if config.get("uncommitted_changes") else ""
    lines = [
        ("train", config.get("command")),
        *(("test", command) for command in dict.fromkeys(s["command"] for s in summaries if "command" in s)),
        ("commit", f"{config.get('commit', 'not recorded')}{changed}"),
        ("device", str(config.get("device", "not recorded")).replace("device: ", "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())),
    ]
    lines.append(("size of the run's folder", folder_size(run.path)))
    for start in config.get("later_starts", []):
        lines.append(("also run as", f"{start['command']} (commit {start['commit']}, {start['device']})"))
    items = (tag("li", f"{name}: ", tag("code", text or "not recorded")) for name, text in lines)
    return join([tag("ul", *items), folded("config.json", tag("pre", json.dumps(config, indent=2)))])
