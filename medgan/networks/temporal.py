"""The networks of DVD-GAN. Clark et al., "Adversarial Video Generation on Complex Datasets", 2019.

Films are ``(B, C, T, H, W)``, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.config import InputError
from medgan.networks.blocks import SpatialDims, conv, layout
from medgan.networks.dcgan import halvings, spatial_dims_of


class ConvGRU(nn.Module):
    """A gated recurrent unit whose states are maps: ``(B, T, C, H, W)`` to the same shape, frame after frame.

    Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations", 2016, with ReLU for
    the candidate as in Clark et al. 2019, appendix A. At the first frame there is nothing to keep: its state is the
    candidate alone, so that films do not begin with a fade.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_input = conv(2, channels, 3 * channels)
        self.of_state = conv(2, channels, 2 * channels)
        self.of_reset = conv(2, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        of_x = self.of_input(x.flatten(0, 1)).reshape(*x.shape[:2], -1, *x.shape[3:])
        gates_x, candidate_x = of_x[:, :, : 2 * x.shape[2]], of_x[:, :, 2 * x.shape[2] :]
        state = torch.zeros_like(x[:, 0])
        states = []
        for t in range(x.shape[1]):
            reset, keep = (gates_x[:, t] + self.of_state(state)).sigmoid().chunk(2, dim=1)
            candidate = (candidate_x[:, t] + self.of_reset(reset * state)).relu()
            state = keep * state + (1 - keep) * candidate if t else candidate
            states.append(state)
        return torch.stack(states, dim=1)


class LatentNorm(nn.Module):
    """Batch norm of ``(B, T, C, H, W)`` over films and frames, each film's scale and shift read off its latent."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Linear(latent_dim, channels), nn.Linear(latent_dim, channels)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        y = cast(Tensor, self.norm(x.flatten(0, 1))).reshape(x.shape)
        scale, shift = (part(latents)[:, None, :, None, None].to(y.dtype) for part in (self.scale, self.shift))
        return torch.addcmul(shift, y, 1 + scale)


class FrameBlock(nn.Module):
    """A residual block that doubles each frame: ``(B, T, C_in, H, W)`` to ``(B, T, C_out, 2H, 2W)``."""

    def __init__(self, in_channels: int, out_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([LatentNorm(in_channels, latent_dim), LatentNorm(out_channels, latent_dim)])
        self.first, self.second = conv(2, in_channels, out_channels), conv(2, out_channels, out_channels)
        self.skip = conv(2, in_channels, out_channels, 1)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        films = x.shape[:2]
        y = cast(Tensor, self.norms[0](x, latents)).relu().flatten(0, 1)
        y = self.first(F.interpolate(y, scale_factor=2.0)).unflatten(0, films)
        y = self.second(cast(Tensor, self.norms[1](y, latents)).relu().flatten(0, 1))
        skip = F.interpolate(self.skip(x.flatten(0, 1)), scale_factor=2.0)
        return cast(Tensor, (y + skip).unflatten(0, films))


class FilmGenerator(nn.Module):
    """Latents ``(B, latent_dim)`` to films ``(B, C, T, H, W)`` in [-1, 1].

    One small map, the same for every frame, goes through a `ConvGRU`, which lets the frames differ, and a block that
    doubles them, in turns until they have their size.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="at full resolution; doubled with each halving")] = 16,
        max_channels: Annotated[int, Field(gt=0, description="at most; multiples of 16 are quick in bf16")] = 64,
    ) -> None:
        super().__init__()
        if spatial_dims_of(image_shape) != 3:
            raise InputError(f"data: samples of shape {image_shape} are no films (C, T, H, W); use phantom_films")
        self.frames = image_shape[1]
        first, levels = halvings(image_shape[2:], 4)
        widths = [min(max_channels, channels << level) for level in range(levels, -1, -1)]
        self.embed = nn.Embedding(num_classes, latent_dim) if num_classes else None
        code = latent_dim * (2 if num_classes else 1)
        self.first = (widths[0], *first)
        self.start = nn.Linear(code, math.prod(self.first))
        self.memories = nn.ModuleList(ConvGRU(width) for width in widths[:-1])
        self.blocks = nn.ModuleList(FrameBlock(wide, narrow, code) for wide, narrow in pairwise(widths))
        self.norm = LatentNorm(widths[-1], code)
        self.head = conv(2, widths[-1], image_shape[0])
        orthogonal(self)
        layout(2, self)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            assert classes is not None, "a class-conditional network needs classes"
            latents = torch.cat([latents, self.embed(classes)], dim=1)
        x = self.start(latents).unflatten(1, self.first)[:, None].expand(-1, self.frames, -1, -1, -1)
        for memory, block in zip(self.memories, self.blocks, strict=True):
            x = block(memory(x), latents)
        x = cast(Tensor, self.norm(x, latents)).relu()
        return cast(Tensor, self.head(x.flatten(0, 1)).tanh().unflatten(0, x.shape[:2]).transpose(1, 2).float())


