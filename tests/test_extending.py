"""docs/EXTENDING.md, carried out: each block goes where its first line says, then commands run as a user types them."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from scripts.make_phantom import make_phantom, make_scans

TINY = "--name ACDC --labeled_cases 2 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --num_workers 0"
TINY += " --max_iterations 2 --val_interval 2 --log_interval 1"


@pytest.fixture(scope="module")
def extended(root, tmp_path_factory):
    """A copy of the sources with all the page's additions, and data."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("dataloaders", "networks", "utils", "results"):
        shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for script in root.glob("*.py"):
        shutil.copy(script, copy)
    make_phantom("ACDC", copy / "data", train=4, val=1, test=2, shape=(4, 48, 48))
    make_scans("ACDC", copy / "scans", train=2, val=0, test=0, shape=(4, 48, 48))
    for name, block in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", (root / "docs/EXTENDING.md").read_text(), re.S):
        add(copy / name, block)
    return copy


def add(path, block):
    """A new file, an addition to a module, or new imports and assignments for a script."""
    if not path.exists():
        path.write_text(block)
    elif not path.name.startswith("train_"):
        path.write_text(f"{path.read_text()}\n\n{block}")
    else:
        lines = block.splitlines()
        imports = "".join(f"{line}\n" for line in lines if line.startswith("from "))
        text = path.read_text().replace("\nfrom utils", f"\n{imports}from utils", 1)
        for line in (line for line in lines if not line.startswith("from ")):
            pattern = rf"^( +){line.split(' = ')[0]} = .*$"
            text, count = re.subn(pattern, lambda match, new=line: match[1] + new, text, flags=re.M)
            assert count == 1, f"{count} lines in {path.name} for: {line}"
        path.write_text(text)


def run(extended, command, where=None):
    """(exit code, output) of a command line in the copy, or elsewhere."""
    env = {**os.environ, "DATASET_HOME": str(extended / "data"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=where or extended, env=env, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "script, message",
    [
        ("train_Ours_MT.py", "--net tiny: no proj_head in this network, .* --preset no-contrast"),
        ("train_DuCiSC.py", "--net tiny .* it gives logits at 1 of 4 scales; --preset supervised takes any number"),
    ],
)
def test_a_network_without_what_the_method_needs_ends_in_one_line(extended, script, message):
    code, out = run(extended, f"{script} {TINY} --net tiny")
    assert code == 2 and out.count("\n") == 1 and re.search(message, out), out


def test_a_network_and_a_metric_from_training_to_table_and_prediction(extended):
    code, out = run(extended, f"train_Ours_MT.py {TINY} --net tiny --preset no-contrast --exp tiny")
    assert code == 0, out
    code, out = run(extended, "test_2d.py --name ACDC --output_dir runs/ACDC/Ours_MT_2cases_tiny")
    assert code == 0 and "Sensitivity %" in out, out
    assert "preset no-contrast, network tiny, 2 labelled cases" in out, out
    weights = "runs/ACDC/Ours_MT_2cases_tiny/seed_1337/best.pth"
    code, out = run(extended, f"test_2d.py --weights {weights} --predict scans/images --out masks")
    assert code == 0 and "scans predicted" in out, out


def test_the_loss_replaces_the_one_in_the_script(extended, root):
    values = []
    for name, where in (("focal", extended), ("plain", root)):
        code, out = run(extended, f"train_Ours_MT.py {TINY} --preset supervised --output_dir {extended / name}", where)
        assert code == 0, out
        (metrics,) = (extended / name).rglob("metrics.jsonl")
        values.append(json.loads(metrics.read_text().splitlines()[0])["monitor/ce"])
    assert 0 < values[0] < values[1]  # each pixel's term is multiplied by (1 - p)^2


def test_a_method_in_one_file(extended):
    code, out = run(extended, f"train_CPS.py {TINY} --consistency_rampup 0")
    assert code == 0 and "loss/cps" in out, out
    code, out = run(extended, f"train_CPS.py {TINY} --consistency_rampup 0")
    assert code == 0 and "nothing to do" in out, out
    code, out = run(extended, "test_2d.py --name ACDC --output_dir runs/ACDC/CPS_2cases")
    assert code == 0 and "CPS_2cases" in out, out
