import pytest
import torch

from networks import net_factory


def test_names_and_shapes_are_those_of_the_family(root):
    lines = (root / "tests/data/state_dict_unet_proj.tsv").read_text().splitlines()
    expected = [tuple(line.split("\t")) for line in lines]
    state = net_factory("unet_proj", 1, 4).state_dict()
    assert [(name, str(tuple(value.shape))) for name, value in state.items()] == expected


def test_plain_unet_is_unet_proj_without_the_head():
    plain, proj = (net_factory(name, 1, 4).state_dict() for name in ("unet", "unet_proj"))
    assert list(plain) == [name for name in proj if not name.startswith("proj_head")]


def test_parameter_count():
    assert sum(p.numel() for p in net_factory("unet_proj", 1, 4).parameters()) == 1_814_596


@pytest.mark.parametrize("mode, tolerance", [("eval", 1e-5), ("train", 3e-4)])
def test_forward_gives_the_reference_numbers(tensors, fill, mode, tolerance):
    ref = tensors("unet_proj_forward")
    net = fill(net_factory("unet_proj", 1, 4), int(ref["weights_seed"])).train(mode == "train")
    with torch.no_grad():
        logits, feat = net(ref["x"])
        z = net.proj_head(feat)
    for name, value in (("logits", logits), ("features", feat), ("projection", z)):
        torch.testing.assert_close(value, ref[f"{mode}_{name}"], rtol=0, atol=tolerance)


def test_dropout_by_level():
    net = net_factory("unet", 1, 2)
    rates = [module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.05, 0.1, 0.2, 0.3, 0.5, 0.0, 0.0, 0.0, 0.0]


def test_refusals():
    with pytest.raises(ValueError, match="unknown network 'unett': choose one of unet"):
        net_factory("unett")
    with pytest.raises(ValueError, match=r"divisible by 16, got \(40, 32\)"):
        net_factory("unet")(torch.zeros(1, 1, 40, 32))
