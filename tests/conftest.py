"""What the tests share: the reference numbers, networks filled as they were made, small datasets."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from networks import net_factory
from scripts.make_phantom import make_phantom
from utils.evaluation.evaluate import CaseResult
from utils.evaluation.metrics import case_metrics
from utils.prototype_memory import PrototypeMemory
from utils.reports.results import write_results

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def numbers():
    """numbers("mt_steps") -> a dictionary of the reference's arrays."""
    return lambda name: dict(np.load(ROOT / "tests" / "data" / f"{name}.npz"))


@pytest.fixture(scope="session")
def tensors(numbers):
    """The same as tensors."""
    return lambda name: {
        key: torch.from_numpy(np.atleast_1d(value)) for key, value in numbers(name).items() if value.dtype.kind != "U"
    }


@pytest.fixture(scope="session")
def fill():
    """Fill a network's state from an integer seed, in the sorted order of its names, and switch its dropout off."""

    def fill_network(net, seed):
        rng = np.random.RandomState(seed)
        state = net.state_dict()
        for name in sorted(state):
            if name.endswith("num_batches_tracked"):
                continue
            shape = tuple(state[name].shape)
            draw = rng.standard_normal(shape).astype(np.float32)
            if name.endswith("running_var"):
                value = np.abs(draw) * 0.2 + 0.8
            elif name.endswith(("running_mean", "bias")):
                value = draw * 0.05
            elif len(shape) == 1:
                value = 1 + 0.1 * draw
            else:
                value = draw * np.float32(np.sqrt(2 / np.prod(shape[1:])))
            state[name].copy_(torch.from_numpy(np.asarray(value, dtype=np.float32)))
        for module in net.modules():
            if isinstance(module, (torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.Dropout3d)):
                module.p = 0.0
        return net

    return fill_network


# The parameters and buffers that the reference's double precision files carry, by their names there.
LAYERS = {
    "proj_head_first_conv_weight": "proj_head.0.weight",
    "encoder_first_conv_weight": "encoder.in_conv.conv_conv.0.weight",
    "out_conv_weight": "decoder.out_conv.weight",
    "out_conv_bias": "decoder.out_conv.bias",
    "running_mean": "encoder.in_conv.conv_conv.1.running_mean",
    "running_var": "encoder.in_conv.conv_conv.1.running_var",
    "proj_head_running_mean": "proj_head.1.running_mean",
}


@pytest.fixture(scope="session")
def assert_weights():
    """assert_weights(net, ref, "student_{}_after_0"): the network's layers equal the reference's to 1e-8."""

    def check(net, ref, pattern):
        for name, key in LAYERS.items():
            torch.testing.assert_close(net.state_dict()[key], ref[pattern.format(name)], rtol=0, atol=1e-8)

    return check


@pytest.fixture(scope="session")
def build(fill):
    """build(ref, dtype): student, teacher, memories and optimiser as the reference's SPC steps begin."""

    def build_spc(ref, dtype):
        student, teacher = (
            fill(net_factory("unet_proj", 1, 4), int(ref[f"{who}_weights_seed"])).to(dtype).train()
            for who in ("student", "teacher")
        )
        teacher.requires_grad_(False)
        memories = [PrototypeMemory(4, int(ref["memory_size"])).to(dtype) for _ in range(2)]
        optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        return student, teacher, memories, optimizer

    return build_spc


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """phantoms("ACDC") -> DATASET_HOME with a small phantom of it, made once; read it, do not change it."""
    home = tmp_path_factory.mktemp("phantoms")

    def make(name, **kwargs):
        if not (home / name).exists():
            make_phantom(name, home, **kwargs)
        return home

    return make


@pytest.fixture
def own_phantom(tmp_path):
    """A private phantom to damage: own_phantom("ACDC") -> its folder."""
    return lambda name, **kwargs: make_phantom(name, tmp_path / "home", **{"train": 3, "val": 1, "test": 1, **kwargs})


