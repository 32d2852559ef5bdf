"""From a network's name to a network."""

from __future__ import annotations

from torch import nn

from networks.unet import UNet, UNetDS, UNetProj
from networks.vnet import DuCiSCNet, VNet

NETWORKS = {"unet": UNet, "unet_proj": UNetProj, "unet_ds": UNetDS, "vnet": VNet, "ducisc": DuCiSCNet}


def net_factory(net_type: str, in_channels: int = 1, num_classes: int = 4, dims: int | None = None) -> nn.Module:
    """Build the network called `net_type` with PyTorch's default initialisation, on the CPU.

    num_classes counts the background; dims: 2 or 3, for `vnet` and `ducisc` (default 3). Raises ValueError for an
    unknown name or a dimension that the network does not have.
    """
    if net_type not in NETWORKS:
        raise ValueError(f"unknown network '{net_type}': choose one of {', '.join(NETWORKS)}")
    if net_type in ("vnet", "ducisc"):
        return NETWORKS[net_type](in_channels, num_classes, dims or 3)
    if dims not in (None, 2):
        raise ValueError(f"network '{net_type}' is 2-D, not {dims}-D")
    return NETWORKS[net_type](in_channels, num_classes)
