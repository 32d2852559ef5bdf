"""Which interpreter the shell scripts use and what is installed where: the interpreters here only note their calls."""

import os
import shutil
import subprocess
import sys

import pytest

TOOLS = "test_tools=yes"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def interpreter(folder, log, body="exit 0"):
    """A program folder/bin/python that adds its arguments to `log`."""
    path = folder / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\necho "{folder.name} $*" >>{log}\n{body}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def source(root, tmp_path):
    """source(settings="", **variables) -> (exit code, what was printed, calls of the interpreters)."""

    def run(settings="", **variables):
        log = tmp_path / "log"
        log.write_text("")
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **{k: str(v) for k, v in variables.items()}}
        program = f"set -euo pipefail; {settings or ':'}; source scripts/environment.sh; echo PYTHON=$PYTHON"
        result = subprocess.run(["bash", "-c", program], cwd=root, env=env, capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr, log.read_text().splitlines()

    return run


def test_a_named_interpreter_is_used_as_it_is(source, tmp_path):
    python = interpreter(tmp_path / "mine", tmp_path / "log")
    venv = interpreter(tmp_path / "venv", tmp_path / "log")
    code, out, calls = source(TOOLS, PYTHON=python, VIRTUAL_ENV=venv.parent.parent, CONDA_PREFIX=venv.parent.parent)
    assert (code, out) == (0, f"PYTHON={python}\n")
    assert len(calls) == 1 and "pip" not in calls[0] and calls[0].endswith("tensorboard pytest")
    assert not (tmp_path / "home").exists()


def test_what_a_named_interpreter_lacks_is_one_line(source, tmp_path):
    bare = tmp_path / "bare"  # a real Python that finds nothing but its own library
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    code, out, _ = source(PYTHON=bare)
    assert code == 2 and out.count("\n") == 1
    assert f"error: PYTHON={bare} lacks torch numpy scipy h5py tqdm tensorboard: install" in out
    assert "tensorboard matplotlib torchvision: install" in source("pictures=yes", PYTHON=bare)[1]
    assert "matplotlib torchvision pytest: install" in source("test_tools=yes pictures=yes", PYTHON=bare)[1]
    for other in (tmp_path / "nowhere", interpreter(tmp_path / "two", tmp_path / "log", "exit 1")):
        code, out, _ = source(PYTHON=other)
        assert code == 2 and out.count("\n") == 1 and "is not a Python 3 that runs" in out


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_gets_what_it_lacks_once_and_test_tools_only_for_tests(source, tmp_path, variable):
    active = interpreter(tmp_path / "active", tmp_path / "log").parent.parent
    code, out, calls = source(**{variable: active})
    assert code == 0 and out.endswith(f"PYTHON={active}/bin/python\n")
    assert calls == ["active -m pip install --quiet -r requirements.txt"]
    assert source(**{variable: active})[2] == []
    assert source(TOOLS, **{variable: active})[2] == ["active -m pip install --quiet -r tests/requirements.txt"]
    assert source(TOOLS, **{variable: active})[2] == []


def test_a_failed_installation_is_told_and_tried_again(source, tmp_path):
    active = interpreter(tmp_path / "active", tmp_path / "log", "exit 1").parent.parent
    for _ in range(2):
        code, out, calls = source(VIRTUAL_ENV=active)
        assert code == 2 and "error: pip could not install requirements.txt" in out and len(calls) == 1


@pytest.mark.parametrize("base", [True, False])
def test_without_an_environment_one_is_made(source, tmp_path, base):
    """In conda's base too: nothing is installed there; nor is there anything to install in a prefix without Python."""
    conda = interpreter(tmp_path / "conda", tmp_path / "log").parent.parent if base else tmp_path / "empty"
    make = tmp_path / "python3"  # venv: puts an interpreter into the folder
    new = interpreter(tmp_path / "new", tmp_path / "log")
    make.write_text(f'#!/bin/sh\n[ "$1" = --version ] || {{ mkdir -p "$3/bin"; cp {new} "$3/bin/python"; }}\n')
    make.chmod(0o755)
    name = "base" if base else "other"
    code, out, calls = source(CONDA_PREFIX=conda, CONDA_DEFAULT_ENV=name, PYTHON3=make)
    assert code == 0 and f"PYTHON={tmp_path}/home/.cache/spc-ducisc/environment-" in out
    assert calls == ["new -m pip install --quiet -r requirements.txt"]
