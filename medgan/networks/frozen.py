"""Norms whose statistics are taken once and then hold: what they do to a voxel no window decides any more."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

_InstanceNorm = nn.modules.instancenorm._InstanceNorm


class FrozenNorm(nn.Module):
    """``x * scale + shift`` per channel: ``(B, C, *S)`` to the same shape; what a norm with known statistics does."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        spread = (1, -1, *(1,) * (x.ndim - 2))
        return (x.float() * self.scale.view(spread) + self.shift.view(spread)).to(x.dtype)


def sees_window(network: nn.Module) -> bool:
    """Whether a network's norms look at all of a window (instance and group norm), so that its size matters."""
    return any(_looks(module) for module in network.modules())


def freeze_norms(network: nn.Module, patches: Iterable[Tensor]) -> nn.Module:
    """A copy of the network whose instance and group norms subtract and divide by what `patches` have on average.

    Each patch goes through the network as in training, under its own statistics; their means and variances are then
    averaged over the patches. The copy shares nothing with the network.

    Args:
        network: in eval mode.
        patches: (1, C, *S) each, where the network is; at least one.
    """
    network = copy.deepcopy(network)
    sums: dict[nn.Module, list[Tensor]] = {module: [] for module in network.modules() if _looks(module)}

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double().reshape(len(inputs[0]), _groups(module, inputs[0]), -1)
        sums[module] += torch.stack([x.mean(dim=2), x.var(dim=2, correction=0)], dim=1)

    hooks = [module.register_forward_pre_hook(record) for module in sums]
    waiting = iter(patches)
    while pair := list(itertools.islice(waiting, 2)):  # torch is ten times slower with one small float32 patch
        network(torch.cat(pair))
    for hook in hooks:
        hook.remove()
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if sums.get(module):
                setattr(parent, name, _frozen(module, *torch.stack(sums[module]).mean(dim=0)))
    return network


def _looks(module: nn.Module) -> bool:
    if isinstance(module, _InstanceNorm):
        return not module.track_running_stats
    return isinstance(module, nn.GroupNorm)


def _groups(module: nn.Module, x: Tensor) -> int:
    return module.num_groups if isinstance(module, nn.GroupNorm) else x.shape[1]


def _frozen(module: nn.Module, mean: Tensor, variance: Tensor) -> FrozenNorm:
    norm = cast(nn.GroupNorm, module)  # an instance norm has the same weights, and a group for each channel
    per_group = norm.num_channels // norm.num_groups if isinstance(module, nn.GroupNorm) else 1
    scale = (variance + norm.eps).rsqrt().repeat_interleave(per_group)
    shift = -mean.repeat_interleave(per_group) * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    return FrozenNorm(scale.float(), shift.float())
