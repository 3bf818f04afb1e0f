"""A network over a whole volume in bounded memory, as if the volume went through in one piece.

Networks are swept along X (`medgan.networks.sweep`), which has no windows at all. Where a cross-section is too large or
the network's code cannot be swept, windows get a halo as wide as the network looks, which is computed and thrown away.
They begin at multiples of the network's stride and end where their halo or the volume ends: the volume's borders are
seen as they are. Norms that look at the whole window are frozen before (`medgan.networks.frozen`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.cuts import Box, Place, Plan, Size, bounding_box, box_of, inside, place_of
from medgan.networks.field import Field, receptive_field
from medgan.networks.frozen import freeze_norms, sees_window
from medgan.networks.sweep import Sweep, sweepable

_SLABS = (32, 16, 8)  # slices that go into a sweep at once; the smallest multiple of the stride at least
_PATCHES = 32  # looked at for the statistics of norms, at most
_MOST_PARTS = 16  # of a cross-section, along each axis
_SWEEP_OVERHEAD = 1.5  # what layers take while they work, beside what goes in and comes out
_WINDOW_OVERHEAD = 8  # of a network that is not swept: live copies of its largest map


@dataclass(frozen=True)
class Evaluation:
    """What a network made of a volume.

    Attributes:
        values: (1, K, X, Y, Z) in main memory.
        borders: along X, Y and Z the voxels at which another piece of the computation began.
        windows: how many windows were computed; a sweep is one.
    """

    values: Tensor
    borders: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    windows: int

    def within(self, place: Place) -> Evaluation:
        """The same for a box of the volume: its first and one past its last voxel along X, Y and Z, as slices."""
        x, y, z = (
            tuple(start - side.start for start in starts if side.start < start < side.stop)
            for starts, side in zip(self.borders, place, strict=True)
        )
        return Evaluation(self.values[inside(place)], (x, y, z), self.windows)


class Evaluator:
    """A network ready for volumes: its norms frozen, its field known, swept where it can be.

    Args:
        network: in eval mode on `device`, (B, C, X, Y, Z) to (B, K, X, Y, Z). Its norms must not look at the window,
            see `frozen_for`.
        channels: C.
        device: where the network is.
        bf16: whether the network runs under autocast to bfloat16.
        sweep: whether networks are swept where they can be.
        like: of the same network with other statistics: what trials have found of it holds here, too.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        device: torch.device,
        bf16: bool = False,
        sweep: bool = True,
        like: Evaluator | None = None,
    ) -> None:
        self.network, self.channels, self.device, self.bf16 = network, channels, device, bf16
        self._sizes: dict[int, float] = {} if like is None else like._sizes
        self.field: Field
        self.sweep: Sweep | None
        if like is not None:
            self.field, self.sweep = like.field, Sweep(network) if like.sweep else None
            return
        with torch.inference_mode():
            self.field = receptive_field(network, channels, device)
            self.sweep = self._sweep() if sweep else None

    @torch.inference_mode()
    def __call__(
        self,
        image: Tensor,
        *,
        memory_gb: float,
        window: Size | None = None,
        where: Tensor | None = None,
        fill: float = -1.0,
        finish: Callable[[Tensor], Tensor] | None = None,
        is_shifted: bool = False,
    ) -> Evaluation:
        """What the network makes of `image`.

        Args:
            image: (1, C, X, Y, Z) float32, in main memory.
            memory_gb: GiB that the network's maps may take; the volumes themselves come on top.
            window: voxels computed at a time, without halo; along X a sweep's slab. None: as the memory allows.
            where: (1, 1, X, Y, Z) bool, where values are wanted; elsewhere they are `fill`. None: everywhere.
            fill: see `where`.
            finish: of what comes out (1, K, x, y, z), such as the argmax over classes; voxel by voxel.
            is_shifted: windows begin half a window earlier. The result must not change: that is what it is for.
        """
        sides = bounding_box(where) if where is not None else box_of((0, n) for n in image.shape[2:])
        box = box_of((first // self.field.stride * self.field.stride, last) for first, last in sides)
        values: Tensor | None = None
        plan = self._plan(image.shape, box, memory_gb, window, is_shifted)
        starts: tuple[set[int], ...] = (set(), set(), set())
        windows = 0
        for core in plan.cores(box):
            if where is not None and not where[inside(place_of(core))].any():
                continue
            windows += 1
            for place, piece in self._compute(image, core, plan):
                with self._autocast():
                    done = finish(piece) if finish else piece
                if values is None:
                    values = torch.full((*done.shape[:2], *image.shape[2:]), fill, dtype=done.dtype)
                values[inside(place)] = done.to(values.device)
                for axis, side in enumerate(place):
                    starts[axis].add(side.start)
        if values is None:
            values = torch.full((1, self._classes(finish), *image.shape[2:]), fill)
        if where is not None:
            values.masked_fill_(~where, fill)
        x, y, z = (tuple(sorted(found - {0})) for found in starts)
        return Evaluation(values, (x, y, z), windows)

    def _classes(self, finish: Callable[[Tensor], Tensor] | None) -> int:
        side = self.field.stride * 2
        out = self.network(torch.full((1, self.channels, side, side, side), -1.0, device=self.device))
        return int((finish(out) if finish else out).shape[1])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _sweep(self) -> Sweep | None:
        """The sweep, if it gives what the network gives on noise a little longer than the network looks."""
        if self.field.halo is None:
            return None
        stride = self.field.stride
        shape = (2 * self.field.halo[0] + 2 * stride + 1, 2 * stride - 1, 2 * stride)
        noise = torch.rand(1, self.channels, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with self._autocast():
            return sweepable(self.network, noise.to(self.device), 3 * stride)

    def _plan(self, shape: torch.Size, box: Box, memory_gb: float, window: Size | None, is_shifted: bool) -> Plan:
        field, volume = self.field, (int(shape[2]), int(shape[3]), int(shape[4]))
        sides = cast(Size, tuple(last - first for first, last in box))
        if window is None:
            window = self._largest(sides, volume, memory_gb * 2**30)
        aligned = cast(Size, tuple(max(1, -(-length // field.stride)) * field.stride for length in window))
        return Plan(volume, aligned, field, is_shifted, is_swept=self.sweep is not None)

    def _largest(self, sides: Size, volume: Size, most_bytes: float) -> Size:
        """The window that costs least for its halo, of those that fit; the smallest where none does."""
        halo, stride = self.field.halo or volume, self.field.stride
        parts = range(1, _MOST_PARTS + 1)
        best: tuple[float, Size] | None = None
        for slab in self._slabs(sides[0]):
            per_voxel = self._sizes.get(slab) or self._sizes.setdefault(slab, self._bytes_per_voxel(slab))
            for counts in itertools.product([1] if self.sweep else parts, parts, parts):
                core = [math.ceil(side / count) for side, count in zip(sides, counts, strict=True)]
                wide = [
                    min(n, length + (2 * reach if count > 1 else reach))
                    for n, length, reach, count in zip(volume, core, halo, counts, strict=True)
                ]
                area = wide[1] * wide[2]
                size = per_voxel * area * (1 if self.sweep else wide[0])
                cost = math.prod(counts) * area * (1 if self.sweep else wide[0])
                if size <= most_bytes and (best is None or cost < best[0]):
                    best = cost, (slab if self.sweep else core[0], core[1], core[2])
        if best is None:
            least = [max(4 * stride, math.ceil(side / _MOST_PARTS)) for side in sides]
            return (self._slabs(sides[0])[-1] if self.sweep else least[0]), least[1], least[2]
        return best[1]

    def _slabs(self, length: int) -> list[int]:
        stride = self.field.stride
        slabs = [-(-slab // stride) * stride for slab in _SLABS] if self.sweep else [length]
        return list(dict.fromkeys(slabs))

    def _bytes_per_voxel(self, slab: int) -> float:
        """Of a sweep: bytes per voxel of a cross-section. Of a window: bytes per voxel."""
        stride, halo = self.field.stride, self.field.halo or (0, 0, 0)
        if self.sweep:
            shape = (2 * halo[0] + 3 * slab, stride, stride)
            with self._autocast():
                held = self.sweep.held_bytes(self._zeros(shape), slab, device=self.device)
            return _SWEEP_OVERHEAD * held / stride**2
        largest = 0

        def note(module: nn.Module, inputs: object, output: object) -> None:
            nonlocal largest
            if isinstance(output, Tensor):
                largest = max(largest, output.numel() * output.element_size())

        shape = (2 * stride, 2 * stride, 2 * stride)
        hooks = [module.register_forward_hook(note) for module in self.network.modules()]
        with self._autocast():
            self.network(self._zeros(shape))
        for hook in hooks:
            hook.remove()
        return _WINDOW_OVERHEAD * largest / math.prod(shape)

    def _zeros(self, shape: Size) -> Tensor:
        return torch.zeros(1, self.channels, *shape, device=self.device)

    def _compute(self, image: Tensor, core: Box, plan: Plan) -> Iterator[tuple[Place, Tensor]]:
        """The pieces of one core: where each lies in the volume, and its values."""
        box = plan.with_halo(core)
        part, (x, y, z) = image[inside(place_of(box))], place_of(core)
        cut = place_of(box_of((one[0] - outer[0], one[1] - outer[0]) for one, outer in zip(core, box, strict=True)))
        if self.sweep is None:
            with self._autocast():
                out = cast(Tensor, self.network(part.to(self.device))).float()
            yield (x, y, z), out[inside(cut)]
            return
        at = box[0][0]
        slab = plan.window[0]
        with self._autocast():
            for piece in self.sweep.run(part, slab, offset=slab // 2 if plan.is_shifted else 0, device=self.device):
                first, last = max(at, core[0][0]), min(at + piece.shape[2], core[0][1])
                if first < last:
                    yield (slice(first, last), y, z), piece[:, :, first - at : last - at, cut[1], cut[2]].float()
                at += piece.shape[2]


@torch.inference_mode()
def frozen_for(
    network: nn.Module, image: Tensor, patch: Size, *, device: torch.device, bf16: bool, where: Tensor | None = None
) -> nn.Module:
    """The network with norms that no longer look at the window: as it is, or with statistics taken from `image`.

    They are averages over patches of the size that the network was trained on, on a grid that depends on the image
    alone (`medgan.networks.frozen.freeze_norms`).

    Args:
        network: in eval mode on `device`.
        image: (1, C, X, Y, Z) float32, in main memory, at least as large as `patch`.
        patch: voxels.
        device: where the network is.
        bf16: whether the network runs under autocast to bfloat16.
        where: (1, 1, X, Y, Z) bool; patches without any true voxel do not count, unless all are.
    """
    if not sees_window(network):
        return network
    grid = [_spread(n, side) for n, side in zip(image.shape[2:], patch, strict=True)]
    boxes = [
        place_of(box_of((first, first + side) for first, side in zip(corner, patch, strict=True)))
        for corner in itertools.product(*grid)
    ]
    if where is not None:
        boxes = [box for box in boxes if where[inside(box)].any()] or boxes
    chosen = [boxes[round(i * (len(boxes) - 1) / max(_PATCHES - 1, 1))] for i in range(_PATCHES)]
    boxes = boxes if len(boxes) <= _PATCHES else chosen
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return freeze_norms(network, (image[inside(box)].to(device) for box in boxes))


def filled_up(image: Tensor, least: Size, background: float | bool = -1.0) -> tuple[Tensor, Place]:
    """`image` (1, C, X, Y, Z), enlarged by `background` on all sides to at least `least`, and where in it it lies."""
    missing = [max(0, side - n) for side, n in zip(least, image.shape[2:], strict=True)]
    place = place_of(box_of((extra // 2, extra // 2 + n) for extra, n in zip(missing, image.shape[2:], strict=True)))
    if any(missing):
        pads = [pad for extra in reversed(missing) for pad in (extra // 2, extra - extra // 2)]
        image = F.pad(image, pads, value=background)
    return image, place


def _spread(length: int, side: int) -> list[int]:
    """Where patches begin that cover a length, without gaps and with as little overlap as can be."""
    count = math.ceil(length / side)
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]
