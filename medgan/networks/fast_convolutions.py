"""3D convolutions on a processor, handed to torch in the form that it computes fastest: equal to rounding."""

from __future__ import annotations

from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALL = 20480  # torch's own bound, of channels x X x Y
_NARROW = 16  # channels


def fast_convolutions(network: nn.Module) -> None:
    """Let the 3D convolutions inside `network` cut small maps in two, and pad large ones themselves where that pays.

    On a processor torch gives a float32 convolution to oneDNN where the batch holds two maps, or one of more than 20480
    numbers along its first three axes; smaller ones are unfolded into a matrix, which takes 3 to 12 times as long. So a
    single small map goes in as a batch of two halves, each with the border that it sees of the other. Channels-last,
    the result lies in memory as it should: nothing is copied to join it.

    Without AVX-512, oneDNN has a kernel of its own for the gradient of the weights only where the first axis comes
    with its border; elsewhere it unfolds, too. So the border is put on before, which takes 0.6 to 0.85 of the time of a
    layer of up to 16 channels, forward and backward, and gains nothing for channels-last maps of more.
    """
    for module in network.modules():
        if type(module) is nn.Conv3d:
            way = _small_or_bordered if _gains_by_a_border(module) else _small
            module.forward = MethodType(way, module)  # type: ignore[method-assign]


def _small(layer: nn.Conv3d, x: Tensor) -> Tensor:
    whole = not (_is_small(x) and _is_free(layer, x) and _has_halves(layer, x))
    return nn.Conv3d.forward(layer, x) if whole else _in_halves(layer, x)


def _small_or_bordered(layer: nn.Conv3d, x: Tensor) -> Tensor:
    if _is_small(x) or not _is_free(layer, x) or not torch.is_grad_enabled():
        return _small(layer, x)
    padded = F.pad(x, (0, 0, 0, 0, int(layer.padding[0]), int(layer.padding[0])))
    return F.conv3d(padded, layer.weight, layer.bias, layer.stride, (0, *layer.padding[1:]))


def _is_small(x: Tensor) -> bool:
    return len(x) == 1 and x.shape[1] * x.shape[2] * x.shape[3] <= _SMALL


def _is_free(layer: nn.Conv3d, x: Tensor) -> bool:
    """Whether `x` is float32 on a processor and the layer an ordinary convolution of more than a voxel."""
    is_float32 = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    is_ordinary = not isinstance(layer.padding, str) and layer.padding_mode == "zeros" and layer.groups == 1
    is_wide = max(layer.kernel_size) > 1 and set(layer.dilation) == {1}
    return x.device.type == "cpu" and is_float32 and is_ordinary and is_wide


def _has_halves(layer: nn.Conv3d, x: Tensor) -> bool:
    length = (x.shape[2] + 2 * int(layer.padding[0]) - layer.kernel_size[0]) // layer.stride[0] + 1
    return min(layer.kernel_size[1:]) < 4 and length > 0 and length % 2 == 0


def _gains_by_a_border(layer: nn.Conv3d) -> bool:
    is_narrow = 1 < layer.in_channels <= _NARROW and layer.out_channels <= _NARROW
    is_padded = set(layer.stride) == {1} and layer.padding[0] not in (0, "v")  # of "valid"
    return is_narrow and is_padded and torch.backends.cpu.get_cpu_capability() == "AVX2"  # and no more than that


def _in_halves(layer: nn.Conv3d, x: Tensor) -> Tensor:
    stride, border = layer.stride[0], int(layer.padding[0])
    padded = F.pad(x, (0, 0, 0, 0, border, border))
    length = (padded.shape[2] - layer.kernel_size[0]) // stride + 1
    thick = (length // 2 - 1) * stride + layer.kernel_size[0]
    halves = torch.cat([padded[:, :, start : start + thick] for start in (0, length // 2 * stride)])
    y = F.conv3d(halves, layer.weight, layer.bias, layer.stride, (0, *layer.padding[1:]))
    joined = y.permute(0, 2, 3, 4, 1).reshape(1, length, *y.shape[3:], y.shape[1])
    return joined.permute(0, 4, 1, 2, 3)
