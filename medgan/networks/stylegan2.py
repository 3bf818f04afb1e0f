"""The networks of StyleGAN2. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medgan.networks.blocks import SpatialDims, layout
from medgan.networks.dcgan import halvings, spatial_dims_of
from medgan.networks.equalized import GAIN, Convolution, Linear, ModulatedConv, as_map, channels_last

NoiseMode = Literal["random", "constant"]


class Mapping(nn.Module):
    """Latents ``(B, latent_dim)``, and classes ``(B,)`` where there are any, to styles w ``(B, latent_dim)``."""

    def __init__(self, latent_dim: int, num_classes: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_classes, latent_dim) if num_classes else None
        widths = [latent_dim * (2 if num_classes else 1), *[latent_dim] * layers]
        self.body = nn.Sequential(*(Linear(a, b, lr_multiplier=0.01, activate=True) for a, b in pairwise(widths)))

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        parts = [_unit(latents)]
        if self.embed is not None:
            assert classes is not None, "a conditional generator needs classes"
            parts.append(_unit(self.embed(classes)))
        return cast(Tensor, self.body(torch.cat(parts, dim=1)))


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class StyledConv(nn.Module):
    """Modulated convolution, noise of learnt strength, bias, leaky ReLU (Figure 2d)."""

    noise: Tensor

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        size: Sequence[int],
        *,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(spatial_dims, in_channels, out_channels, style_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, *size))

    def forward(self, x: Tensor, w: Tensor, mode: NoiseMode) -> Tensor:
        y, factor = self.conv(x, w)
        noise = self.noise if mode == "constant" else torch.randn_like(self.noise.expand(len(x), *self.noise.shape[1:]))
        offset = (noise.to(y.dtype) * self.strength.to(y.dtype) + as_map(self.bias, y)) * GAIN
        return F.leaky_relu(torch.addcmul(offset, y, factor * GAIN), 0.2)  # the gain passes a leaky ReLU unchanged


class Synthesis(nn.Module):
    """Styles ``(B, num_styles, style_dim)`` to images ``(B, *image_shape)``: the skip generator (Figure 7b)."""

    def __init__(self, image_shape: tuple[int, ...], style_dim: int, channels: int, max_channels: int) -> None:
        super().__init__()
        dims = spatial_dims_of(image_shape)
        base, levels = halvings(image_shape[1:], 4)
        widths = [min(max_channels, channels << level) for level in range(levels, -1, -1)]
        self.start = nn.Parameter(torch.randn(1, widths[0], *base))
        self.convs, self.to_images = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            size = [n << level for n in base]
            if level:
                self.convs.append(StyledConv(dims, widths[level - 1], width, style_dim, size, up=True))
            self.convs.append(StyledConv(dims, width, width, style_dim, size))
            self.to_images.append(ModulatedConv(dims, width, image_shape[0], style_dim, 1, demodulate=False))
        self.biases = nn.Parameter(torch.zeros(len(widths), image_shape[0]))
        self.mode: Literal["bilinear", "trilinear"] = "bilinear" if dims == 2 else "trilinear"
        self.num_styles = len(self.convs) + 1
        layout(dims, self)

    def forward(self, styles: Tensor, noise: NoiseMode = "random") -> Tensor:
        w = styles.unbind(dim=1)
        x = self.start.expand(len(styles), *self.start.shape[1:])
        x = channels_last(x)
        image: Tensor | None = None
        for level, to_image in enumerate(self.to_images):
            for layer in range(max(0, 2 * level - 1), 2 * level + 1):
                x = self.convs[layer](x, w[layer], noise)
            seen, _ = to_image(x, w[2 * level + 1])
            seen = seen.float() + as_map(self.biases[level], seen).float()
            # interpolating between pixel centres is the filter [1, 3, 3, 1] after spreading the pixels out
            image = seen if image is None else seen + F.interpolate(image, scale_factor=2.0, mode=self.mode)
        assert image is not None
        return image


class StyleGenerator(nn.Module):
    """Latents ``(B, latent_dim)`` to images ``(B, *image_shape)``, linear at the end, as the paper has it.

    The running mean of w, `style_mean`, is what truncation draws styles towards (Karras et al., "A Style-Based
    Generator Architecture for Generative Adversarial Networks", 2019, appendix B); who trains the network keeps it.
    While training, noise is fresh; in `eval`, it is the same for every image.
    """

    style_mean: Tensor

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="at full resolution; doubled with each halving")] = 16,
        max_channels: Annotated[int, Field(gt=0, description="at most; multiples of 16 are quick in bf16")] = 128,
        mapping_layers: Annotated[int, Field(gt=0, description="of the network from z to w; the paper has 8")] = 8,
    ) -> None:
        super().__init__()
        self.mapping = Mapping(latent_dim, num_classes, mapping_layers)
        self.synthesis = Synthesis(image_shape, latent_dim, channels, max_channels)
        self.register_buffer("style_mean", torch.zeros(latent_dim))

    def styles(self, latents: Tensor, classes: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Styles of every layer ``(B, num_styles, latent_dim)``, alike, `truncation` of their way from the mean."""
        w = cast(Tensor, self.mapping(latents, classes))
        if truncation != 1.0:
            w = torch.lerp(self.style_mean.to(w.dtype), w, truncation)
        return w[:, None].expand(-1, self.synthesis.num_styles, -1)

    def forward(self, latents: Tensor, classes: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        noise: NoiseMode = "random" if self.training else "constant"
        return cast(Tensor, self.synthesis(self.styles(latents, classes, truncation), noise))


class ResidualCritic(nn.Module):
    """Images ``(B, *image_shape)`` to raw logits ``(B, 1)``: the residual discriminator (Figure 7c).

    Towards the end it also sees how much the images of a group differ from each other (Karras et al. 2018, section 3).
    With classes, one logit each, of which the image's own counts.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        channels: Annotated[int, Field(gt=0, description="at full resolution; doubled with each halving")] = 16,
        max_channels: Annotated[int, Field(gt=0, description="at most; multiples of 16 are quick in bf16")] = 128,
        group: Annotated[int, Field(gt=0, description="images whose differences are seen together")] = 4,
    ) -> None:
        super().__init__()
        dims = spatial_dims_of(image_shape)
        base, levels = halvings(image_shape[1:], 4)
        widths = [min(max_channels, channels << level) for level in range(levels, -1, -1)]
        self.group, self.num_classes = group, num_classes
        self.stem = Convolution(dims, image_shape[0], widths[-1], 1)
        self.blocks = nn.ModuleList()
        for wide, narrow in pairwise(reversed(widths)):
            inner = nn.Sequential(Convolution(dims, wide, wide), Convolution(dims, wide, narrow, down=True))
            skip = Convolution(dims, wide, narrow, 1, down=True, activate=False)
            self.blocks.append(nn.ModuleList([inner, skip]))
        self.last = Convolution(dims, widths[0] + 1, widths[0])
        self.hidden = Linear(widths[0] * math.prod(base), widths[0], activate=True)
        self.head = Linear(widths[0], max(1, num_classes))
        layout(dims, self)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        x = self.stem(channels_last(images))
        for inner, skip in cast(list[tuple[nn.Module, nn.Module]], self.blocks):
            x = (inner(x) + skip(x)) * math.sqrt(0.5)
        x = self.last(torch.cat([x, group_deviation(x, self.group)], dim=1))
        logits = self.head(self.hidden(x.flatten(1))).float()
        if self.num_classes:
            assert classes is not None, "a conditional critic needs classes"
            logits = logits.gather(1, classes[:, None])
        return cast(Tensor, logits)


def group_deviation(x: Tensor, group: int) -> Tensor:
    """One map ``(B, 1, *S)``: the mean over features of their standard deviation within a group of images.

    Groups are strided, ``b, b + B / group, ..``, and as large as divides the batch.
    """
    size = max(n for n in range(1, min(group, len(x)) + 1) if len(x) % n == 0)
    grouped = x.float().reshape(size, len(x) // size, -1)
    deviation = (grouped.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=1)
    return as_map(deviation.repeat(size)[:, None], x).expand(-1, 1, *x.shape[2:])
