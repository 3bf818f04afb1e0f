"""3D convolutions of small maps on a processor: two halves instead of one map, since torch computes those faster."""

from __future__ import annotations

from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALL = 20480  # torch's own bound, of channels x X x Y


def halve_small_maps(network: nn.Module) -> None:
    """Let the 3D convolutions inside `network` cut a small map in two along X: the same numbers to rounding, faster.

    On a processor torch gives a float32 convolution to oneDNN where the batch holds two maps, or one of more than 20480
    numbers along its first three axes; smaller ones are unfolded into a matrix, which takes 3 to 12 times as long. So a
    single small map goes in as a batch of two halves, each with the border that it sees of the other. Channels-last,
    the result lies in memory as it should: nothing is copied to join it.
    """
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(layer: nn.Conv3d, x: Tensor) -> Tensor:
    return _in_halves(layer, x) if _is_slow(layer, x) else nn.Conv3d.forward(layer, x)


def _is_slow(layer: nn.Conv3d, x: Tensor) -> bool:
    if x.device.type != "cpu" or len(x) != 1 or x.shape[1] * x.shape[2] * x.shape[3] > _SMALL:
        return False
    if torch.is_autocast_enabled("cpu") or x.dtype != torch.float32:
        return False
    if (
        isinstance(layer.padding, str)
        or layer.padding_mode != "zeros"
        or layer.groups > 1
        or set(layer.dilation) != {1}
    ):
        return False
    length = (x.shape[2] + 2 * layer.padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1
    return min(layer.kernel_size[1:]) < 4 and max(layer.kernel_size) > 1 and length > 0 and length % 2 == 0


def _in_halves(layer: nn.Conv3d, x: Tensor) -> Tensor:
    stride, border = layer.stride[0], int(layer.padding[0])
    padded = F.pad(x, (0, 0, 0, 0, border, border))
    length = (padded.shape[2] - layer.kernel_size[0]) // stride + 1
    thick = (length // 2 - 1) * stride + layer.kernel_size[0]
    halves = torch.cat([padded[:, :, start : start + thick] for start in (0, length // 2 * stride)])
    y = F.conv3d(halves, layer.weight, layer.bias, layer.stride, (0, *layer.padding[1:]))
    joined = y.permute(0, 2, 3, 4, 1).reshape(1, length, *y.shape[3:], y.shape[1])
    return joined.permute(0, 4, 1, 2, 3)
