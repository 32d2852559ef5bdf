"""V-Net of the UA-MT / MC-Net family: plain (`vnet`) and with DuCiSC's deep supervision (`ducisc`), in 3-D or 2-D.

Attribute names fix the names of the parameters: checkpoints of this family load with strict=True.
Source: docs/METHODS.md section 4.
"""

from __future__ import annotations

import torch
from torch import nn

FILTERS = 16
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}


class Stage(nn.Module):
    """`layers`, each followed by BN and ReLU."""

    def __init__(self, layers: list[nn.Module], channels: int, dims: int):
        super().__init__()
        self.conv = nn.Sequential(
            *(module for layer in layers for module in (layer, BATCH_NORM[dims](channels), nn.ReLU(inplace=True)))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def block(dims: int, convs: int, in_channels: int, channels: int) -> Stage:
    """`convs` 3x3(x3) convolutions that keep the size."""
    widths = [in_channels, *[channels] * (convs - 1)]
    return Stage([CONV[dims](width, channels, kernel_size=3, padding=1) for width in widths], channels, dims)


def down(dims: int, in_channels: int, channels: int) -> Stage:
    """A strided convolution that halves the size."""
    return Stage([CONV[dims](in_channels, channels, kernel_size=2, stride=2)], channels, dims)


def up(dims: int, in_channels: int, channels: int) -> Stage:
    """A transposed convolution that doubles the size."""
    return Stage([CONV_TRANSPOSE[dims](in_channels, channels, kernel_size=2, stride=2)], channels, dims)


class VNet(nn.Module):
    """(B, in_channels, *size) -> (logits (B, C, *size), summed-skip features with 16, 32, 64, 128 channels).

    Every axis must be divisible by 16: raises ValueError otherwise.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, dims: int = 3):
        super().__init__()
        n = FILTERS
        self.block_one = block(dims, 1, in_channels, n)
        self.block_one_dw = down(dims, n, 2 * n)
        self.block_two = block(dims, 2, 2 * n, 2 * n)
        self.block_two_dw = down(dims, 2 * n, 4 * n)
        self.block_three = block(dims, 3, 4 * n, 4 * n)
        self.block_three_dw = down(dims, 4 * n, 8 * n)
        self.block_four = block(dims, 3, 8 * n, 8 * n)
        self.block_four_dw = down(dims, 8 * n, 16 * n)
        self.block_five = block(dims, 3, 16 * n, 16 * n)
        self.block_five_up = up(dims, 16 * n, 8 * n)
        self.block_six = block(dims, 3, 8 * n, 8 * n)
        self.block_six_up = up(dims, 8 * n, 4 * n)
        self.block_seven = block(dims, 3, 4 * n, 4 * n)
        self.block_seven_up = up(dims, 4 * n, 2 * n)
        self.block_eight = block(dims, 2, 2 * n, 2 * n)
        self.block_eight_up = up(dims, 2 * n, n)
        self.block_nine = block(dims, 1, n, n)
        self.out_conv = CONV[dims](n, num_classes, kernel_size=1)
        self.dropout = DROPOUT[dims](0.5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if any(size % 16 for size in x.shape[2:]):
            raise ValueError(f"every axis must be divisible by 16, got {tuple(x.shape[2:])}")
        x1 = self.block_one(x)
        x2 = self.block_two(self.block_one_dw(x1))
        x3 = self.block_three(self.block_two_dw(x2))
        x4 = self.block_four(self.block_three_dw(x3))
        x5 = self.dropout(self.block_five(self.block_four_dw(x4)))
        feat_4 = self.block_five_up(x5) + x4
        feat_3 = self.block_six_up(self.block_six(feat_4)) + x3
        feat_2 = self.block_seven_up(self.block_seven(feat_3)) + x2
        feat_1 = self.block_eight_up(self.block_eight(feat_2)) + x1
        logits = self.out_conv(self.dropout(self.block_nine(feat_1)))
        return logits, [feat_1, feat_2, feat_3, feat_4]


class DuCiSCNet(VNet):
    """`VNet` with outputs on the three coarser summed-skip features.

    -> (logits at scales 1/8, 1/4, 1/2, 1: coarse to fine; summed-skip features, fine to coarse).
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, dims: int = 3):
        super().__init__(in_channels, num_classes, dims)
        for level in (2, 3, 4):
            self.add_module(f"out_conv_{level}", CONV[dims](FILTERS * 2 ** (level - 1), num_classes, kernel_size=1))

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        logits, feats = super().forward(x)
        _, feat_2, feat_3, feat_4 = feats
        return [self.out_conv_4(feat_4), self.out_conv_3(feat_3), self.out_conv_2(feat_2), logits], feats
