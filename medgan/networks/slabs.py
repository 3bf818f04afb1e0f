"""Layers that are given a volume slab by slab along X: each keeps the slices that it needs again.

What a voxel alone decides (norms over channels, activations, sums, 1 x 1 convolutions) is computed on the way into the
next layer, in bites that a processor's cache holds: large maps are read once and written once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.networks.blocks import crop_to

AXIS = 2  # of a tensor (B, C, X, Y, Z): the one that slabs are cut along
_BITE_BYTES = 2**22  # of the widest input
_LAST = torch.channels_last_3d

Slabs = Sequence[Tensor | None]
Function = Callable[..., Tensor]


class Layer(Protocol):
    """One layer at work. `push` takes the next slab of each input, or None, and gives what can be computed by now."""

    def push(self, slabs: Slabs, *, is_last: bool) -> Tensor | None: ...

    @property
    def held(self) -> int:
        """Bytes that wait for what comes next."""
        ...


class Voxelwise:
    """A function of voxels that lie at one place, of one or several inputs. Inputs that are ahead of others wait.

    Args:
        function: (B, C, *S) each to (B, K, *S), for any *S; None: the one input as it is.
        count: of inputs.
    """

    def __init__(self, function: Function | None = None, count: int = 1) -> None:
        self.function = function
        self.queues = [deque[Tensor]() for _ in range(count)]

    def push(self, slabs: Slabs, *, is_last: bool) -> Tensor | None:
        return self.next(slabs)

    def next(self, slabs: Slabs, *, before: int = 0, after: int = 0) -> Tensor | None:
        """What all inputs are there for, with so many slices left empty around it; None where there is nothing."""
        for queue, slab in zip(self.queues, slabs, strict=True):
            if slab is not None:
                queue.append(slab)
        length = min(sum(slab.shape[AXIS] for slab in queue) for queue in self.queues)
        return self._computed(length, before, after) if length else None

    def _computed(self, length: int, before: int, after: int) -> Tensor:
        whole, at = None, before
        while at < before + length:
            parts = self._front(before + length - at)
            if self.function is None and parts[0].shape[AXIS] == length and not before and not after:
                return parts[0]
            for first, made in _bites(self.function, parts):
                if whole is None:
                    whole = _empty(made, parts[0], before + length + after)
                _put(whole, at, first, made)
            at += parts[0].shape[AXIS]
        assert whole is not None
        return whole

    def _front(self, most: int) -> list[Tensor]:
        """The next slices of all inputs, as many as lie in one slab of each."""
        count = min(most, *(queue[0].shape[AXIS] for queue in self.queues))
        parts = []
        for queue in self.queues:
            slab = queue.popleft()
            if slab.shape[AXIS] > count:
                queue.appendleft(slab[:, :, count:])
            parts.append(slab[:, :, :count])
        return parts

    @property
    def held(self) -> int:
        return sum(size_in_bytes(slab) for queue in self.queues for slab in queue)


class Sliding:
    """What needs `span` slices at a time, `stride` further along each time.

    Args:
        function: maps L slices (L >= span) to (L - span) // stride + 1, or, where it enlarges, to a multiple of that.
        intake: what is computed voxel by voxel on the way in.
        span: see above.
        stride: see above.
        margin: slices that are put around all, at either end.
        edge: of these: zeros, or the outermost slice again.
    """

    def __init__(
        self,
        function: Function,
        intake: Voxelwise,
        *,
        span: int,
        stride: int = 1,
        margin: int = 0,
        edge: Literal["zeros", "same"] = "zeros",
    ) -> None:
        self.function, self.intake, self.span, self.stride = function, intake, span, stride
        self.margin, self.edge = margin, edge
        self.rest: Tensor | None = None

    def push(self, slabs: Slabs, *, is_last: bool) -> Tensor | None:
        whole = self._whole(slabs, self.margin if is_last else 0)
        if whole is None:
            return None
        count = (whole.shape[AXIS] - self.span) // self.stride + 1
        if count <= 0:
            self.rest = whole
            return None
        self.rest = whole[:, :, count * self.stride :].clone()
        return self.function(whole[:, :, : (count - 1) * self.stride + self.span])

    def _whole(self, slabs: Slabs, far: int) -> Tensor | None:
        """What was kept, or the margin before the first slice; what is new; the margin behind the last slice."""
        near = self.margin if self.rest is None else self.rest.shape[AXIS]
        whole = self.intake.next(slabs, before=near, after=far)
        if whole is None:
            if self.rest is None or not far:
                return None
            whole = _empty(self.rest, self.rest, near + far)
        if self.rest is not None:
            whole[:, :, :near] = self.rest
        elif near:
            whole[:, :, :near] = whole[:, :, near : near + 1] if self.edge == "same" else 0
        if far:
            whole[:, :, -far:] = whole[:, :, -far - 1 : -far] if self.edge == "same" else 0
        return whole

    @property
    def held(self) -> int:
        return self.intake.held + size_in_bytes(self.rest)


class Pad:
    """`pad_to_multiple`: across at once, along the axis at its end."""

    def __init__(self, multiple: int) -> None:
        self.multiple, self.count = multiple, 0

    def push(self, slabs: Slabs, *, is_last: bool) -> Tensor | None:
        (slab,) = slabs
        if slab is None:
            return None
        self.count += slab.shape[AXIS]
        extra = -self.count % self.multiple if is_last else 0
        y, z = (-size % self.multiple for size in slab.shape[AXIS + 1 :])
        return F.pad(slab, (0, z, 0, y, 0, extra), mode="replicate") if extra or y or z else slab

    @property
    def held(self) -> int:
        return 0


class Crop:
    """`crop_to`: across at once, along the axis once there are enough slices."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.across, self.left = size[1:], size[0]

    def push(self, slabs: Slabs, *, is_last: bool) -> Tensor | None:
        (slab,) = slabs
        length = 0 if slab is None else min(self.left, slab.shape[AXIS])
        self.left -= length
        return None if slab is None or not length else crop_to(slab, (length, *self.across))

    @property
    def held(self) -> int:
        return 0


