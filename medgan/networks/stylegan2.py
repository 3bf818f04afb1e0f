"""The networks of StyleGAN2. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020.

Weights are drawn from N(0, 1) and scaled when used, so that Adam moves all of them at one speed ("equalised learning
rate"; Karras et al., "Progressive Growing of GANs", 2018, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medgan.networks.blocks import SpatialDims, layout
from medgan.networks.dcgan import halvings, spatial_dims_of

NoiseMode = Literal["random", "constant"]
_CONV: dict[int, Any] = {2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {2: F.conv_transpose2d, 3: F.conv_transpose3d}
_GAIN = math.sqrt(2.0)  # a leaky ReLU halves the variance


class Linear(nn.Module):
    """``x W^T / sqrt(inputs) + b``, with the paper's learning rate multiplier and leaky ReLU where asked."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, lr_multiplier: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale, self.lr_multiplier, self.activate = lr_multiplier / math.sqrt(inputs), lr_multiplier, activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)
        return F.leaky_relu(y, 0.2) * _GAIN if self.activate else y


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


class Blur(nn.Module):
    """Each channel filtered by [1, 3, 3, 1] along every axis, `gain` in all; zeros beyond the border.

    Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019.
    """

    kernel: Tensor

    def __init__(self, spatial_dims: SpatialDims, *, gain: float = 1.0, padding: int = 1, stride: int = 1) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = taps
        for _ in range(spatial_dims - 1):
            kernel = kernel[..., None] * taps
        self.register_buffer("kernel", (gain / 8**spatial_dims * kernel)[None, None], persistent=False)
        self.spatial_dims, self.padding, self.stride = spatial_dims, padding, stride

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], *self.kernel.shape[1:])
        y = _CONV[self.spatial_dims](x, kernel, padding=self.padding, stride=self.stride, groups=x.shape[1])
        return cast(Tensor, y)


class ModulatedConv(nn.Module):
    """A convolution whose input channels the style scales, and whose outputs are brought back to unit variance.

    Equations 1 and 3 scale the weights, for each sample its own: ``w'_ijk = s_i w_ijk / sqrt(sum_ik (s_i w_ijk)^2)``.
    Scaling the inputs by ``s_i`` and the outputs by the root instead is the same, and one convolution serves the batch.
    With `up`, the output is twice as large: a transposed convolution and the filter.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        kernel_size: int = 3,
        *,
        demodulate: bool = True,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.style = Linear(style_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *(kernel_size,) * spatial_dims))
        self.scale = 1.0 / math.sqrt(in_channels * kernel_size**spatial_dims)
        self.spatial_dims, self.demodulate = spatial_dims, demodulate
        self.filter = Blur(spatial_dims, gain=2.0**spatial_dims) if up else None

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | float]:
        """The convolution of the modulated input, and the factor ``(B, C_out, 1, ..)`` that demodulates it."""
        style, weight = self.style(w), self.weight * self.scale
        y = _as_map(style, x) * x
        if self.filter is None:
            y = _CONV[self.spatial_dims](y, weight, padding=(weight.shape[-1] - 1) // 2)
        else:
            y = self.filter(_TRANSPOSED[self.spatial_dims](y, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return y, 1.0
        squares = weight.square().flatten(2).sum(dim=2)
        return y, _as_map((F.linear(style.square(), squares).float() + 1e-8).rsqrt(), y)


def _as_map(values: Tensor, x: Tensor) -> Tensor:
    """``(B, C)`` or ``(C,)`` as a factor of a map ``(B, C, *S)``, in the map's type."""
    return values.reshape(*values.shape, *[1] * (x.ndim - 2)).to(x.dtype)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


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
        offset = (noise.to(y.dtype) * self.strength.to(y.dtype) + _as_map(self.bias, y)) * _GAIN
        return F.leaky_relu(torch.addcmul(offset, y, factor * _GAIN), 0.2)  # the gain passes a leaky ReLU unchanged


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
        x = _channels_last(x)
        image: Tensor | None = None
        for level, to_image in enumerate(self.to_images):
            for layer in range(max(0, 2 * level - 1), 2 * level + 1):
                x = self.convs[layer](x, w[layer], noise)
            seen, _ = to_image(x, w[2 * level + 1])
            seen = seen.float() + _as_map(self.biases[level], seen).float()
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


class Convolution(nn.Module):
    """A convolution of equalised learning rate, bias and leaky ReLU; with `down`, filtered and halved."""

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        down: bool = False,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *(kernel_size,) * spatial_dims))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activate else None
        self.scale = 1.0 / math.sqrt(in_channels * kernel_size**spatial_dims)
        self.spatial_dims = spatial_dims
        self.pointwise = kernel_size == 1
        self.padding = 0 if down else (kernel_size - 1) // 2
        self.stride = 2 if down and not self.pointwise else 1
        self.filter: Blur | None = None
        if down:  # a pointwise convolution needs only the voxels that stay
            self.filter = Blur(spatial_dims, stride=2) if self.pointwise else Blur(spatial_dims, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        if self.filter is not None:
            x = self.filter(x)
        convolve = _CONV[self.spatial_dims]
        y = cast(Tensor, convolve(x, self.weight * self.scale, self.bias, stride=self.stride, padding=self.padding))
        return y if self.bias is None else F.leaky_relu(y, 0.2) * _GAIN


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
        x = self.stem(_channels_last(images))
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
    return _as_map(deviation.repeat(size)[:, None], x).expand(-1, 1, *x.shape[2:])
