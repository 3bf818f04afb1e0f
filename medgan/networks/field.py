"""How far a network looks, and on which grid it walks: what a window needs around it to give what the whole gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

_LONGEST = 1024  # voxels; beyond, a network is taken to look everywhere
_STRIDED = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)


@dataclass(frozen=True)
class Field:
    """What a voxel of the output depends on.

    Attributes:
        halo: voxels on each side along X, Y and Z; None: everything, such as under instance norm.
        stride: the network's total stride. Windows that begin at its multiples see the grid that the volume sees.
    """

    halo: tuple[int, int, int] | None
    stride: int


def receptive_field(network: nn.Module, channels: int, device: torch.device) -> Field:
    """The field of a network in eval mode: ``(1, channels, X, Y, Z)`` to ``(1, K, X, Y, Z)``.

    Found by trial: what is not a number spreads through every layer to all that depends on it, whatever the weights. An
    aligned block of `stride` voxels is made not a number, so the halo is exact up to ``stride - 1`` voxels. A network
    that does not take small volumes is held to look everywhere.
    """
    stride = total_stride(network)
    try:
        reaches = [_reach(network, channels, device, axis, stride) for axis in range(3)]
    except (RuntimeError, ValueError):
        return Field(None, stride)
    x, y, z = reaches
    return Field(None if x is None or y is None or z is None else (x, y, z), stride)


def total_stride(network: nn.Module) -> int:
    """The product of the strides of all convolutions and poolings: a multiple of the network's total stride."""
    strides: list[Any] = [module.stride for module in network.modules() if isinstance(module, _STRIDED)]
    return math.prod(int(stride if isinstance(stride, int) else max(stride)) for stride in strides)


def _reach(network: nn.Module, channels: int, device: torch.device, axis: int, stride: int) -> int | None:
    across = max(stride, 2)
    length = 8 * max(stride, 8)
    while length <= _LONGEST:
        shape = [across] * 3
        shape[axis] = length
        image = torch.zeros(1, channels, *shape, device=device)
        first = length // 2 // stride * stride
        image.narrow(axis + 2, first, stride).fill_(math.nan)
        hit = cast(Tensor, network(image)).isnan().any(dim=1)[0].movedim(axis, 0).flatten(1).any(dim=1)
        touched = hit.nonzero().flatten().tolist()
        if not touched:
            return 0
        near, far = int(touched[0]), int(touched[-1])
        if near > 0 and far < length - 1:
            return max(first + stride - 1 - near, far - first)
        length *= 2
    return None