def size_in_bytes(slab: Tensor | None) -> int:
    """Of its values."""
    return 0 if slab is None else slab.numel() * slab.element_size()


def _bites(function: Function | None, parts: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """What becomes of slabs (B, C, X, Y, Z) that lie side by side, and from which voxel on, counted along all axes.

    In one piece, where that is no slower: on a GPU, and where voxels do not lie behind one another with all channels.
    """
    if function is None or not all(_is_flat(part) for part in parts):
        yield 0, parts[0] if function is None else function(*parts)
        return
    rows = [part.movedim(1, -1).flatten(0, -2) for part in parts]  # (voxels, C)
    count = max(1, _BITE_BYTES // max(row.shape[1] * row.element_size() for row in rows))
    for first in range(0, len(rows[0]), count):
        yield first, function(*(row[first : first + count].t()[None, :, :, None, None] for row in rows))


def _put(whole: Tensor, at: int, first: int, made: Tensor) -> None:
    """Write a bite into `whole`, whose voxels are counted from slice `at` on."""
    if made.shape[AXIS + 1 :] == whole.shape[AXIS + 1 :] and not first:
        whole[:, :, at : at + made.shape[AXIS]] = made
        return
    begin = at * whole.shape[AXIS + 1] * whole.shape[AXIS + 2] + first
    rows = whole.movedim(1, -1).flatten(0, -2)
    rows[begin : begin + made.shape[AXIS]] = made[0, :, :, 0, 0].t()


def _empty(made: Tensor, part: Tensor, length: int) -> Tensor:
    """For the channels and the type of `made`, as wide across as `part`, so many slices long."""
    shape = (part.shape[0], made.shape[1], length, *part.shape[AXIS + 1 :])
    memory_format = _LAST if _is_flat(part) else torch.contiguous_format
    return torch.empty(shape, dtype=made.dtype, device=made.device, memory_format=memory_format)


def _is_flat(slab: Tensor) -> bool:
    """Whether its voxels lie behind one another in main memory, each with all its channels."""
    return slab.device.type == "cpu" and len(slab) == 1 and slab.is_contiguous(memory_format=_LAST)
