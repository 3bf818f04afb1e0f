"""Whether a translation shows where its windows lay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SeamScore:
    """How much a translation owes to the cut of its volume into windows. Without seams ``jump_ratio`` is near 1.

    Attributes:
        windows: that were computed.
        border_jump: mean absolute difference of neighbours on two sides of a border; None: there is no border.
        interior_jump: the same of all other neighbours, along the axes that borders lie across.
        shifted_rms: root mean square difference to a second run, its windows shifted by half; None: there was none.
    """

    windows: int
    border_jump: float | None
    interior_jump: float | None
    shifted_rms: float | None

    @property
    def jump_ratio(self) -> float | None:
        """Of the jumps across borders to those inside; None where one is missing or nothing varies inside."""
        if self.border_jump is None or not self.interior_jump:
            return None
        return self.border_jump / self.interior_jump


def border_jumps(
    image: NDArray[np.floating], borders: Sequence[Sequence[int]], mask: NDArray[np.bool_]
) -> tuple[float, float] | None:
    """Mean absolute difference between neighbours: across the borders, and elsewhere along the same axes.

    Axes along which voxels are far apart have larger jumps anywhere, so the second is weighted over the axes as the
    borders are. None where no two voxels in the mask lie on two sides of a border.

    Args:
        image: (X, Y, Z).
        borders: along each axis, the voxels at which a new window begins.
        mask: (X, Y, Z); only pairs of which both are in it count.
    """
    across = inside = 0.0
    pairs = 0
    for axis, starts in enumerate(borders):
        if not len(starts):
            continue
        along, kept = np.moveaxis(image, axis, 0), np.moveaxis(mask, axis, 0)
        sums, counts = np.zeros(2), np.zeros(2)
        for i in range(1, len(along)):
            both = kept[i] & kept[i - 1]
            is_border = int(i in starts)
            sums[is_border] += np.abs(along[i][both] - along[i - 1][both]).sum(dtype=np.float64)
            counts[is_border] += np.count_nonzero(both)
        if counts.all():
            across += sums[1]
            inside += counts[1] * sums[0] / counts[0]
            pairs += int(counts[1])
    return (float(across / pairs), float(inside / pairs)) if pairs else None


def difference_rms(one: NDArray[np.floating], other: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Root mean square difference of two images of one shape where `mask` is true; NaN for an empty mask."""
    if not mask.any():
        return float("nan")
    difference = one[mask].astype(np.float64) - other[mask]
    return float(np.sqrt(np.mean(np.square(difference))))
