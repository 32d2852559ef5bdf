"""What the tests share: the reference numbers, networks filled as they were made, small datasets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.make_phantom import make_phantom

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
            if isinstance(module, (torch.nn.Dropout, torch.nn.Dropout3d)):
                module.p = 0.0
        return net

    return fill_network


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
    """A phantom of one's own to damage: own_phantom("ACDC") -> its folder."""
    return lambda name, **kwargs: make_phantom(name, tmp_path / "home", **{"train": 3, "val": 1, "test": 1, **kwargs})
