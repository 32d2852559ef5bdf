"""docs/METHODS.md: its tables name functions that exist where they say, and its mathematics is set as mathematics."""

import importlib
import inspect
import re
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
METHODS = (ROOT / "docs/METHODS.md").read_text()
ROWS = re.findall(r"^\| (.+) \| `([\w.]+)` \| \[([\w/.]+\.py)\]\(\.\./([\w/.]+\.py)\) \|$", METHODS, re.M)


def test_the_tables_are_found():
    assert len(ROWS) >= 25
    assert len(ROWS) == len(re.findall(r"\]\(\.\./[\w/.]+\.py\) \|$", METHODS, re.M))
    assert any(name == "PrototypeMemory.enqueue" for _, name, _, _ in ROWS)


@pytest.mark.parametrize("symbol, name, text, target", ROWS)
def test_each_symbol_is_where_its_row_says(symbol, name, text, target):
    assert text == target
    found = attrgetter(name)(importlib.import_module(target[: -len(".py")].replace("/", ".")))
    assert callable(found)
    assert Path(inspect.getsourcefile(inspect.unwrap(found))) == ROOT / target, f"{name} is imported there, not defined"


def test_displayed_mathematics_stands_in_blocks_of_its_own():
    assert len(re.findall(r"^```math$", METHODS, re.M)) >= 10
    assert not re.search(r"[^\n]\n```math|\$\$", METHODS)
    assert not re.search(r"^    \S.*[=←]", re.sub(r"```.*?```", "", METHODS, flags=re.S), re.M)


def test_inline_mathematics_survives_markdown():
    """No bar that would split a table's row, no dollar left open, no escape that Markdown takes away."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", METHODS, flags=re.S)
    assert all(line.count("$") % 2 == 0 for line in text.splitlines())
    inline = re.findall(r"\$([^$\n]+)\$", text)
    assert len(inline) > 50
    assert [formula for formula in inline if re.search(r"\||\\[,;:!{}]", formula)] == []
