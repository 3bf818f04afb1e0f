"""DCGAN's networks. Radford et al., "Unsupervised Representation Learning with Deep Convolutional GANs", 2016."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from medgan.config import InputError
from medgan.networks.blocks import NORMS, SpatialDims, Upsample, conv

CriticNorm = Literal["batch", "instance", "channel", "none"]
WIDEST = 8  # times the channels at full resolution; wider than that, volumes do not fit


class DCGANSynthesizer(nn.Module):
    """Images from latents: ``(B, latent_dim)`` to ``(B, *image_shape)`` in [-1, 1].

    A small map is enlarged by two until it has the image's size, with batch norm and ReLU between (section 3). A class
    is an embedding beside the latent.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="at half resolution; doubled with each halving")] = 64,
        start: Annotated[int, Field(ge=1, description="least side of the first map; halving stops there")] = 4,
        upsampling: Annotated[
            Literal["transposed", "resize"],
            Field(description="transposed: the paper's; resize: enlarge, then convolve, which leaves no checkerboard"),
        ] = "transposed",
    ) -> None:
        super().__init__()
        dims = spatial_dims_of(image_shape)
        first, levels = halvings(image_shape[1:], start)
        widths = [channels * min(2**level, WIDEST) for level in reversed(range(levels))]
        self.first = (widths[0], *first)
        self.embedding = nn.Embedding(num_classes, latent_dim) if num_classes else None
        self.project = nn.Linear(latent_dim * (2 if num_classes else 1), math.prod(self.first), bias=False)
        body: list[nn.Module] = [batch_norm(dims, widths[0]), nn.ReLU()]
        for width, wider in zip(widths[1:], widths, strict=False):
            body += [_double(dims, wider, width, upsampling), batch_norm(dims, width), nn.ReLU()]
        body += [_double(dims, widths[-1], image_shape[0], upsampling), nn.Tanh()]
        self.body = nn.Sequential(*body)
        draw_weights(self)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            assert classes is not None, "a class-conditional network needs classes"
            latents = torch.cat([latents, self.embedding(classes)], dim=1)
        return cast(Tensor, self.body(self.project(latents).unflatten(1, self.first)))


class DCGANCritic(nn.Module):
    """One raw logit per image: ``(B, *image_shape)`` to ``(B, 1)``, by strided convolutions and LeakyReLU (section 3).

    A class adds the product of its embedding and the last features (Miyato and Koyama, "cGANs with Projection
    Discriminator", 2018, Equation 3).
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="at half resolution; doubled with each halving")] = 64,
        start: Annotated[int, Field(ge=1, description="least side of the last map; halving stops there")] = 4,
        norm: Annotated[
            CriticNorm, Field(description="batch: the paper's; a gradient penalty needs another (Gulrajani 2017)")
        ] = "batch",
        dropout: Annotated[float, Field(ge=0, lt=1, description="share of features left out; 0: off")] = 0.0,
    ) -> None:
        super().__init__()
        dims = spatial_dims_of(image_shape)
        last, levels = halvings(image_shape[1:], start)
        widths = [channels * min(2**level, WIDEST) for level in range(levels)]
        body: list[nn.Module] = []
        for level, width in enumerate(widths):
            body.append(conv(dims, widths[level - 1] if level else image_shape[0], width, 4, stride=2))
            body += [_norm(dims, norm, width)] if level else []  # none at the first: section 3
            body.append(nn.LeakyReLU(0.2))
            body += [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(*body)
        features = widths[-1] * math.prod(last)
        self.head = nn.Linear(features, 1)
        self.embedding = nn.Embedding(num_classes, features) if num_classes else None
        draw_weights(self)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        features = self.body(images).flatten(1)
        logits = cast(Tensor, self.head(features)).float()
        if self.embedding is not None:
            assert classes is not None, "a class-conditional network needs classes"
            logits = logits + (self.embedding(classes) * features).float().sum(dim=1, keepdim=True)
        return logits


def spatial_dims_of(image_shape: tuple[int, ...]) -> SpatialDims:
    """2 or 3, of images ``(C, *S)``.

    Raises:
        InputError: these are points, or have another number of axes.
    """
    dims = len(image_shape) - 1
    if dims == 2:
        return 2
    if dims == 3:
        return 3
    raise InputError(f"data: samples of shape {image_shape} are no images of 2 or 3 axes; choose the network 'mlp'")


def halvings(size: tuple[int, ...], start: int) -> tuple[tuple[int, ...], int]:
    """The smallest map that doubling brings to `size`, no side under `start`, and how many doublings that takes.

    Raises:
        InputError: not even one.
    """
    levels = 0
    while all(side % 2 == 0 and side // 2 >= start for side in size):
        size, levels = tuple(side // 2 for side in size), levels + 1
    if not levels:
        raise InputError(
            f"data: images of size {size} cannot be halved down to {start}; sides must be a multiple of "
            f"{2 * start}, or lower the network's start"
        )
    return size, levels


def batch_norm(dims: SpatialDims, channels: int) -> nn.Module:
    """Batch norm of maps with 2 or 3 spatial axes."""
    return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)


def _norm(dims: SpatialDims, norm: CriticNorm, channels: int) -> nn.Module:
    return batch_norm(dims, channels) if norm == "batch" else NORMS[norm](channels)


def _double(dims: SpatialDims, wider: int, width: int, upsampling: str) -> nn.Module:
    if upsampling == "resize":
        return Upsample(dims, wider, width)
    layer: Callable[..., nn.Module] = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
    return layer(wider, width, 4, stride=2, padding=1)


def draw_weights(network: nn.Module, std: float = 0.02) -> None:
    """Weights from N(0, std), scales of batch norms from N(1, std), biases 0 (section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.weight, 1.0, std)
