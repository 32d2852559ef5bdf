"""How a script ends."""

import subprocess
import sys

import pytest

from dataloaders.errors import InputError
from utils.options import one_line_errors


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("a.h5: damaged"), 2, "error: a.h5: damaged\n"),
        (FloatingPointError("loss is NaN"), 1, "error: loss is NaN\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on\n"),
    ],
)
def test_an_end_is_one_line(capsys, error, code, line):
    def main(argv=None):
        raise error

    with pytest.raises(SystemExit) as stop:
        one_line_errors(main)()
    assert stop.value.code == code and capsys.readouterr().err == line


def test_a_reader_that_goes_is_no_traceback(root):
    program = (
        "from utils.options import one_line_errors\n@one_line_errors\ndef main(argv=None):\n    while 1: print('x')\n"
    )
    command = f'{sys.executable} -c "{program}\nmain()" | head -1'
    result = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("x\n", "")
