import os
import shutil
import subprocess

import pytest


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_wrong_arguments_print_the_usage_and_make_nothing(root, tmp_path):
    result = subprocess.run(["bash", str(root / "scripts/demo.sh"), "--what"], capture_output=True, text=True)
    assert result.returncode == 2 and "bash scripts/demo.sh" in result.stderr and result.stdout == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "script", ["scripts/demo.sh", "scripts/test.sh", "scripts/environment.sh", "scripts/measure_gpu.sh", "test_ACDC.sh"]
)
def test_shell_scripts_parse(root, script):
    result = subprocess.run(["bash", "-n", script], cwd=root, env=os.environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
