"""How a script ends."""

import argparse
import os
import subprocess
import sys

import pytest

from dataloaders.files import InputError
from utils.cli import Parser, new_file, new_folder, one_line_errors


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("a.h5: damaged"), 2, "error: a.h5: damaged\n"),
        (FloatingPointError("loss is NaN"), 1, "error: loss is NaN\n"),
        (MemoryError("3 TiB"), 1, "error: not enough memory, use smaller batches or patches (3 TiB)\n"),
        (
            RuntimeError("CUDA out of memory.\nSee the documentation"),
            1,
            "error: not enough memory, use smaller batches or patches (CUDA out of memory.)\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; rerun the same command to resume\n"),
    ],
)
def test_an_end_is_one_line(capsys, error, code, line):
    def main(argv=None):
        raise error

    with pytest.raises(SystemExit) as stop:
        one_line_errors(main)()
    assert stop.value.code == code and capsys.readouterr().err == line


def test_a_misspelt_flag_names_the_right_one(capsys):
    parser = Parser()
    parser.add_argument("--max_iterations")
    for flag, end in (("--max_iteration", " (did you mean --max_iterations?)\n"), ("--zzz", "--zzz 2\n")):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([flag, "2"])
        assert stop.value.code == 2 and capsys.readouterr().err.endswith(end)


def test_other_errors_keep_their_traceback():
    def main(argv=None):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError):
        one_line_errors(main)()


@pytest.mark.parametrize("given", [new_folder, new_file])
def test_a_folder_without_permission_is_refused(given, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(argparse.ArgumentTypeError, match="no permission to write in"):
        given(str(tmp_path / "new" / "runs"))


def test_a_reader_that_goes_is_no_traceback(root):
    program = "from utils.cli import one_line_errors\n@one_line_errors\ndef main(argv=None):\n    while 1: print('x')\n"
    command = f'{sys.executable} -c "{program}\nmain()" | head -1'
    result = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("x\n", "")
