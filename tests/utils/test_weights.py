import pytest
import torch

from dataloaders.errors import InputError
from networks import net_factory
from utils.weights import fit_weights, load_weights


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"net": s, "opt": {"lr": 0.01}}, lambda s: {"state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_familys_formats_load(tmp_path, wrap, prefix):
    net = net_factory("unet", 1, 4)
    state = {prefix + name: value for name, value in net.state_dict().items()}
    torch.save(wrap(state), tmp_path / "a.pth")
    weights = load_weights(tmp_path / "a.pth")
    other = net_factory("unet", 1, 4)
    fit_weights(other, weights.state, tmp_path / "a.pth")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(net_factory("unet", 1, 9).state_dict(), path)
    with pytest.raises(InputError, match=r"2 of \d+ parameters do not fit this network \(decoder.out_conv.weight"):
        fit_weights(net_factory("unet", 1, 4), load_weights(path).state, path)
    torch.save({"iteration": 3}, path)
    with pytest.raises(InputError, match="a.pth: no network's weights in it"):
        load_weights(path)
