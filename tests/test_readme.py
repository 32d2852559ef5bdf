"""The README's commands name flags that the parsers have and paths that the tree has."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCSTRINGS = [path.read_text().split('"""')[1] for pattern in ("*.py", "scripts/*.py") for path in ROOT.glob(pattern)]


def commands():
    """Every `python X.py ...` and `bash X.sh ...` of the README's code blocks and the scripts' docstrings."""
    text = "\n".join([*re.findall(r"```bash\n(.*?)```", README, re.S), *DOCSTRINGS]).replace("\\\n", " ")
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    return sorted({line for line in lines if re.match(r"(python|bash) \S+\.(py|sh)", line)})


def test_there_are_commands_and_they_are_read():
    assert len(commands()) > 10
    assert any("test_ACDC.sh" in command for command in commands())


def help_of(script, capsys):
    """What a script prints for --help, by its main() in this process."""
    module = importlib.import_module(script[: -len(".py")].replace("/", "."))
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_every_script_exists_and_knows_its_flags(capsys):
    flags_of = {}
    for command in commands():
        _, script, *arguments = shlex.split(command)
        assert (ROOT / script).is_file(), command
        if script.endswith(".sh"):
            if "test_2d.py" not in (ROOT / script).read_text():
                continue
            script = "test_2d.py"
        if script not in flags_of:
            flags_of[script] = set(re.findall(r"--[a-zA-Z_0-9-]+", help_of(script, capsys)))
        flags = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
        assert flags <= flags_of[script], command


def test_every_path_named_exists():
    links = {target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target}
    folders = set(re.findall(r"^\| `([a-z]+/)`", README, re.M))
    assert len(links) > 5 and len(folders) >= 3
    missing = [target for target in links | folders if not (ROOT / target).exists()]
    assert missing == []


def test_documents_cite_sections_that_exist():
    methods = (ROOT / "docs/METHODS.md").read_text()
    sections = set(re.findall(r"^## (\d+)\.", methods, re.M))
    sources = [
        *ROOT.glob("*.py"),
        *ROOT.glob("utils/**/*.py"),
        *ROOT.glob("networks/**/*.py"),
        *ROOT.glob("dataloaders/**/*.py"),
    ]
    cited = {number for path in sources for number in re.findall(r"METHODS\.md sections? (\d)", path.read_text())}
    cited |= {
        number for path in sources for number in re.findall(r"METHODS\.md sections \d and (\d)", path.read_text())
    }
    assert cited and cited <= sections


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, re.S)


def test_own_network_and_loss_work_as_written():
    """The README's snippets, each of at most ten lines of code, executed where it says they go."""
    network, loss = python_blocks()
    for block in (network, loss):
        assert len([line for line in block.splitlines() if line.strip() and not line.startswith("#")]) <= 10

    table = {"nn": torch.nn, "NETWORKS": {}}
    exec(network, table)
    logits, feat = table["NETWORKS"]["tiny"](1, 3)(torch.zeros(2, 1, 16, 16))
    assert logits.shape == (2, 3, 16, 16) and feat.shape == (2, 16, 16, 16)

    table = {"F": torch.nn.functional}
    exec(loss, table)
    label = torch.randint(0, 3, (2, 4, 4))
    logits = torch.randn(2, 3, 4, 4)
    assert table["focal_loss"](logits, label, gamma=0.0).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, label).item(), abs=1e-6
    )
