"""Segmentors: MONAI's networks under the signature that the recipes use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, cast

from pydantic import Field
from torch import Tensor, nn

from medgan.networks.blocks import SpatialDims, crop_to, pad_to_multiple


class _Padded(nn.Module, ABC):
    """A body that halves the image several times, on images of any size: filled up to a `multiple`, then cut back."""

    body: nn.Module
    multiple: int
    spatial_dims: SpatialDims
    block_types: tuple[type[nn.Module], ...]

    def forward(self, image: Tensor) -> Tensor:
        logits = self.body(pad_to_multiple(image, self.multiple).contiguous())
        return crop_to(cast(Tensor, logits), image.shape[2:]).float()

    def encode(self, image: Tensor) -> Tensor:
        """What the coarsest level knows of an image ``(B, C, *S)``: ``(B, D, *ceil(S / multiple))``."""
        return self.coarsest(pad_to_multiple(image, self.multiple).contiguous()).float()

    @abstractmethod
    def coarsest(self, image: Tensor) -> Tensor:
        """The encoder alone; sizes are multiples of `multiple`."""


class SegResNetSegmentor(_Padded):
    """Class logits per voxel: ``(B, C, *S)`` to ``(B, classes, *S)``.

    MONAI's `SegResNet` (Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization", 2018, without
    the autoencoder), enlarging by interpolation.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        channels: Annotated[
            int, Field(gt=0, multiple_of=8, description="at full resolution; doubled at each level")
        ] = 16,
        levels: Annotated[int, Field(ge=1, le=5, description="how often the size is halved")] = 2,
        blocks: Annotated[int, Field(ge=1, description="residual blocks per level")] = 1,
    ) -> None:
        super().__init__()
        from monai.networks.blocks.segresnet_block import ResBlock
        from monai.networks.nets.segresnet import SegResNet

        self.multiple, self.spatial_dims, self.block_types = 2**levels, spatial_dims, (ResBlock,)
        self.body = SegResNet(
            spatial_dims=spatial_dims,
            init_filters=channels,
            in_channels=in_channels,
            out_channels=out_channels,
            blocks_down=(blocks,) * (levels + 1),
            blocks_up=(1,) * levels,
        )

    def coarsest(self, image: Tensor) -> Tensor:
        """The deepest of MONAI's levels."""
        return cast(Tensor, cast(Any, self.body).encode(image)[0])


class UNetSegmentor(_Padded):
    """Class logits per voxel: ``(B, C, *S)`` to ``(B, classes, *S)``.

    MONAI's `BasicUNet` (Falk et al., "U-Net: deep learning for cell counting, detection, and morphometry", 2019) with
    interpolation instead of transposed convolutions. It enlarges by exactly two: to align the corners, as MONAI does,
    would move a voxel by what its window measures.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        channels: Annotated[
            int, Field(gt=0, multiple_of=8, description="at full resolution; up to 8 times as many at the coarsest")
        ] = 16,
    ) -> None:
        super().__init__()
        from monai.networks.nets.basic_unet import BasicUNet, TwoConv

        self.multiple, self.spatial_dims, self.block_types = 16, spatial_dims, (TwoConv,)
        widths = (channels, channels, channels * 2, channels * 4, channels * 8, channels)
        self.body = BasicUNet(
            spatial_dims, in_channels, out_channels, widths, norm=("group", {"num_groups": 8}), upsample="nontrainable"
        )
        for module in self.body.modules():
            if isinstance(module, nn.Upsample):
                module.align_corners = False

    def coarsest(self, image: Tensor) -> Tensor:
        """The deepest of MONAI's levels."""
        body = cast(Any, self.body)
        for level in (body.conv_0, body.down_1, body.down_2, body.down_3, body.down_4):
            image = level(image)
        return image
