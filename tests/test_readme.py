"""README and docs: commands that the scripts take, links, anchors and files that exist."""

import contextlib
import importlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from scripts import evidence
from utils.reports.results import over_runs, score_cell

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
RESULTS = sorted(ROOT.glob("results/*.md"))
README = (ROOT / "README.md").read_text()
SCRIPTS = [path for pattern in ("*.py", "scripts/*.py") for path in sorted(ROOT.glob(pattern))]
SHELL_FLAGS = {"test_ACDC.sh": "test_2d.py", "test_Synapse.sh": "test_2d.py"}  # they hand their flags on


def relative(path):
    return str(path.relative_to(ROOT))


def commands(text):
    """Every `python X.py ...` and `bash X.sh ...` in a text, one line each."""
    lines = [line.split(" #")[0].strip() for line in re.sub(r"\\+\n", " ", text).splitlines()]
    lines = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line) for line in lines]
    return [line for line in lines if re.match(r"(python|bash) \S+\.(py|sh)( |$)", line)]


def commands_of(path):
    """The commands of a page's bash blocks and inline code, or of a script's docstring."""
    text = path.read_text()
    if path.suffix == ".py":
        return commands(text.split('"""')[1])
    inline = re.findall(r"`((?:[A-Z_]+=\S+ )*(?:python|bash) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    return commands("\n".join([*blocks, *(" ".join(code.split()) for code in inline)]))


# What docs/EXTENDING.md adds: test_extending.py and test_custom_data.py run it.
OWN = ("train_CPS.py", "--net tiny", "--name MyACDC")
COMMANDS = sorted(
    command
    for command in {command for path in [*PAGES, *RESULTS, *SCRIPTS] for command in commands_of(path)}
    if not any(part in command for part in OWN)
)


def test_there_are_commands_on_every_page():
    assert len(COMMANDS) > 60
    without = [relative(page) for page in PAGES if not commands_of(page)]
    assert without == ["CHANGELOG.md"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT / "docs"], ids=relative)
def test_a_page_begins_with_the_command_its_reader_came_for(page):
    assert "```bash" in "\n".join(page.read_text().splitlines()[:6])


@pytest.fixture(scope="module")
def flags_of():
    """script.py -> the flags that its --help names, by its main() in this process."""
    found = {}

    def look_up(script):
        if script not in found:
            module = importlib.import_module(script[: -len(".py")].replace("/", "."))
            out = io.StringIO()
            with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
                module.main(["--help"])
            assert stop.value.code == 0
            found[script] = set(re.findall(r"--[a-zA-Z_0-9-]+", out.getvalue()))
        return found[script]

    return look_up


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_a_script_and_flags_that_exist(command, flags_of):
    _, script, *arguments = shlex.split(command)
    assert (ROOT / script).is_file()
    script = SHELL_FLAGS.get(script, script)
    given = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
    if script.endswith(".sh"):
        assert all(flag in (ROOT / script).read_text() for flag in given)
    else:
        assert given <= flags_of(script)


@pytest.mark.parametrize("command", [line for line in COMMANDS if re.match(r"python (train|test)_(?!.*--help)", line)])
def test_a_train_or_test_command_is_accepted_by_its_parser(command, monkeypatch, tmp_path, capsys):
    """Whole command lines with their values: presets, choices, flags that exclude each other."""
    _, script, *arguments = shlex.split(command)
    monkeypatch.setenv("DATASET_HOME", str(tmp_path))
    try:
        importlib.import_module(script[: -len(".py")]).parse_args(arguments)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def anchors(text):
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    found = []
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        anchor = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=relative)
def test_links_and_anchors_exist(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text())):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=relative)
def test_files_named_in_the_text_exist(page):
    named = set(re.findall(r"`((?:utils|dataloaders|networks|scripts|tests|results)/[\w/.]+\.\w+)`", page.read_text()))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_readme_is_a_front_page_and_links_every_page_of_the_docs():
    assert len(README.splitlines()) <= 160 and len(README.split()) <= 1300
    assert README.lower().count("not measured") + README.lower().count("not been measured") <= 2
    linked = set(re.findall(r"\]\((docs/\w+\.md)", README))
    assert linked == {relative(page) for page in PAGES if page.parent == ROOT / "docs"}


def test_documents_cite_sections_that_exist():
    sections = set(re.findall(r"^## (\d+)\.", (ROOT / "docs/METHODS.md").read_text(), re.M))
    folders = ("utils", "networks", "dataloaders")
    sources = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    cited = set()
    for path in sources:
        for first, second in re.findall(r"METHODS\.md sections? (\d)(?: and (\d))?", path.read_text()):
            cited |= {first, second} - {""}
    assert {"1", "2", "3", "4"} <= cited <= sections


@pytest.mark.parametrize("name", ["acdc_small", "ducisc_small_networks"])
def test_a_page_of_results_shows_its_record(name):
    page = (ROOT / "results" / f"{name}.md").read_text()
    record = json.loads((ROOT / "results" / f"{name}.json").read_text())
    for table in (evidence.summary_table(record), evidence.difference_table(record)):
        assert "\n".join(table) in page


def test_the_readme_shows_the_recorded_scores():
    record = json.loads((ROOT / "results" / "acdc_small.json").read_text())
    scores = [[seed["best"]["dice"] for seed in entry["seeds"].values()] for entry in record["settings"].values()]
    table = re.search(r"<!-- acdc-small table -->\n(.*?)\n<!-- /acdc-small", README, re.S).group(1).splitlines()
    assert [row.split(" | ")[2] for row in table[2:]] == [score_cell(*over_runs(dice), "dice") for dice in scores]
    assert all(len(dice) == 3 for dice in scores)
