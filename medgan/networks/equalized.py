"""Layers of equalised learning rate: weights are drawn from N(0, 1) and scaled when used.

Adam then moves all of them at one speed: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability,
and Variation", 2018, section 4.1.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import SpatialDims

GAIN = math.sqrt(2.0)  # a leaky ReLU halves the variance
_CONV: dict[int, Any] = {2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


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
        return F.leaky_relu(y, 0.2) * GAIN if self.activate else y


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
        return y if self.bias is None else F.leaky_relu(y, 0.2) * GAIN


class ModulatedConv(nn.Module):
    """A convolution whose input channels the style scales, and whose outputs are brought back to unit variance.

    Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, Equations 1 and 3, scale the weights,
    for each sample its own: ``w'_ijk = s_i w_ijk / sqrt(sum_ik (s_i w_ijk)^2)``. Scaling the inputs by ``s_i`` and the
    outputs by the root instead is the same, and one convolution serves the batch. With `up`, the output is twice as
    large: a transposed convolution and the filter.
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
        y = as_map(style, x) * x
        if self.filter is None:
            y = _CONV[self.spatial_dims](y, weight, padding=(weight.shape[-1] - 1) // 2)
        else:
            y = self.filter(_TRANSPOSED[self.spatial_dims](y, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return y, 1.0
        squares = weight.square().flatten(2).sum(dim=2)
        return y, as_map((F.linear(style.square(), squares).float() + 1e-8).rsqrt(), y)


def as_map(values: Tensor, x: Tensor) -> Tensor:
    """``(B, C)`` or ``(C,)`` as a factor of a map ``(B, C, *S)``, in the map's type."""
    return values.reshape(*values.shape, *[1] * (x.ndim - 2)).to(x.dtype)


def channels_last(x: Tensor) -> Tensor:
    """A map with its channels side by side in memory, which bf16 convolutions want."""
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
