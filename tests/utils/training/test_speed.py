"""Each speed flag leaves the objective what it is."""

import argparse
import importlib
import inspect

import pytest
import torch
from small_network import totals_of_ten_steps

import train_DuCiSC
import train_Ours_BCP
import train_Ours_MT
from dataloaders.files import InputError
from networks.net_factory import net_factory
from utils.training.speed import FAST, compiled, make_sgd, place, resolve_speed

CPU = torch.device("cpu")


def flags(**values):
    switches = dict.fromkeys(("fast", "channels_last", "compile", "cuda_graphs", "fused"), False)
    return argparse.Namespace(
        **{**switches, "amp": "off", "data_on": "auto", "root_path": None, "base_lr": 0.01, **values}
    )


@pytest.mark.parametrize("processor", ["flags : fpu avx512f", "flags : avx512_bf16", "flags : amx_bf16", None])
def test_fast_is_put_into_the_flags(processor, monkeypatch):
    def read_text(path):
        if processor is None:
            raise FileNotFoundError(path)  # not Linux
        return processor

    monkeypatch.setattr("utils.training.speed.Path.read_text", read_text)
    bf16 = "bf16" if processor and "bf16" in processor else "off"
    for name, channels_last in (("ACDC", True), ("LA", False)):  # in 3-D it was slower on a CPU
        args = flags(fast=True, name=name)
        resolve_speed(args, CPU)
        assert (args.channels_last, args.amp) == (channels_last, bf16) and not args.compile
    for chosen in FAST.values():
        assert chosen.keys() <= vars(args).keys()


def test_refusals():
    with pytest.raises(InputError, match="--data_on gpu needs a CUDA device"):
        resolve_speed(flags(data_on="gpu"), CPU)
    with pytest.raises(InputError, match="--cuda_graphs needs a CUDA device; --compile alone runs on a CPU too"):
        resolve_speed(flags(cuda_graphs=True), CPU)
    with pytest.raises(InputError, match="--fast takes --amp bf16 here, not fp16"):
        resolve_speed(flags(fast=True, amp="fp16", name="ACDC"), torch.device("cuda"))


def test_what_an_older_pytorch_lacks_is_refused_by_name_and_left_out_of_fast(monkeypatch):
    class SGD:
        def __init__(self, params, lr):
            pass

    monkeypatch.delattr(torch, "compiler", raising=False)
    monkeypatch.setattr(torch.optim, "SGD", SGD)
    for flag, version, device in (("compile", "2.1", "cpu"), ("cuda_graphs", "2.1", "cuda"), ("fused", "2.4", "cpu")):
        with pytest.raises(InputError, match=f"--{flag} needs PyTorch {version} or newer, this is "):
            resolve_speed(flags(**{flag: True}), torch.device(device))
    args = flags(fast=True, name="ACDC")
    resolve_speed(args, torch.device("cuda"))
    assert (args.amp, args.channels_last) == ("bf16", True) and not (args.compile or args.cuda_graphs or args.fused)


def still(net):
    """Dropout off: its draws depend on the layout."""
    for module in net.modules():
        if "Dropout" in type(module).__name__:
            module.eval()
    return net


@pytest.mark.parametrize("net_type, dims", [("unet_proj", 2), ("ducisc", 3)])
def test_channels_last_gives_the_same_numbers(net_type, dims):
    image, outputs = torch.rand(2, 1, *[32] * dims), []
    for args in (flags(), flags(channels_last=True)):
        torch.manual_seed(0)
        outputs.append(still(place(net_factory(net_type, 1, 2), CPU, args))(image))
    finest = [output[0] if dims == 2 else output[0][-1] for output in outputs]
    torch.testing.assert_close(*finest, rtol=0, atol=3e-4)  # BN over few values at the lowest level


def test_mixed_precision_gives_float32_and_leaves_evaluation_alone():
    torch.manual_seed(0)
    net = net_factory("unet_proj", 1, 4).train()
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        exact = still(net)(image)[0]
        net.eval()
        evaluated = net(image)[0]
        mixed = still(place(net, CPU, flags(amp="bf16")))
        logits, feat = mixed(image)
        z = mixed.proj_head(feat)
        assert logits.dtype == feat.dtype == z.dtype == torch.float32
        difference = (logits - exact).abs().max().item()
        assert 0 < difference < 0.1  # bfloat16 has eight bits
        mixed.eval()
        mixed.load_state_dict(net.state_dict())
        assert mixed(image)[0].dtype == evaluated.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in mixed.state_dict().values() if value.is_floating_point())


@pytest.mark.skipif(
    "fused" not in inspect.signature(torch.optim.SGD.__init__).parameters, reason="this PyTorch has no fused SGD"
)
def test_fused_sgd_takes_the_same_steps():
    nets = [torch.nn.Linear(4, 4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, fused in zip(nets, (False, True)):
        optimizer = make_sgd(net, flags(fused=fused))
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(nets[0].weight, nets[1].weight, rtol=0, atol=1e-6)


needs_compiler = pytest.mark.skipif(not hasattr(torch, "compiler"), reason="this PyTorch has no torch.compiler")


@needs_compiler
@pytest.mark.parametrize(
    "chosen, expected",
    [
        ({}, None),
        ({"compile": True}, {"mode": "default"}),
        ({"cuda_graphs": True}, {"backend": "cudagraphs"}),
        ({"compile": True, "cuda_graphs": True}, {"mode": "reduce-overhead"}),
    ],
)
def test_what_is_compiled_how(chosen, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    assert compiled(max, flags(**chosen), CPU)(3, 2) == 3
    assert asked == ([] if expected is None else [{"dynamic": False, "fullgraph": True, **expected}])


def traced_with(backend):
    """torch.compile with another backend, the rest as it is asked for."""
    return lambda f, mode, _compile=torch.compile, **options: _compile(f, backend=backend, **options)


@needs_compiler
@pytest.mark.parametrize(
    "script, graphs",
    [(train_Ours_MT, 1), (train_Ours_BCP, 2), (train_DuCiSC, 2)],  # two stages; before and after the warm-up
)
def test_compiled_steps_are_the_same_in_as_few_graphs_as_they_differ(script, graphs, phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    counter = importlib.import_module("torch._dynamo.testing").CompileCounter()
    importlib.import_module("torch._dynamo").reset()
    monkeypatch.setattr(torch, "compile", traced_with(counter))
    totals = [totals_of_ten_steps(script, flags, tmp_path / f"is{flags}", monkeypatch) for flags in ("", "--compile")]
    assert counter.frame_count == graphs
    assert totals[1] == pytest.approx(totals[0], rel=1e-3)
