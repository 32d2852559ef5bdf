"""2-D U-Net of the SSL4MIS family: plain (`unet`), with SPC's projection head (`unet_proj`), and with an output at each
of the decoder's four scales (`unet_ds`, DuCiSC in 2-D).

Attribute names fix the names of the parameters: checkpoints of this family load with strict=True.
Source: docs/METHODS.md sections 1 and 4.
"""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = (16, 32, 64, 128, 256)  # by level, fine to coarse
ENCODER_DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)  # by level; the decoder has none


class ConvBlock(nn.Module):
    """conv3x3 - BN - LeakyReLU - Dropout - conv3x3 - BN - LeakyReLU: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float):
        super().__init__()
        self.conv_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_conv(x)


class DownBlock(nn.Module):
    """Max-pool by 2, then a block: (B, in, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), ConvBlock(in_channels, out_channels, dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maxpool_conv(x)


class UpBlock(nn.Module):
    """conv1x1 to the skip's width, bilinear x2, concatenate [skip, up], block."""

    def __init__(self, in_channels: int, skip_channels: int):
        super().__init__()
        self.conv1x1 = nn.Conv2d(in_channels, skip_channels, kernel_size=1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = ConvBlock(2 * skip_channels, skip_channels, dropout=0.0)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([skip, self.up(self.conv1x1(x))], dim=1))


class Encoder(nn.Module):
    """Five levels of features, fine to coarse."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.in_conv = ConvBlock(in_channels, CHANNELS[0], ENCODER_DROPOUT[0])
        for level in range(1, 5):
            self.add_module(f"down{level}", DownBlock(CHANNELS[level - 1], CHANNELS[level], ENCODER_DROPOUT[level]))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        feats = [self.in_conv(x)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            feats.append(down(feats[-1]))
        return feats


class UpPath(nn.Module):
    """Four up blocks: from the encoder's five levels to the blocks' outputs, coarse to fine (128 ... 16 channels)."""

    def __init__(self):
        super().__init__()
        for level in range(1, 5):
            self.add_module(f"up{level}", UpBlock(CHANNELS[5 - level], CHANNELS[4 - level]))

    def outputs(self, feats: list[torch.Tensor]) -> list[torch.Tensor]:
        outputs = [feats[-1]]
        for up, skip in zip((self.up1, self.up2, self.up3, self.up4), reversed(feats[:-1])):
            outputs.append(up(outputs[-1], skip))
        return outputs[1:]


class Decoder(UpPath):
    """From the five levels to (logits B,C,H,W; features B,16,H,W before the output convolution)."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.out_conv = nn.Conv2d(CHANNELS[0], num_classes, kernel_size=3, padding=1)

    def forward(self, feats: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.outputs(feats)[-1]
        return self.out_conv(x), x


class DeepDecoder(UpPath):
    """From the five levels to (logits at scales 1/8, 1/4, 1/2, 1; the features behind them), both coarse to fine."""

    def __init__(self, num_classes: int):
        super().__init__()
        for head in range(1, 5):
            self.add_module(f"out_conv{head}", nn.Conv2d(CHANNELS[4 - head], num_classes, kernel_size=1))

    def forward(self, feats: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        outputs = self.outputs(feats)
        heads = (self.out_conv1, self.out_conv2, self.out_conv3, self.out_conv4)
        return [head(x) for head, x in zip(heads, outputs)], outputs


def check_size(x: torch.Tensor) -> None:
    """Raise ValueError for images (B, C, H, W) that four max-pools would not halve evenly."""
    if x.shape[-1] % 16 or x.shape[-2] % 16:
        raise ValueError(f"height and width must be divisible by 16, got {tuple(x.shape[-2:])}")


class UNet(nn.Module):
    """2-D U-Net: (B, in_channels, H, W) -> (logits B,C,H,W; features B,16,H,W).

    H and W must be divisible by 16: raises ValueError otherwise.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 4):
        super().__init__()
        self.encoder = Encoder(in_channels)
        self.decoder = Decoder(num_classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        check_size(x)
        return self.decoder(self.encoder(x))


class UNetProj(UNet):
    """`UNet` with SPC's projection head, which the objective calls separately: z = net.proj_head(features).

    The head keeps the shape (B, 16, H, W).
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 4):
        super().__init__(in_channels, num_classes)
        width = CHANNELS[0]
        self.proj_head = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width, affine=False),
        )


class UNetDS(nn.Module):
    """`unet` with deep supervision, the 2-D network of DuCiSC's release: a 1x1 head on the output of each up block.

    (B, in_channels, H, W) -> (logits at scales 1/8, 1/4, 1/2, 1: coarse to fine; features, fine to coarse). The
    features are the encoder's five levels (16 ... 256 channels), as the release hands them out; with
    `feature_source = "decoder"` the inputs of the four heads (16 ... 128 channels). H and W must be divisible by 16:
    raises ValueError otherwise.
    """

    feature_source = "encoder"

    def __init__(self, in_channels: int = 1, num_classes: int = 4):
        super().__init__()
        self.encoder = Encoder(in_channels)
        self.decoder1 = DeepDecoder(num_classes)

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        check_size(x)
        feats = self.encoder(x)
        logits, outputs = self.decoder1(feats)
        return logits, feats if self.feature_source == "encoder" else outputs[::-1]
