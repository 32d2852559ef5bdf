"""From a network's name to a network."""

from __future__ import annotations

from torch import nn

from networks.unet import UNet, UNetProj

NETWORKS = {"unet": UNet, "unet_proj": UNetProj}


def net_factory(net_type: str, in_channels: int = 1, num_classes: int = 4) -> nn.Module:
    """Build the network called `net_type` with PyTorch's default initialisation, on the CPU.

    num_classes counts the background. Raises ValueError for an unknown name.
    """
    if net_type not in NETWORKS:
        raise ValueError(f"unknown network '{net_type}': choose one of {', '.join(NETWORKS)}")
    return NETWORKS[net_type](in_channels, num_classes)
