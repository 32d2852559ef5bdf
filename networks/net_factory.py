"""From a network's name to a network."""

from __future__ import annotations

from torch import nn

from networks.unet import UNet, UNetDS, UNetProj
from networks.vnet import DuCiSCNet, VNet

NETWORKS = {"unet": UNet, "unet_proj": UNetProj, "unet_ds": UNetDS, "vnet": VNet, "ducisc": DuCiSCNet}
BOTH_DIMS = ("vnet", "ducisc")  # in 2-D and in 3-D


def check_network(net_type: str, dims: int | None) -> None:
    """Raise ValueError for an unknown name or a dimension (2 or 3; None: any) that the network does not have."""
    if net_type not in NETWORKS:
        raise ValueError(f"unknown network '{net_type}': choose one of {', '.join(NETWORKS)}")
    if net_type not in BOTH_DIMS and dims not in (None, 2):
        raise ValueError(f"network '{net_type}' is 2-D, not {dims}-D")


def net_factory(net_type: str, in_channels: int = 1, num_classes: int = 4, dims: int | None = None) -> nn.Module:
    """Build the network called `net_type` with PyTorch's default initialisation, on the CPU.

    num_classes counts the background; dims: 2 or 3, for `vnet` and `ducisc` (default 3). Raises ValueError as
    `check_network`.
    """
    check_network(net_type, dims)
    if net_type in BOTH_DIMS:
        return NETWORKS[net_type](in_channels, num_classes, dims or 3)
    return NETWORKS[net_type](in_channels, num_classes)
