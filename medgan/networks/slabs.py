"""3D convolutions of small maps on a processor: two slabs instead of one map, since torch computes those faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOW = 20480  # torch's own bound, of channels x X x Y


class SlabConv3d(nn.Conv3d):
    """`nn.Conv3d`, ``(B, C, *S)``, and the same numbers to rounding, faster for single small maps in float32.

    On a processor torch gives a float32 convolution to oneDNN where the batch holds two maps, or one of more than 20480
    numbers along its first three axes; smaller ones are unfolded into a matrix, which takes 3 to 12 times as long. So a
    single small map is cut in two along X, with the border that a slab sees of the other, and goes in as a batch of
    two. Channels-last, the result lies in memory as it should: nothing is copied to join it.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._in_slabs(input) if self._is_slow(input) else super().forward(input)

    def _is_slow(self, x: Tensor) -> bool:
        if x.device.type != "cpu" or len(x) != 1 or x.shape[1] * x.shape[2] * x.shape[3] > _SLOW:
            return False
        if torch.is_autocast_enabled("cpu") or x.dtype != torch.float32 or torch.jit.is_tracing():
            return False
        kernel, padding = self.kernel_size[0], self.padding[0]
        if isinstance(padding, str) or self.padding_mode != "zeros" or self.groups > 1 or set(self.dilation) != {1}:
            return False
        length = (x.shape[2] + 2 * padding - kernel) // self.stride[0] + 1
        return min(self.kernel_size[1:]) < 4 and max(self.kernel_size) > 1 and length > 0 and length % 2 == 0

    def _in_slabs(self, x: Tensor) -> Tensor:
        stride, border = self.stride[0], int(self.padding[0])
        padded = F.pad(x, (0, 0, 0, 0, border, border))
        length = (padded.shape[2] - self.kernel_size[0]) // stride + 1
        thick = (length // 2 - 1) * stride + self.kernel_size[0]
        slabs = torch.cat([padded[:, :, start : start + thick] for start in (0, length // 2 * stride)])
        y = F.conv3d(slabs, self.weight, self.bias, self.stride, (0, *self.padding[1:]))  # type: ignore[arg-type]
        joined = y.permute(0, 2, 3, 4, 1).reshape(1, length, *y.shape[3:], y.shape[1])
        return joined.permute(0, 4, 1, 2, 3)


def in_slabs(network: nn.Module) -> nn.Module:
    """The network with every `nn.Conv3d` inside it exchanged for a `SlabConv3d` of the same weights."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv3d:
                setattr(module, name, _slab(child))
    return network


def _slab(layer: nn.Conv3d) -> SlabConv3d:
    slab = SlabConv3d.__new__(SlabConv3d)
    slab.__dict__ = layer.__dict__
    return slab
