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

_SMALL = 0.2  # of the numbers that turn, beside the latent's: movement comes in as it is learnt


class ConvGRU(nn.Module):
    """A gated recurrent unit whose states are maps: ``(B, T, C, H, W)`` to the same shape, frame after frame.

    Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations", 2016, with ReLU for
    the candidate as in Clark et al. 2019, appendix A. Departure: the state of the first frame is what the unit comes to
    after `settle` steps on its input, from the candidate alone on, so that films do not begin with a fade.
    """

    def __init__(self, channels: int, settle: int = 3) -> None:
        super().__init__()
        self.settle = settle
        self.of_input = conv(2, channels, 3 * channels)
        self.of_state = conv(2, channels, 2 * channels)
        self.of_reset = conv(2, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        of_x = self.of_input(x.flatten(0, 1)).reshape(*x.shape[:2], -1, *x.shape[3:])
        gates_x, candidate_x = of_x[:, :, : 2 * x.shape[2]], of_x[:, :, 2 * x.shape[2] :]
        state = candidate_x[:, 0].relu()  # nothing to keep yet
        states = []
        for t in [0] * self.settle + list(range(x.shape[1])):
            reset, keep = (gates_x[:, t] + self.of_state(state)).sigmoid().chunk(2, dim=1)
            candidate = (candidate_x[:, t] + self.of_reset(reset * state)).relu()
            state = keep * state + (1 - keep) * candidate
            states.append(state)
        return torch.stack(states[self.settle :], dim=1)


class Rhythms(nn.Module):
    """A film's latent as a code of each frame: ``(B, latent_dim)`` to ``(B, T, latent_dim + 2 * count)``.

    Pairs of numbers read off the latent turn with time, at speeds that are its own, too. A recurrence that sees the
    same at every frame can only come to rest or drift away; what breathes has to return. After the motion codes of
    Skorokhodov et al., "StyleGAN-V: A Continuous Video Generator with the Price, Image Quality and Perks of StyleGAN2",
    2022, section 3.1, whose phases are drawn.
    """

    turns: Tensor
    times: Tensor

    def __init__(self, latent_dim: int, frames: int, count: int) -> None:
        super().__init__()
        self.pairs, self.speeds = nn.Linear(latent_dim, 2 * count), nn.Linear(latent_dim, count)
        self.register_buffer("turns", math.pi * torch.logspace(-3.0, -0.25, count, base=2.0))  # 16 to 2.4 frames a turn
        self.register_buffer("times", torch.arange(frames, dtype=torch.float32))

    def forward(self, latents: Tensor) -> Tensor:
        u, v = (_SMALL * self.pairs(latents).float()[:, None]).chunk(2, dim=2)
        speeds = self.turns * (0.2 * self.speeds(latents).float().tanh()).exp()  # a fifth slower or faster
        angles = self.times[:, None] * speeds[:, None]
        cos, sin = angles.cos(), angles.sin()
        constant = latents[:, None].expand(-1, len(self.times), -1)
        return torch.cat([constant, cos * u - sin * v, sin * u + cos * v], dim=2)


class LatentNorm(nn.Module):
    """Batch norm of ``(B, T, C, H, W)`` over films and frames, scale and shift read off codes ``(B, T, code)``."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Linear(code, channels), nn.Linear(code, channels)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        y = cast(Tensor, self.norm(x.flatten(0, 1))).reshape(x.shape)
        scale, shift = (part(codes)[..., None, None].to(y.dtype) for part in (self.scale, self.shift))
        return torch.addcmul(shift, y, 1 + scale)


class Grain(nn.Module):
    """Noise of learnt strength on each frame of ``(B, T, C, H, W)``: fresh in training, in `eval` equal for every film.

    Without it, frames of a film can differ by movement alone. Karras et al., "Analyzing and Improving the Image Quality
    of StyleGAN", 2020, Figure 2d.
    """

    noise: Tensor

    def __init__(self, channels: int, frames: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("noise", torch.randn(frames, 1, *size))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn_like(self.noise.expand(len(x), *self.noise.shape)) if self.training else self.noise
        return x + (self.strength * noise).to(x.dtype)


class FrameBlock(nn.Module):
    """A residual block that doubles each frame: ``(B, T, C_in, H, W)`` to ``(B, T, C_out, 2H, 2W)``."""

    def __init__(self, in_channels: int, out_channels: int, code: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([LatentNorm(in_channels, code), LatentNorm(out_channels, code)])
        self.first, self.second = conv(2, in_channels, out_channels), conv(2, out_channels, out_channels)
        self.skip = conv(2, in_channels, out_channels, 1)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        films = x.shape[:2]
        y = cast(Tensor, self.norms[0](x, codes)).relu().flatten(0, 1)
        y = self.first(F.interpolate(y, scale_factor=2.0)).unflatten(0, films)
        y = self.second(cast(Tensor, self.norms[1](y, codes)).relu().flatten(0, 1))
        skip = F.interpolate(self.skip(x.flatten(0, 1)), scale_factor=2.0)
        return cast(Tensor, (y + skip).unflatten(0, films))


class FilmGenerator(nn.Module):
    """Latents ``(B, latent_dim)`` to films ``(B, C, T, H, W)`` in [-1, 1].

    One small map per frame goes through a `ConvGRU` and a block that doubles it, in turns until frames have their size.
    Departures: the maps, and the scales and shifts of the norms, are those of a code per frame (`Rhythms`); `grain`.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="at full resolution; doubled with each halving")] = 16,
        max_channels: Annotated[int, Field(gt=0, description="at most; multiples of 16 are quick in bf16")] = 64,
        rhythms: Annotated[
            int, Field(ge=0, description="pairs of each film's numbers that turn with time; 0: none, as in the paper")
        ] = 8,
        grain: Annotated[bool, Field(description="noise of learnt strength in every frame, after each block")] = False,
    ) -> None:
        super().__init__()
        if spatial_dims_of(image_shape) != 3:
            raise InputError(f"data: samples of shape {image_shape} are no films (C, T, H, W); use phantom_films")
        self.frames = image_shape[1]
        first, levels = halvings(image_shape[2:], 4)
        widths = [min(max_channels, channels << level) for level in range(levels, -1, -1)]
        self.embed = nn.Embedding(num_classes, latent_dim) if num_classes else None
        told = latent_dim * (2 if num_classes else 1)
        self.rhythms = Rhythms(told, self.frames, rhythms) if rhythms else None
        code = told + 2 * rhythms
        self.first = (widths[0], *first)
        self.start = nn.Linear(code, math.prod(self.first))
        self.memories = nn.ModuleList(ConvGRU(width) for width in widths[:-1])
        self.blocks = nn.ModuleList(FrameBlock(wide, narrow, code) for wide, narrow in pairwise(widths))
        self.grains = nn.ModuleList(
            Grain(width, self.frames, tuple(side << level for side in first)) if grain else nn.Identity()
            for level, width in enumerate(widths[1:], start=1)
        )
        self.norm = LatentNorm(widths[-1], code)
        self.head = conv(2, widths[-1], image_shape[0])
        orthogonal(self)
        layout(2, self)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            assert classes is not None, "a class-conditional network needs classes"
            latents = torch.cat([latents, self.embed(classes)], dim=1)
        codes = latents[:, None].expand(-1, self.frames, -1) if self.rhythms is None else self.rhythms(latents)
        x = self.start(codes).unflatten(2, self.first)
        for memory, block, grain in zip(self.memories, self.blocks, self.grains, strict=True):
            x = grain(block(memory(x), codes))
        x = cast(Tensor, self.norm(x, codes)).relu()
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
