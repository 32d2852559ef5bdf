"""What a GPU machine needs: torch, numpy, scipy, h5py, tqdm, tensorboard and pytest; pictures need more."""

import subprocess
import sys

OPTIONAL = "SimpleITK nibabel medpy submitit ruff"  # imported where they are used
PROGRAM = """
import importlib, sys
from pathlib import Path

for name in sys.argv[1:]:
    sys.modules[name] = None  # an import raises ModuleNotFoundError
sys.path[:0] = [".", "tests"]
from dataloaders.files import InputError

folders = ("dataloaders", "networks", "utils", "scripts")
paths = [*Path().glob("*.py"), *(path for folder in folders for path in Path(folder).rglob("*.py"))]
for path in [*paths, Path("tests/conftest.py"), Path("tests/test_gpu.py")]:
    name = ".".join(path.with_suffix("").parts).replace(".__init__", "")
    try:
        importlib.import_module(name)
    except InputError as error:
        print(name, error)
print(len(paths))
"""
DRAWING = (
    "utils.reports.figures",
    "utils.reports.report_page",
)  # say what they lack; imported only where something is drawn


def test_every_module_is_imported_without_the_optional_packages(root):
    for pictures in ("", "torchvision matplotlib PIL"):
        command = [sys.executable, "-c", PROGRAM, *OPTIONAL.split(), *pictures.split()]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        *refused, count = result.stdout.splitlines()
        assert int(count) > 60
        assert sorted(line.split()[0] for line in refused) == (sorted(DRAWING) if pictures else [])
        assert all("pictures need matplotlib and torchvision" in line for line in refused)


TRAINING = """
import sys

import torch

sys.path.insert(0, ".")
import train_DuCiSC
import train_Ours_BCP
import train_Ours_MT

torch.set_num_threads(1)
assert train_Ours_MT.main(sys.argv[1:]) in (0, None)
read = [name for name in sys.modules if name.split(".")[0] in ("SimpleITK", "nibabel") or "dataloaders.scans" in name]
sys.exit(", ".join(read) or None)
"""


def test_training_on_h5_files_reads_no_scans(root, tmp_path, own_phantom):
    """What reads scans, and the libraries for it, are not even imported by a whole run."""
    flags = "--batch_size 2 --labeled_bs 1 --max_iterations 1 --val_interval 1 --consistency_rampup 1 --num_workers 0"
    flags += f" --labeled_cases 1 --patch_size 32 32 --root_path {own_phantom('ACDC', train=2, shape=(2, 32, 32))}"
    command = [sys.executable, "-c", TRAINING, *flags.split(), "--output_dir", str(tmp_path)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.rglob("best.pth"))
