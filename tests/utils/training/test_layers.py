"""What the speed flags put in place of layers computes the same, or draws from the same distribution."""

import argparse
import copy
import importlib

import pytest
import torch
from torch import nn

from utils.training.layers import dropout, upsample_x2
from utils.training.speed import place

CPU = torch.device("cpu")
UPSAMPLE = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


def flags(**values):
    return argparse.Namespace(**{"amp": "off", "channels_last": False, "compile": False, **values})


def replaced(net):
    return [name for name, module in net.named_modules() if "forward" in vars(module)]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 3), (5, 8), (64, 48)])
def test_upsampling_by_sums_is_pytorchs(size):
    image = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = UPSAMPLE(image)
    gradient = torch.rand_like(expected)
    found = upsample_x2(image)
    torch.testing.assert_close(found, expected)
    found, expected = (torch.autograd.grad(output, image, gradient)[0] for output in (found, expected))
    torch.testing.assert_close(found, expected)
    assert upsample_x2(image.detach().bfloat16()).dtype == torch.bfloat16


def test_only_bilinear_doubling_is_replaced_and_only_for_compiled_training():
    others = [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True)]
    others.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    image = torch.rand(1, 1, 4, 4)
    for compile in (False, True):
        net = nn.Sequential(copy.deepcopy(UPSAMPLE), nn.Conv2d(1, 1, 1), *copy.deepcopy(others))
        net = place(net, CPU, flags(compile=compile))
        assert replaced(net) == ["0"] * compile
        torch.testing.assert_close(net[0](image), UPSAMPLE(image))
        assert torch.equal(net.eval()[0](image), UPSAMPLE(image))


def test_compiled_upsampling_adds_without_atomic_operations():
    """index_put in a backward graph means atomic additions, which made up a sixth of a compiled step."""
    common, decomposition = (
        importlib.import_module(f"torch.{name}") for name in ("_dynamo.backends.common", "_inductor.decomposition")
    )
    importlib.import_module("torch._inductor.lowering")  # some decompositions look there
    found = []
    for compile in (False, True):
        operations = set()

        def note(graph, inputs, operations=operations):
            operations.update(str(node.target) for node in graph.graph.nodes)
            return importlib.import_module("functorch.compile").make_boxed_func(graph.forward)

        backend = common.aot_autograd(
            fw_compiler=lambda graph, inputs: note(graph, inputs, set()),
            bw_compiler=note,
            decompositions=decomposition.select_decomp_table(),
        )
        net = place(nn.Sequential(copy.deepcopy(UPSAMPLE)), CPU, flags(compile=compile))
        torch.compile(net, backend=backend, fullgraph=True)(torch.rand(1, 2, 4, 6, requires_grad=True)).sum().backward()
        found.append(any("index_put" in operation for operation in operations))
        assert operations
    assert found == [True, False]


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_dropout_drops_and_scales_as_pytorchs(p):
    torch.manual_seed(0)
    x = torch.ones(10, 16, 64, 64).to(memory_format=torch.channels_last).bfloat16()
    y = dropout(x, p)
    assert y.dtype == x.dtype and y.stride() == x.stride()
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).bfloat16().item()}
    zeros = (y == 0).permute(0, 2, 3, 1).flatten().double()
    spread = (p * (1 - p)) ** 0.5
    for lane in range(4):  # the four draws from one random number
        assert abs(zeros[lane::4].mean() - p) < 4.5 * spread / (len(zeros) / 4) ** 0.5
    for distance in (1, 2, 3, 4):
        together = (zeros[:-distance] - p) * (zeros[distance:] - p)
        assert abs(together.mean()) < 4.5 * spread**2 / len(zeros) ** 0.5


def test_dropout_of_nearly_nothing_and_nearly_all():
    x = torch.ones(1000)
    assert torch.equal(dropout(x, 1e-9), x)
    assert (dropout(x, 1 - 1e-9) != 0).sum() < 10


def test_dropout_repeats_by_the_seed_and_hands_the_gradient_on():
    x = torch.rand(3, 5, 7, requires_grad=True)  # no multiple of four
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(dropout(x, 0.5))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    (gradient,) = torch.autograd.grad(outputs[0].sum(), x)
    torch.testing.assert_close(gradient * x, outputs[0])


def test_only_what_is_asked_for_on_a_cpu_is_replaced():
    def net():
        return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout2d(0.5), nn.Dropout(1.0))

    assert replaced(place(net(), CPU, flags())) == []
    assert replaced(place(net(), CPU, flags(amp="bf16"))) == ["", "1"]  # the network's own is mixed precision
    assert replaced(place(net(), CPU, flags(amp="bf16", compile=True))) == [""]
    mixed = place(net(), CPU, flags(amp="bf16")).eval()
    assert torch.equal(mixed[1](torch.ones(8)), torch.ones(8))


@pytest.mark.parametrize("conv, layout", [(nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d)])
def test_gradients_of_slices_arrive_channels_last(conv, layout):
    dims = 2 if conv is nn.Conv2d else 3
    arrived, results = [], []
    for channels_last in (False, True):
        torch.manual_seed(0)
        net = place(nn.Sequential(conv(1, 4, 3), nn.ReLU()), CPU, flags(channels_last=channels_last))
        net[1].register_full_backward_hook(lambda module, inputs, outputs: arrived.append(outputs[0]))
        image = torch.rand(4, 1, *[8] * dims).to(memory_format=layout)
        net(image)[2:].square().sum().backward()
        results.append(net[0].weight.grad)
    assert [gradient.is_contiguous(memory_format=layout) for gradient in arrived] == [False, True]
    torch.testing.assert_close(*results)