@pytest.fixture(scope="session")
def assert_same_state():
    """Two nested dictionaries of tensors and plain values are equal, bit for bit."""

    def check(a, b):
        assert a.keys() == b.keys()
        for key in a:
            if isinstance(a[key], torch.Tensor):
                assert torch.equal(a[key], b[key]), key
            elif isinstance(a[key], dict):
                check(a[key], b[key])
            else:
                assert str(a[key]) == str(b[key]), key  # as text: NaN equals NaN

    return check


@pytest.fixture(scope="session")
def start():
    """start("train_X.py", home, *flags) -> a running process of a script, with DATASET_HOME set, in its own group."""

    def run(script, home, *flags):
        env = {**os.environ, "DATASET_HOME": str(home)}
        command = [sys.executable, script, *map(str, flags)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **pipes)

    return run


@pytest.fixture(scope="session")
def kill_after():
    """kill_after(process, path): SIGKILL it at a random moment within a second after `path` appears."""

    def kill(process, path):
        deadline = time.time() + 120
        while not path.exists() and process.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        time.sleep(np.random.default_rng().uniform(0, 1))
        process.kill()
        process.wait()

    return kill


@pytest.fixture
def occupied():
    """occupied(folder, part) -> a running process that holds its lock."""
    code = (
        "import sys; from pathlib import Path; from utils.runs.lock import hold; "
        "hold(Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); sys.stdin.read()"
    )
    processes = []

    def occupy(folder, part=""):
        command = [sys.executable, "-c", code, str(folder), part]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield occupy
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def tested_run(tmp_path):
    """tested_run("Ours_MT_5", seed, offset, **flags) -> the folder of a run on ACDC with its tests, nothing trained.

    Twelve volumes of six patients, label squares and predictions moved by a random shift; `offset` makes them worse.
    patch: stated with the dataset's name, as real runs have it; about: more entries of summary.json.
    """

    def make(name, seed=1, offset=0, unit="voxel", method="Ours_MT", last=4, patch=None, about=(), **flags):
        run = tmp_path / "runs" / "ACDC" / name / f"seed_{seed}"
        run.mkdir(parents=True)
        preset = name.split("_5_")[1] if "_5_" in name else None
        flags = {"labelnum": 5, "labeled_cases": None, "preset": preset, "seed": seed, "batch_size": 8, **flags}
        flags = {"max_iterations": 4, **flags}
        config = {"method": method, "flags": flags, "labelled_cases": ["patient001"], "commit": "c" * 40}
        dataset = {"name": "ACDC", "patch_size": list(patch)} if patch else {"patch_size": [32, 32]}
        config.update(dataset=dataset, command=f"python train_{method}.py", versions={"torch": "2"})
        (run / "config.json").write_text(json.dumps(config))
        rows = [{"iteration": i, "loss/total": 1 / i, "val/dice": i / 9} for i in (1, 2, 3, 4)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for kind, iteration in (("best", 3), ("last", last)):
            rng = np.random.default_rng([seed, iteration, len(name)])
            said = {"dataset": "ACDC", "test_list_sha256": "t", "test_data_sha256": "d", "unit": unit, "nms": False}
            said.update(root=str(tmp_path), test_list=str(tmp_path / "test.list"), selection="mean Dice on val.list")
            said.update(run=f"{name} seed_{seed} {kind}", iteration=iteration, command="python test_2d.py")
            evaluated = (_scored(case, rng, offset) for case in CASES)
            write_results(run / f"test_{kind}", evaluated, ("RV", "Myo", "LV"), "ours", {**said, **dict(about)})
        return run

    return make


CASES = [f"patient{number:03d}_frame{frame:02d}" for number in range(101, 107) for frame in (1, 2)]


def _scored(case, rng, offset):
    """The result of one made-up case, and its prediction."""
    label = np.zeros((1, 24, 24), np.uint8)
    for index in (1, 2, 3):
        label[0, 6 * index : 6 * index + 5, 4:16] = index
    pred = np.roll(label, int(rng.integers(1, 4)) + offset, axis=2)
    empties = (np.zeros(3, dtype=bool) for _ in range(2))
    return CaseResult(case, case_metrics(pred, label, 4), *empties, 10.0), pred
