"""Steps on tensors that claim to be on a GPU (FakeTensorMode), on machines without one.

Seen: a tensor on the wrong device, and whatever waits for the device: a copy to the host, a value of a tensor, a branch
on one, an index by a mask. Not seen: the backward pass and mixed precision, which ask for a CUDA context, kernels, and
speed; these are tests/test_gpu.py and scripts/measure_gpu.sh.
"""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import train_DuCiSC
import train_Ours_BCP
import train_Ours_MT
from dataloaders.augmentation import apply_strong, draw_strong, draw_weak, weak_index_maps
from networks import net_factory
from utils.copy_paste import box_mask
from utils.ema import update_parameters, update_state
from utils.prototype_memory import PrototypeMemory
from utils.pseudo_labels import largest_component
from utils.thresholds import ConfidenceThresholds
from utils.training.loop import Trainer
from utils.training.speed import place

GPU = torch.device("cuda", 0)
# In PyTorch 2.0 fake tensors on a GPU ask for its driver.
pytestmark = pytest.mark.skipif(not hasattr(torch, "compiler"), reason="needs PyTorch 2.1 or newer")


class NothingToTheHost(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sources = [value for value in args if isinstance(value, torch.Tensor)]
        to_host = isinstance(result, torch.Tensor) and result.device.type == "cpu"
        if to_host and any(source.device.type == "cuda" for source in sources):
            raise RuntimeError(f"{function}: a copy from the device to the host")
        return result


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kwargs: self)  # modules are made where they stay
    with FakeTensorMode(allow_non_fake_inputs=True), NothingToTheHost(), GPU:
        yield


def networks(name, dims, classes):
    flags = argparse.Namespace(amp="off", channels_last=False, compile=False)  # autocast asks for CUDA itself
    return [place(net_factory(name, 1, classes, dims), GPU, flags) for _ in range(2)]


def images(*shape):
    return torch.rand(*shape)


def labels(*shape, classes=4):
    return torch.randint(0, classes, shape)


def spc():
    """What both of SPC's objectives begin with: networks, memories, views, labels, draws."""
    memories = [PrototypeMemory(4) for _ in range(2)]
    views, draws = [images(8, 1, 32, 32) for _ in range(2)], [images(8), torch.arange(8)]
    return [*networks("unet_proj", 2, 4), *memories, *views, labels(4, 32, 32), *draws]


def mt_step():
    return train_Ours_MT.compute_losses(*spc(), 0.5)


def bcp_steps():
    student, *_, image_w, _, label, lam, perm = spc()
    mask = box_mask((2, 3, 21, 21), (32, 32), GPU)
    train_Ours_BCP.compute_pretrain_losses(student, image_w, label, lam, perm, mask)
    return train_Ours_BCP.compute_losses(*spc(), mask, 0.5)


def ducisc_step(name, size, classes):
    nets = networks(name, len(size), classes)
    thresholds = ConfidenceThresholds(classes)
    volumes, label = [images(2, 1, *size) for _ in range(2)], labels(2, *size, classes=classes)
    return train_DuCiSC.compute_losses(*nets, thresholds, *volumes, label, images(2).double(), True)


STEPS = {
    "MT": mt_step,
    "BCP": bcp_steps,
    "DuCiSC 2-D": lambda: ducisc_step("unet_ds", (32, 32), 4),
    "DuCiSC 3-D": lambda: ducisc_step("ducisc", (32, 32, 32), 2),
}


@pytest.mark.parametrize("name", STEPS)
def test_an_objective_stays_on_the_device(pretended, name):
    loss, terms = STEPS[name]()
    trainer = SimpleNamespace(done=1, pending=[])
    Trainer._note(trainer, loss, terms)
    (row,) = trainer.pending
    assert row[-1].device == GPU and loss.dtype in (torch.float32, torch.float64)


def test_views_teacher_and_pseudo_labels_are_made_on_the_device(pretended):
    rng, shapes = np.random.default_rng(0), [(40, 36), (33, 50)]
    index, _ = weak_index_maps([draw_weak(rng) for _ in shapes], shapes, (32, 32), GPU)
    assert index.device == GPU
    assert apply_strong(images(2, 32, 32), [draw_strong(rng) for _ in shapes]).device == GPU
    assert largest_component(labels(3, 32, 32), 4).device == GPU
    student, teacher = networks("unet", 2, 4)
    update_parameters(teacher, student, 0.99)
    update_state(teacher, student, 0.99)


@pytest.mark.parametrize(
    "slip",
    [
        lambda x: x + torch.ones(4, device="cpu"),
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: x.tolist(),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
    ],
    ids=["other device", "item", "cpu", "to", "tolist", "branch", "mask", "nonzero"],
)
def test_each_kind_of_slip_is_seen(pretended, slip):
    with pytest.raises(Exception):  # noqa: B017 (each has its own)
        slip(images(4))
    assert (images(4) * 2).device == GPU
