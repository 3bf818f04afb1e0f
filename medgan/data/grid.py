"""From a volume's own grid to the working grid and back.

Axes are turned and flipped, each is resampled on its own, and a box is cut out. No axis is ever rotated in between: an
oblique or sheared grid stays as oblique or sheared as it was, and `GridMap` undoes every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import nibabel.orientations
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medgan.config import InputError

Order = Literal[0, 1]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class GridMap:
    """The steps from an input grid to a working grid, and back: turn axes, resample, crop.

    Attributes:
        input_shape: of the input grid.
        axes: working axis i is the input's axis ``axes[i]``.
        flips: whether working axis i runs against the input's.
        step: voxels of the input per working voxel, along the working axes.
        resampled_shape: after resampling, before cropping; both grids have the same centre.
        start: first voxel of the crop in the resampled grid.
        working_shape: of the crop.
    """

    input_shape: Triple
    axes: Triple
    flips: tuple[bool, bool, bool]
    step: tuple[float, float, float]
    resampled_shape: Triple
    start: Triple
    working_shape: Triple

    @classmethod
    def plan(
        cls,
        shape: Triple,
        affine: NDArray[np.float64],
        *,
        orientation: str = "RAS",
        spacing_mm: Sequence[float] | None = None,
    ) -> Self:
        """The map to the given axis order and spacing (None: the spacing stays), nothing cropped yet."""
        orientations: Any = nibabel.orientations
        change = orientations.ornt_transform(
            orientations.io_orientation(affine), orientations.axcodes2ornt(tuple(orientation))
        )
        axes = triple(int(np.flatnonzero(change[:, 0] == i)[0]) for i in range(3))
        flips = tuple(bool(change[axis, 1] < 0) for axis in axes)
        old_mm = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]
        step = np.ones(3) if spacing_mm is None else np.asarray(spacing_mm, dtype=np.float64) / old_mm
        turned = [shape[axis] for axis in axes]
        resampled = triple(max(1, math.ceil(n / s - 1e-3)) for n, s in zip(turned, step, strict=True))
        return cls(
            input_shape=triple(shape),
            axes=axes,
            flips=(flips[0], flips[1], flips[2]),
            step=(float(step[0]), float(step[1]), float(step[2])),
            resampled_shape=resampled,
            start=(0, 0, 0),
            working_shape=resampled,
        )

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Self:
        """The same map, cropped further to a box in voxels of its working grid."""
        values = asdict(self)
        values["start"] = triple(a + b for a, b in zip(self.start, start, strict=True))
        values["working_shape"] = triple(shape)
        return type(self)(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The map that `to_dict` wrote down."""
        return cls(**{name: tuple(value) for name, value in values.items()})

    def affine(self, input_affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Working voxel to RAS in mm, (4, 4)."""
        to_input = np.zeros((4, 4))
        to_input[3, 3] = 1.0
        for i, axis in enumerate(self.axes):
            n, sign = self.input_shape[axis], -1.0 if self.flips[i] else 1.0
            first = self._input_position(i, np.array(0.0))
            to_input[axis, i] = sign * self.step[i]
            to_input[axis, 3] = n - 1 - first if self.flips[i] else first
        return np.asarray(input_affine @ to_input, dtype=np.float64)

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(i for i in range(3) if self.flips[i])

    def _input_position(self, i: int, working: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where working voxels lie along working axis i, in voxels of the turned input."""
        n, m = self.input_shape[self.axes[i]], self.resampled_shape[i]
        return np.asarray((n - 1) / 2 + (working + self.start[i] - (m - 1) / 2) * self.step[i])

    def to_working(self, array: NDArray[Any], order: Order) -> NDArray[Any]:
        """An array on the input grid, seen on the working grid.

        Order 1 is linear (averaging where voxels grow, so that nothing aliases) and gives float32; order 0 takes the
        nearest voxel and keeps the type, for labels and masks.
        """
        if array.shape != self.input_shape:
            raise InputError(f"array of shape {array.shape}: not on the grid of shape {self.input_shape}")
        out = array.transpose(self.axes)
        out = np.flip(out, self._flipped)
        for i in range(3):
            positions = self._input_position(i, np.arange(self.working_shape[i], dtype=np.float64))
            out = _resample(out, i, positions, self.step[i], order)
        return np.ascontiguousarray(out, dtype=np.float32 if order else array.dtype)

    def to_input(self, array: NDArray[Any], order: Order, fill: float) -> NDArray[Any]:
        """An array on the working grid, seen on the input grid; `fill` where the crop does not reach."""
        if array.shape != self.working_shape:
            raise InputError(f"array of shape {array.shape}: not on the working grid of shape {self.working_shape}")
        turned_shape = [self.input_shape[axis] for axis in self.axes]
        out, reached = array, []
        for i in range(3):
            first = float(self._input_position(i, np.array(0.0)))
            positions = (np.arange(turned_shape[i], dtype=np.float64) - first) / self.step[i]
            last = self.working_shape[i] - 0.5 + 1e-6
            within = np.flatnonzero((positions > -0.5 - 1e-6) & (positions < last))
            within = within if len(within) else np.array([int(np.argmin(np.abs(positions)))])
            reached.append(slice(int(within[0]), int(within[-1]) + 1))
            out = _resample(out, i, positions[within], 1 / self.step[i], order)
        turned = np.full(turned_shape, fill, dtype=np.float32 if order else array.dtype)
        turned[tuple(reached)] = out
        turned = np.flip(turned, self._flipped)
        return np.ascontiguousarray(turned.transpose(np.argsort(self.axes)))


def triple(values: Iterable[Any]) -> Triple:
    """Three whole numbers, as a tuple that the type checker counts."""
    first, second, third = (int(value) for value in values)
    return first, second, third


def _resample(
    array: NDArray[Any], axis: int, positions: NDArray[np.float64], step: float, order: Order
) -> NDArray[Any]:
    """`array` read along one axis at fractional `positions`, `step` voxels apart; the border voxel goes on outside."""
    n = array.shape[axis]
    whole = np.rint(positions)
    if np.allclose(positions, whole, rtol=0, atol=1e-6) and math.isclose(step, 1.0, abs_tol=1e-6):
        first, last = int(whole[0]), int(whole[-1])
        if first >= 0 and last < n:  # nothing to interpolate: a cut
            return array[(slice(None),) * axis + (slice(first, last + 1),)]
    if order == 0:
        nearest = np.clip(np.floor(positions + 0.5 - 1e-9), 0, n - 1).astype(np.intp)
        return np.take(array, nearest, axis=axis)
    reach = max(1.0, step)  # half the width of the triangle that weighs the neighbours
    taps = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
    neighbours = np.floor(positions + 0.5)[:, None] + taps
    weights = np.maximum(0.0, 1 - np.abs(neighbours - positions[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(positions)), len(taps))
    columns = np.clip(neighbours, 0, n - 1).astype(np.intp).ravel()
    matrix = sparse.csr_matrix((weights.astype(np.float32).ravel(), (rows, columns)), shape=(len(positions), n))
    front = np.moveaxis(array, axis, 0)
    mixed = matrix @ np.ascontiguousarray(front.reshape(n, -1), dtype=np.float32)
    return np.moveaxis(mixed.reshape(len(positions), *front.shape[1:]), 0, axis)