class CriticBlock(nn.Module):
    """A residual block that halves the axes it is told to: ``(B, C_in, *S)`` to ``(B, C_out, *S')``."""

    def __init__(
        self, spatial_dims: SpatialDims, in_channels: int, out_channels: int, halved: tuple[int, ...], *, first: bool
    ) -> None:
        super().__init__()
        self.one = spectral_norm(conv(spatial_dims, in_channels, out_channels))
        self.two = spectral_norm(conv(spatial_dims, out_channels, out_channels))
        self.skip = spectral_norm(conv(spatial_dims, in_channels, out_channels, 1))
        pool: Callable[..., nn.Module] = nn.AvgPool2d if spatial_dims == 2 else nn.AvgPool3d
        self.pool = pool(halved)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(F.relu(self.one(x if self.first else F.relu(x))))
        return cast(Tensor, self.pool(y) + self.skip(self.pool(x)))


class SpectralCritic(nn.Module):
    """Images or films ``(B, *image_shape)`` to raw logits ``(B, 1)``: residual, every weight spectrally normalised.

    Axes are halved while they are even and above 4, features summed over what is left, and a class adds the product of
    its embedding and these (Miyato and Koyama, "cGANs with Projection Discriminator", 2018). On films, all convolutions
    see time; in Clark et al. 2019, those of the first two blocks do. A film needs three frames: on a CPU, torch 2.13's
    bf16 gradient of a 3D convolution's weights is not finite where its first axis has two voxels.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="of the first block; doubled in each")] = 32,
        max_channels: Annotated[int, Field(gt=0, description="at most; multiples of 16 are quick in bf16")] = 128,
    ) -> None:
        super().__init__()
        dims = spatial_dims_of(image_shape)
        width, size = image_shape[0], image_shape[1:]
        blocks: list[nn.Module] = []
        while not blocks or max(size) > 4:
            halved = tuple(2 if n % 2 == 0 and n > 4 else 1 for n in size)
            if blocks and set(halved) == {1}:
                break
            wider = min(max_channels, channels << len(blocks))
            blocks.append(CriticBlock(dims, width, wider, halved, first=not blocks))
            width, size = wider, tuple(n // by for n, by in zip(size, halved, strict=True))
        blocks.append(CriticBlock(dims, width, width, (1,) * dims, first=False))
        self.body = nn.Sequential(*blocks)
        self.head = spectral_norm(nn.Linear(width, 1))
        self.embed = spectral_norm(nn.Embedding(num_classes, width)) if num_classes else None
        self.memory_format = torch.channels_last if dims == 2 else torch.channels_last_3d

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        features = F.relu(self.body(images.contiguous(memory_format=self.memory_format))).flatten(2).sum(dim=2)
        logits = cast(Tensor, self.head(features)).float()
        if self.embed is not None:
            assert classes is not None, "a class-conditional network needs classes"
            logits = logits + (self.embed(classes) * features).float().sum(dim=1, keepdim=True)
        return logits


def orthogonal(network: nn.Module) -> None:
    """Draw the weights of every convolution and linear layer orthogonal, biases 0 (Brock et al., "BigGAN", 2019)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
