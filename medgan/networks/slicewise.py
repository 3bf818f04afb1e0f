"""A 2D network over a volume slice by slice, or over a film frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


class SliceBySlice(nn.Module):
    """A 2D network, ``(B, C, H, W)`` to ``(B, K, H, W)``, on each slice of ``(B, C, X, Y, Z)``; a stack again.

    Slices know nothing of their neighbours: what a network makes of them may flicker from one to the next.
    """

    def __init__(self, network: nn.Module, axis: int = 2, *, at_once: int = 16) -> None:
        """
        Args:
            network: in 2D.
            axis: across the slices: 0, 1 or 2 for X, Y or Z; of a film, the axis of time.
            at_once: slices that the network sees together, which bounds the memory.
        """
        super().__init__()
        self.network, self.axis, self.at_once = network, axis, at_once

    def forward(self, volume: Tensor) -> Tensor:
        slices = volume.movedim(self.axis + 2, 1)
        parts = torch.split(slices.flatten(0, 1), self.at_once)
        made = torch.cat([cast(Tensor, self.network(part)) for part in parts])
        return made.reshape(*slices.shape[:2], *made.shape[1:]).movedim(1, self.axis + 2)


def for_volumes(network: nn.Module, patch_size: Sequence[int] | None) -> nn.Module:
    """The network as one of volumes: slice by slice where it learnt from patches of one voxel along an axis."""
    thin = [axis for axis, voxels in enumerate(patch_size or ()) if voxels == 1]
    return SliceBySlice(network, thin[0]) if len(thin) == 1 else network
