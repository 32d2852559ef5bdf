import pytest
import torch

from networks import net_factory


def test_names_and_shapes_are_those_of_the_family(root):
    lines = (root / "tests/data/state_dict_ducisc.tsv").read_text().splitlines()
    expected = [tuple(line.split("\t")) for line in lines]
    state = net_factory("ducisc", 1, 2).state_dict()
    assert [(name, str(tuple(value.shape))) for name, value in state.items()] == expected
    plain = net_factory("vnet", 1, 2).state_dict()
    assert list(plain) == [name for name in state if not name.startswith("out_conv_")]
    assert sum(p.numel() for p in net_factory("ducisc", 1, 2).parameters()) == 9_449_320


def test_forward_gives_the_reference_numbers(tensors, fill):
    ref = tensors("ducisc_forward")
    net = fill(net_factory("ducisc", 1, 2), int(ref["weights_seed"])).eval()
    plain = net_factory("vnet", 1, 2).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        logits, feats = net(ref["x"])
        finest, _ = plain(ref["x"])
    for scale in range(4):
        torch.testing.assert_close(logits[scale], ref[f"eval_logits_scale{scale}"], rtol=0, atol=1e-5)
        mean = feats[scale].mean(dim=(2, 3, 4))
        torch.testing.assert_close(mean, ref[f"eval_feature_mean_scale{scale}"], rtol=0, atol=1e-5)
    torch.testing.assert_close(finest, logits[-1])


def test_two_dimensions_by_an_argument():
    flat, solid = net_factory("ducisc", 1, 4, dims=2), net_factory("ducisc", 1, 4, dims=3)
    assert list(flat.state_dict()) == list(solid.state_dict())
    logits, feats = flat(torch.rand(2, 1, 32, 48))
    assert [tuple(x.shape) for x in logits] == [(2, 4, 4, 6), (2, 4, 8, 12), (2, 4, 16, 24), (2, 4, 32, 48)]
    assert [x.shape[1] for x in feats] == [16, 32, 64, 128]
    assert isinstance(flat.dropout, torch.nn.Dropout2d) and isinstance(solid.dropout, torch.nn.Dropout3d)
    assert flat.dropout.p == solid.dropout.p == 0.5
    with pytest.raises(ValueError, match="'unet' is 2-D, not 3-D"):
        net_factory("unet", dims=3)
    with pytest.raises(ValueError, match="every axis must be divisible by 16"):
        flat(torch.rand(1, 1, 40, 32))
