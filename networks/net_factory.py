"""From a network's name to a network."""

from __future__ import annotations

import inspect

from torch import nn

from networks.unet import UNet, UNetDS, UNetProj
from networks.vnet import DuCiSCNet, VNet

# To add a network, add its class here: docs/EXTENDING.md
NETWORKS = {"unet": UNet, "unet_proj": UNetProj, "unet_ds": UNetDS, "vnet": VNet, "ducisc": DuCiSCNet}


def dimensions(net_type: str) -> tuple[int, ...]:
    """(2, 3) for a class that takes `dims`, else its attribute `dims` alone, 2 by default."""
    network = NETWORKS[net_type]
    return (2, 3) if "dims" in inspect.signature(network).parameters else (getattr(network, "dims", 2),)


def check_network(net_type: str, dims: int | None) -> None:
    """Raise ValueError for an unknown name or a dimension (2 or 3; None: any) that the network does not have."""
    if net_type not in NETWORKS:
        raise ValueError(f"unknown network '{net_type}': choose one of {', '.join(NETWORKS)}")
    own = dimensions(net_type)
    if dims is not None and dims not in own:
        raise ValueError(f"network '{net_type}' is {own[0]}-D, not {dims}-D")


def net_factory(net_type: str, in_channels: int = 1, num_classes: int = 4, dims: int | None = None) -> nn.Module:
    """Build the network called `net_type` with PyTorch's default initialisation, on the CPU.

    num_classes counts the background; dims: 2 or 3, by default 3 where the network has both. Raises ValueError as
    `check_network`.
    """
    check_network(net_type, dims)
    if len(dimensions(net_type)) == 2:
        return NETWORKS[net_type](in_channels, num_classes, dims or 3)
    return NETWORKS[net_type](in_channels, num_classes)
