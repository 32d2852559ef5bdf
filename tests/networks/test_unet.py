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


def test_unet_ds_has_the_encoder_of_unet_and_four_heads_in_order():
    plain, deep = (net_factory(name, 1, 4).state_dict() for name in ("unet", "unet_ds"))
    ups = [name for name in plain if ".up" in name]
    heads = [f"decoder1.out_conv{k}.{kind}" for k in (1, 2, 3, 4) for kind in ("weight", "bias")]
    encoder = [name for name in plain if name.startswith("encoder.")]
    assert list(deep) == [*encoder, *(name.replace("decoder.", "decoder1.") for name in ups), *heads]
    assert all(deep[name.replace("decoder.", "decoder1.")].shape == plain[name].shape for name in encoder + ups)
    shapes = [tuple(deep[f"decoder1.out_conv{k}.weight"].shape) for k in (1, 2, 3, 4)]
    assert shapes == [(4, 128, 1, 1), (4, 64, 1, 1), (4, 32, 1, 1), (4, 16, 1, 1)]
    assert sum(value.numel() for value in net_factory("unet_ds", 1, 4).parameters()) == 1_814_160


def test_unet_ds_gives_logits_coarse_to_fine_and_either_features():
    plain, deep = net_factory("unet", 1, 3).eval(), net_factory("unet_ds", 1, 3).eval()
    state = {name.replace("decoder.up", "decoder1.up"): value for name, value in plain.state_dict().items()}
    deep.load_state_dict({**deep.state_dict(), **{k: v for k, v in state.items() if "out_conv" not in k}})
    image = torch.rand(2, 1, 32, 48)
    with torch.no_grad():
        logits, feats = deep(image)
        _, last = plain(image)
        deep.feature_source = "decoder"
        _, outputs = deep(image)
    sizes = [(4, 6), (8, 12), (16, 24), (32, 48)]
    assert [tuple(x.shape) for x in logits] == [(2, 3, *size) for size in sizes]
    assert [x.shape[1:] for x in feats] == [(16, 32, 48), (32, 16, 24), (64, 8, 12), (128, 4, 6), (256, 2, 3)]
    assert [x.shape[1:] for x in outputs] == [x.shape[1:] for x in feats[:4]]
    torch.testing.assert_close(feats, plain.encoder(image))
    torch.testing.assert_close(outputs[0], last)  # the fourth up block's output is what `unet` hands out
    torch.testing.assert_close(logits[0], deep.decoder1.out_conv1(outputs[3]))
    with pytest.raises(ValueError, match=r"divisible by 16, got \(40, 32\)"):
        deep(torch.zeros(1, 1, 40, 32))


def test_dropout_by_level():
    net = net_factory("unet", 1, 2)
    rates = [module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.05, 0.1, 0.2, 0.3, 0.5, 0.0, 0.0, 0.0, 0.0]


def test_refusals():
    with pytest.raises(ValueError, match="unknown network 'unett': choose one of unet"):
        net_factory("unett")
    with pytest.raises(ValueError, match=r"divisible by 16, got \(40, 32\)"):
        net_factory("unet")(torch.zeros(1, 1, 40, 32))
