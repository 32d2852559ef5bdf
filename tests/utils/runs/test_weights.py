import pytest
import torch

from dataloaders.files import InputError
from networks import net_factory
from utils.runs.weights import WeightsFile, fit_weights, load_what_fits


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"net": s, "opt": {"lr": 0.01}}, lambda s: {"state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_familys_formats_load(tmp_path, wrap, prefix):
    net = net_factory("unet", 1, 4)
    state = {prefix + name: value for name, value in net.state_dict().items()}
    torch.save(wrap(state), tmp_path / "a.pth")
    weights = WeightsFile.read(tmp_path / "a.pth")
    other = net_factory("unet", 1, 4)
    fit_weights(other, weights.state, tmp_path / "a.pth")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(net_factory("unet", 1, 9).state_dict(), path)
    with pytest.raises(InputError, match=r"2 of \d+ parameters do not fit this network \(decoder.out_conv.weight"):
        fit_weights(net_factory("unet", 1, 4), WeightsFile.read(path).state, path)
    torch.save({"iteration": 3}, path)
    with pytest.raises(InputError, match="a.pth: no network's weights in it"):
        WeightsFile.read(path)


def test_partial_loading_says_what_it_did(tmp_path):
    path = tmp_path / "a.pth"
    plain, proj = net_factory("unet", 1, 4), net_factory("unet_proj", 1, 4)
    complete, line = load_what_fits(proj, plain.state_dict(), path)
    assert not complete and "loaded 136 of 152 parameters; left as initialised: proj_head.0.weight" in line
    assert torch.equal(proj.decoder.out_conv.weight, plain.decoder.out_conv.weight)
    complete, line = load_what_fits(plain, proj.state_dict(), path)
    assert complete and "loaded 136 of 136 parameters; not used: proj_head.0.weight" in line and "and 11 more" in line
    with pytest.raises(InputError, match="none of its 1 parameters fits this network"):
        load_what_fits(plain, {"other": torch.zeros(1)}, path)
