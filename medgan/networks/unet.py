"""The U-Net generator."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from medgan.networks.blocks import (
    NORMS,
    Norm,
    ResidualBlock,
    SpatialDims,
    Upsample,
    conv,
    crop_to,
    first_conv,
    initialize,
    layout,
    pad_to_multiple,
)


class Merge(nn.Module):
    """What comes from below and what was skipped, ``(B, C, *S)`` each, as one map of the same shape.

    Each is normalised first: the path from below, the longer one, would otherwise outgrow the other and blur it away.
    """

    def __init__(self, spatial_dims: SpatialDims, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm_below, self.norm_skip = NORMS[norm](channels), NORMS[norm](channels)
        self.mix = conv(spatial_dims, 2 * channels, channels, 1)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return cast(Tensor, self.mix(torch.cat([self.norm_below(below), self.norm_skip(skip)], dim=1)))


class UNetGenerator(nn.Module):
    """An image of one domain as one of the other: ``(B, C_in, *S)`` in [-1, 1] to ``(B, C_out, *S)`` in (-1, 1).

    Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, with residual
    blocks and resize-convolutions. Any size is welcome: it is padded to a multiple of ``2**levels`` inside.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        channels: Annotated[
            int, Field(gt=0, description="at full resolution; doubled at each level; multiples of 16 are fast")
        ] = 32,
        levels: Annotated[int, Field(ge=1, le=6, description="how often the size is halved")] = 3,
        blocks: Annotated[int, Field(ge=1, description="residual blocks per level and side")] = 1,
        max_channels: Annotated[int, Field(gt=0, description="at the deepest levels")] = 256,
        norm: Annotated[
            Norm, Field(description="channel: seam-free; instance: as in the papers, depends on the window")
        ] = "channel",
        places: Annotated[
            bool,
            Field(description="the first layer sees where each pixel lies, too; for whole slices, whose places tell"),
        ] = False,
    ) -> None:
        super().__init__()
        widths = [min(channels * 2**level, max_channels) for level in range(levels + 1)]
        self.multiple, self.block_types = 2**levels, (ResidualBlock, Merge)
        self.encoder_channels = (in_channels, *widths)
        self.stem = first_conv(spatial_dims, in_channels, widths[0], places=places)
        self.encoders = nn.ModuleList(_stack(spatial_dims, width, blocks, norm) for width in widths)
        self.downs = nn.ModuleList(conv(spatial_dims, fine, coarse, stride=2) for fine, coarse in pairwise(widths))
        self.ups = nn.ModuleList(Upsample(spatial_dims, coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.merges = nn.ModuleList(Merge(spatial_dims, width, norm) for width in widths[:-1])
        self.decoders = nn.ModuleList(_stack(spatial_dims, width, blocks, norm) for width in widths[:-1])
        self.head = nn.Sequential(NORMS[norm](widths[0]), nn.SiLU(), conv(spatial_dims, widths[0], out_channels))
        layout(spatial_dims, initialize(self, self.stem))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The image as padded, then the map of each level, finest first: ``encoder_channels`` in all."""
        maps = [pad_to_multiple(image, self.multiple)]
        x = self.stem(maps[0])
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else self.downs[level - 1](x))
            maps.append(x)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        _, *skips, x = self.encode(image)
        for level in reversed(range(len(skips))):
            x = self.decoders[level](self.merges[level](self.ups[level](x), skips[level]))
        return torch.tanh(crop_to(cast(Tensor, self.head(x)), image.shape[2:]).float())


def _stack(spatial_dims: SpatialDims, channels: int, blocks: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(spatial_dims, channels, norm=norm) for _ in range(blocks)))
