"""The two networks of the SRGAN paper: SRResNet, which enlarges an image, and the critic of whole images."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from medgan.networks.blocks import SpatialDims, conv
from medgan.networks.dcgan import batch_norm, spatial_dims_of
from medgan.networks.resize import enlarged

Scale = Literal[2, 4]
BatchNorm = Literal["batch", "none"]


def _norm(kind: BatchNorm, spatial_dims: SpatialDims, channels: int) -> nn.Module:
    return batch_norm(spatial_dims, channels) if kind == "batch" else nn.Identity()


def shuffle(x: Tensor, factor: int) -> Tensor:
    """Channels laid out as voxels: ``(B, C * factor**n, *S)`` to ``(B, C, *(factor * S))``, n axes.

    Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", 2016, Equation 4; in 3D the channels of a voxel fill a cube.
    """
    batch, channels, *size = x.shape
    dims = len(size)
    x = x.reshape(batch, channels // factor**dims, *[factor] * dims, *size)
    order = [axis for n in range(dims) for axis in (2 + dims + n, 2 + n)]
    return x.permute(0, 1, *order).reshape(batch, -1, *(length * factor for length in size))


class SRResNet(nn.Module):
    """An image on a grid `scale` times as fine: ``(B, C, *S)`` in [-1, 1] to ``(B, C, *(scale * S))``, unbounded.

    Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017,
    Figure 4; in 3D voxels are shuffled instead of pixels. Departures: the network adds to a cubic enlargement (Kim et
    al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", 2016), which a short training would
    otherwise spend its time on, and has no batch norm (Lim et al., "Enhanced Deep Residual Networks for Single Image
    Super-Resolution", 2017, section 3.1: it hides the range of the intensities); ``norm: batch`` gives it back.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        channels: int,
        scale: Scale,
        *,
        features: Annotated[int, Field(gt=0, description="channels inside; the paper's are 64")] = 32,
        blocks: Annotated[int, Field(ge=1, description="residual blocks; the paper's are 16")] = 8,
        stem_kernel: Annotated[
            int, Field(ge=1, description="width of the first and the last kernel, odd; the paper's is 9")
        ] = 5,
        norm: Annotated[BatchNorm, Field(description="none, or batch as in the paper")] = "none",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.stem = nn.Sequential(conv(spatial_dims, channels, features, stem_kernel), nn.PReLU())
        body: list[nn.Module] = [_Residual(spatial_dims, features, norm) for _ in range(blocks)]
        self.body = nn.Sequential(*body, conv(spatial_dims, features, features), _norm(norm, spatial_dims, features))
        doublings = [_Double(spatial_dims, features) for _ in range(scale // 2)]
        self.head = nn.Sequential(*doublings, conv(spatial_dims, features, channels, stem_kernel))

    def forward(self, low: Tensor) -> Tensor:
        x = self.stem(low)
        return enlarged(low, self.scale) + cast(Tensor, self.head(x + self.body(x))).float()


class _Residual(nn.Module):
    def __init__(self, spatial_dims: SpatialDims, features: int, norm: BatchNorm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(spatial_dims, features, features),
            _norm(norm, spatial_dims, features),
            nn.PReLU(),
            conv(spatial_dims, features, features),
            _norm(norm, spatial_dims, features),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


class _Double(nn.Module):
    """Sub-pixel convolution: every side twice as long."""

    def __init__(self, spatial_dims: SpatialDims, features: int) -> None:
        super().__init__()
        self.conv = conv(spatial_dims, features, features * 2**spatial_dims)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(shuffle(self.conv(x), 2)))


class SRGANCritic(nn.Module):
    """One logit per image: ``(B, *image_shape)`` to ``(B, 1)``; pairs of convolutions, the second of each strided.

    Ledig et al. 2017, Figure 4; no sigmoid: the objective decides what a logit means. A class, where there are any, is
    seen as constant planes beside the image.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        features: Annotated[
            int, Field(gt=0, description="of the first pair, doubled in each; the paper's are 64")
        ] = 32,
        levels: Annotated[int, Field(ge=1, le=5, description="pairs, each halving the size; the paper's are 4")] = 3,
        hidden: Annotated[int, Field(gt=0, description="units of the dense layer; the paper's are 1024")] = 128,
        norm: Annotated[BatchNorm, Field(description="batch as in the paper, or none")] = "batch",
    ) -> None:
        super().__init__()
        channels, *size = image_shape
        dims = spatial_dims_of(image_shape)
        self.num_classes = num_classes
        widths = [features * min(2**level, 8) for level in range(levels)]
        body: list[nn.Module] = []
        for level, (before, width) in enumerate(pairwise([channels + num_classes, *widths])):
            first = [] if level == 0 else [_norm(norm, dims, width)]  # none on what comes straight from the image
            body += [conv(dims, before, width), *first, nn.LeakyReLU(0.2)]
            body += [conv(dims, width, width, stride=2), _norm(norm, dims, width), nn.LeakyReLU(0.2)]
        cells = prod(-(-length // 2**levels) for length in size)
        body += [nn.Flatten(), nn.Linear(widths[-1] * cells, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)]
        self.body = nn.Sequential(*body)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.num_classes:
            assert classes is not None, "this critic judges images of a class"
            planes = one_hot(classes, self.num_classes).to(images.dtype)
            planes = planes.reshape(*planes.shape, *[1] * (images.ndim - 2)).expand(-1, -1, *images.shape[2:])
            images = torch.cat([images, planes], dim=1)
        return cast(Tensor, self.body(images)).float()
