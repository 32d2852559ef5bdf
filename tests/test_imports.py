"""What a GPU machine needs: torch, numpy, scipy, h5py, tqdm, tensorboard, matplotlib and pytest are enough."""

import subprocess
import sys

OPTIONAL = "SimpleITK nibabel medpy submitit ruff torchvision"  # imported where they are used
PROGRAM = """
import importlib, sys
from pathlib import Path

for name in sys.argv[1:]:
    sys.modules[name] = None  # an import raises ModuleNotFoundError
sys.path[:0] = [".", "tests"]
paths = [path for folder in (".", "dataloaders", "networks", "utils", "scripts") for path in Path(folder).glob("*.py")]
for path in [*paths, Path("tests/conftest.py"), Path("tests/test_gpu.py")]:
    name = ".".join(path.with_suffix("").parts).replace(".__init__", "")
    if not ("PIL" in sys.argv and name in ("utils.figures", "utils.report_page")):  # matplotlib needs pillow itself
        importlib.import_module(name)
print(len(paths))
"""


def test_every_module_is_imported_without_the_optional_packages(root):
    for names in (OPTIONAL, OPTIONAL + " PIL"):
        command = [sys.executable, "-c", PROGRAM, *names.split()]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) > 60
