import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--what"], "unknown argument --what; usage: bash scripts/demo.sh [--all]"),
        (["--iterations"], "--iterations needs a value"),
        (["--iterations", "0"], "--iterations 0 is not a whole number from 4"),
        (["--iterations", "1e3"], "--iterations 1e3 is not a whole number from 4"),
        (["--seed", "-1"], "--seed -1 is not a whole number from 0"),
        (["--name", "ACDC"], "--name: export DATASET_HOME=<the parent folder of ACDC/> first"),
    ],
)
def test_wrong_arguments_are_one_line_and_make_nothing(root, tmp_path, arguments, words):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = ["bash", str(root / "scripts/demo.sh"), *arguments]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == "" and not list(tmp_path.iterdir())
    assert words in result.stderr and result.stderr.count("\n") == 1


def test_packages_for_pictures_are_asked_for_before_anything_is_made(root, tmp_path):
    python = tmp_path / "python"  # has all but torchvision
    python.write_text('#!/bin/sh\necho "$*" | tr " " "\\n" | grep torchvision\n')
    python.chmod(0o755)
    for script in ("scripts/demo.sh", "scripts/test.sh"):
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": str(python)}
        result = subprocess.run(["bash", str(root / script)], env=env, capture_output=True, text=True)
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.startswith(f"error: PYTHON={python} lacks torchvision: install")


@pytest.mark.parametrize(
    "script", ["scripts/demo.sh", "scripts/test.sh", "scripts/environment.sh", "scripts/measure_gpu.sh", "test_ACDC.sh"]
)
def test_shell_scripts_parse(root, script):
    result = subprocess.run(["bash", "-n", script], cwd=root, env=os.environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
