"""The bricks of every network, in 2D and 3D from one source."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medgan.config import InputError

SpatialDims = Literal[2, 3]


def conv(
    spatial_dims: SpatialDims, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1
) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the size at stride 1 (odd kernels) and halves it at stride 2."""
    if spatial_dims == 3 and kernel_size == stride == 1:
        return PointwiseConv(in_channels, out_channels, 1)
    layer = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    return layer(in_channels, out_channels, kernel_size, stride=stride, padding=(kernel_size - 1) // 2)


def over_channels(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """A 1 x 1 x 1 convolution as the product of matrices that it is."""
    return F.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)


class PointwiseConv(nn.Conv3d):
    """A 1 x 1 x 1 convolution; of channels-last maps on a processor a matrix product.

    There torch would copy the map, unfold it, and take three to four times as long.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not input.is_contiguous(memory_format=torch.channels_last_3d):
            return super().forward(input)
        return over_channels(self, input)


class PlacedConv(nn.Conv2d):
    """A convolution that sees, behind the channels of an image, where each pixel lies along each axis, from -1 to 1.

    Liu et al., "An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution", 2018.
    """

    def forward(self, input: Tensor) -> Tensor:
        axes = [torch.linspace(-1.0, 1.0, size, dtype=input.dtype, device=input.device) for size in input.shape[2:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(input), -1, -1, -1)
        return super().forward(torch.cat([input, places], dim=1))


def first_conv(
    spatial_dims: SpatialDims,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    places: bool = False,
) -> nn.Conv2d | nn.Conv3d:
    """The convolution that sees the image, and with `places` also where each pixel lies.

    Raises:
        InputError: places of volumes, which are cut into patches that do not know where they lie.
    """
    if not places:
        return conv(spatial_dims, in_channels, out_channels, kernel_size, stride=stride)
    if spatial_dims == 3:
        raise InputError("places: true, but patches of volumes do not know where they lie; leave it out")
    padding = (kernel_size - 1) // 2
    return PlacedConv(in_channels + spatial_dims, out_channels, kernel_size, stride=stride, padding=padding)


class ChannelNorm(nn.Module):
    """Normalise each voxel over its channels: ``(B, C, *S)`` to the same shape.

    Ba et al., "Layer Normalization", 2016, at every voxel apart, as in Liu et al., "A ConvNet for the 2020s", 2022.
    Instance norm subtracts what the patch happened to hold: then a translated voxel depends on where its window lay and
    a volume translated in windows has brightness steps. What this norm does to a voxel, only that voxel decides.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.movedim(1, -1))).movedim(-1, 1)


class InstanceNorm(nn.GroupNorm):
    """Normalise each channel over the patch. As group norm of one channel each: the same, and faster on a CPU.

    Ulyanov et al., "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous())


Norm = Literal["channel", "instance", "none"]
NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "channel": ChannelNorm,
    "instance": InstanceNorm,
    "none": lambda channels: nn.Identity(),
}


class ResidualBlock(nn.Module):
    """``x + conv(act(norm(conv(act(norm(x))))))``, ``(B, C, *S)`` to the same shape.

    He et al., "Identity Mappings in Deep Residual Networks", 2016 (norm and activation before each convolution).
    """

    def __init__(self, spatial_dims: SpatialDims, channels: int, *, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            NORMS[norm](channels),
            nn.SiLU(),
            conv(spatial_dims, channels, channels),
            NORMS[norm](channels),
            nn.SiLU(),
            conv(spatial_dims, channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


class Upsample(nn.Module):
    """Nearest-neighbour enlargement by two, then a convolution: ``(B, C_in, *S)`` to ``(B, C_out, *2S)``.

    Odena et al., "Deconvolution and Checkerboard Artifacts", 2016: a transposed convolution would leave a checkerboard.
    """

    def __init__(self, spatial_dims: SpatialDims, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = conv(spatial_dims, in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.kernel_size[0] == 1:  # a 1 x 1 convolution commutes with the enlargement: do it on the small map
            return F.interpolate(cast(Tensor, self.conv(x)), scale_factor=2.0)
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0)))


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`x` ``(B, C, *S)`` enlarged at the far ends, by its own border, until each spatial size is a multiple."""
    missing = [(-size) % multiple for size in x.shape[2:]]
    if not any(missing):
        return x
    pads = [pad for extra in reversed(missing) for pad in (0, extra)]
    return F.pad(x, pads, mode="replicate")


def crop_to(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """The near corner of `x` ``(B, C, *S)``, of spatial size `size`: what `pad_to_multiple` added is cut off."""
    return x[(slice(None), slice(None), *(slice(length) for length in size))]


def layout(spatial_dims: SpatialDims, network: nn.Module) -> nn.Module:
    """The network with its weights channels-last, which `ChannelNorm` and bf16 convolutions want."""
    return network.to(memory_format=torch.channels_last if spatial_dims == 2 else torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def refuse_wrong_gradients(network: nn.Module) -> None:
    """Let 3D convolutions of `network` refuse what torch 2.13 gets wrong: bfloat16 on a CPU over 2 voxels.

    The gradient of the weights of a convolution of width 3 and stride 1 is then noise, without a word, where the first
    spatial axis of its input has 2 voxels. Every other size, and the outputs, are right.
    """

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if x.shape[2] == 2 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            raise InputError(
                "train.patch_size: a network comes down to 2 voxels along x, where bfloat16 gradients are wrong on a "
                "processor; enlarge the patch, lower the network's levels, or set train.precision=float32"
            )

    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] == 3 and module.stride[0] == 1:
            module.register_forward_pre_hook(look)


def recompute_blocks(network: nn.Module) -> bool:
    """Let the blocks inside `network` keep their input alone and compute their maps again for the gradients.

    The numbers stay the same; memory falls to the blocks' inputs and one block's maps, and a step takes about one more
    forward pass. Blocks are what the networks name in ``block_types``. Chen et al., "Training Deep Nets with Sublinear
    Memory Cost", 2016.

    Returns:
        Whether there are any blocks.
    """
    types = tuple({kind for module in network.modules() for kind in getattr(module, "block_types", ())})
    blocks = [module for module in network.modules() if isinstance(module, types)]
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return bool(blocks)


def initialize(network: nn.Module, stem: nn.Conv2d | nn.Conv3d | None = None, std: float = 0.02) -> nn.Module:
    """Draw every convolution's weights from N(0, std), as Zhu et al. 2017 do (section 7.1), biases 0.

    The biases of the `stem` that `ChannelNorm` follows are drawn as large as what its weights make of an image: a norm
    over channels is blind to the scale of its input, and with biases 0 that would be the intensity of the image.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if stem is not None and stem.bias is not None:
        nn.init.normal_(stem.bias, 0.0, std * math.sqrt(stem.weight[0].numel()))
    return network
