"""How a volume is cut into boxes, and what of it lies around each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from medgan.networks.field import Field

Size = tuple[int, int, int]
Side = tuple[int, int]
Box = tuple[Side, Side, Side]  # first voxel and one past the last, along X, Y and Z
Place = tuple[slice, slice, slice]  # the same as slices


@dataclass(frozen=True)
class Plan:
    """How a volume is cut: into cores of at most `window` voxels, and what lies around them."""

    volume: Size
    window: Size
    field: Field
    is_shifted: bool
    is_swept: bool

    def cores(self, box: Box) -> Iterable[Box]:
        """The cores that a box is made of. A sweep cuts nothing along X."""
        x, y, z = (self._cuts(axis, *side) for axis, side in enumerate(box))
        return itertools.product(x, y, z)

    def _cuts(self, axis: int, first: int, last: int) -> list[Side]:
        if self.field.halo is None or (self.is_swept and axis == 0):
            return [(first, last)]
        stride, window = self.field.stride, self.window[axis]
        begin = first - (window // 2 // stride * stride if self.is_shifted else 0)
        cuts = [*range(begin + window, last, window)]
        return list(zip([first, *cuts], [*cuts, last], strict=True))

    def with_halo(self, core: Box) -> Box:
        """A core with all that the network looks at, as far as the volume reaches, from a multiple of its stride on."""
        halo, stride = self.field.halo or self.volume, self.field.stride
        return box_of(
            (max(0, (first - reach) // stride * stride), min(n, last + reach))
            for (first, last), reach, n in zip(core, halo, self.volume, strict=True)
        )


def bounding_box(where: Tensor) -> Box:
    """Of what is true in (1, 1, X, Y, Z); empty where nothing is."""
    sides = []
    for axis in range(2, 5):
        hit = where.any(dim=tuple(other for other in range(5) if other != axis)).nonzero().flatten()
        sides.append((int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, 0))
    return box_of(sides)


def box_of(sides: Iterable[Side]) -> Box:
    """Three sides, as a tuple that the type checker counts."""
    x, y, z = sides
    return x, y, z


def place_of(box: Box) -> Place:
    """A box as slices."""
    x, y, z = (slice(first, last) for first, last in box)
    return x, y, z


def inside(place: Place) -> tuple[slice, slice, slice, slice, slice]:
    """A place in a tensor (B, C, X, Y, Z)."""
    return slice(None), slice(None), *place
