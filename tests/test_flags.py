"""Every flag of every training script is read by some code, and has help with a default."""

import importlib
import re

import pytest

SCRIPTS = ["train_Ours_MT", "train_Ours_BCP", "train_DuCiSC"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_dead_flags(root, script):
    args = importlib.import_module(script).parse_args([])
    sources = [root / f"{script}.py", *(root / "utils").glob("*.py"), *(root / "dataloaders").glob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    dead = [name for name in vars(args) if not re.search(rf"\bargs\.{name}\b", text)]
    # the three list flags are read by role: find_list(..., args.train_list)
    assert dead == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_has_help_with_its_default(script, monkeypatch):
    from utils import options

    seen = []
    original = options.Parser.add_argument_group

    def spy(self, *args, **kwargs):
        group = original(self, *args, **kwargs)
        seen.append(group)
        return group

    monkeypatch.setattr(options.Parser, "add_argument_group", spy)
    importlib.import_module(script).parse_args([])
    actions = {action.dest: action for group in seen for action in group._group_actions if action.dest != "help"}
    without = [dest for dest, action in actions.items() if not action.help or "(default: " not in action.help]
    assert without == []
