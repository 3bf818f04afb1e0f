"""The ResNet generator of the CycleGAN paper."""

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


class ResNetGenerator(nn.Module):
    """An image of one domain as one of the other: ``(B, C_in, *S)`` in [-1, 1] to ``(B, C_out, *S)`` in (-1, 1).

    Johnson et al., "Perceptual Losses for Real-Time Style Transfer", 2016, as Zhu et al. 2017 use it: down, residual
    blocks, up. Departure: resize-convolutions instead of transposed ones, norm and activation before each convolution.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        channels: Annotated[int, Field(gt=0, description="at full resolution; doubled at each level")] = 32,
        levels: Annotated[int, Field(ge=0, le=4, description="how often the size is halved")] = 2,
        blocks: Annotated[int, Field(ge=1, description="residual blocks at the coarsest level")] = 6,
        stem_kernel: Annotated[
            int, Field(ge=1, description="width of the first and the last kernel, odd; the paper's is 7")
        ] = 5,
        norm: Annotated[
            Norm, Field(description="channel: seam-free; instance: as in the papers, depends on the window")
        ] = "channel",
        places: Annotated[
            bool,
            Field(description="the first layer sees where each pixel lies, too; for whole slices, whose places tell"),
        ] = False,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels + 1)]
        self.multiple, self.block_types = 2**levels, (ResidualBlock,)
        stem = first_conv(spatial_dims, in_channels, widths[0], stem_kernel, places=places)
        layers: list[nn.Module] = [stem]
        for fine, coarse in pairwise(widths):
            layers += [NORMS[norm](fine), nn.SiLU(), conv(spatial_dims, fine, coarse, stride=2)]
        trunk = len(layers)  # where the residual blocks begin
        self._encoder_layers = [*range(3, trunk, 3), *sorted({trunk, trunk + blocks // 2})]
        self.encoder_channels = (in_channels, *widths[1:], *[widths[-1]] * (len(self._encoder_layers) - levels))
        layers += [ResidualBlock(spatial_dims, widths[-1], norm=norm) for _ in range(blocks)]
        for fine, coarse in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True):
            layers += [NORMS[norm](coarse), nn.SiLU(), Upsample(spatial_dims, coarse, fine)]
        layers += [NORMS[norm](widths[0]), nn.SiLU(), conv(spatial_dims, widths[0], out_channels, stem_kernel)]
        self.body = nn.Sequential(*layers)
        layout(spatial_dims, initialize(self, stem))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The image as padded, then the maps after each halving and after the first and the middle residual block.

        ``encoder_channels`` in all; with two levels the five layers of Park et al. 2020, section 4.
        """
        x = pad_to_multiple(image, self.multiple)
        maps = [x]
        for number, layer in enumerate(list(self.body)[: self._encoder_layers[-1] + 1]):
            x = layer(x)
            if number in self._encoder_layers:
                maps.append(x)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        x = cast(Tensor, self.body(pad_to_multiple(image, self.multiple)))
        return torch.tanh(crop_to(x, image.shape[2:]).float())
