"""The per-voxel lookup table: what can be had without looking at a voxel's neighbours.

A translation that does not beat it has learnt nothing from context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Statistic = Literal["mean", "median"]


@dataclass(frozen=True)
class LookupTable:
    """One target value per bin of the source's intensity.

    Attributes:
        low: stored value of the source where the first bin starts; what is below falls into that bin.
        high: where the last bin ends; what is above falls into that bin.
        values: (bins,) float64, stored units of the target.
    """

    low: float
    high: float
    values: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        sources: Sequence[NDArray[Any]],
        targets: Sequence[NDArray[Any]],
        masks: Sequence[NDArray[Any]],
        *,
        low: float = 0.0,
        high: float = 1500.0,
        bins: int = 60,
        statistic: Statistic = "mean",
    ) -> LookupTable:
        """The table of paired images, each pair on one grid, over the voxels inside its mask.

        Args:
            sources: images that the table reads.
            targets: images that it is to give; the mean per bin has the least squared error, the median the least
                absolute one.
            masks: voxels to learn from, one per pair.
            low: stored value of the source where the first bin starts.
            high: where the last bin ends.
            bins: number of bins, of equal width; 1 is one value everywhere.
            statistic: "mean" or "median".

        A bin without voxels takes the line between its neighbours that have some.

        Raises:
            ValueError: no voxel to learn from, or the range is empty.
        """
        if not low < high:
            raise ValueError(f"the range {low:g} to {high:g} is empty; let low be below high")
        pairs = [(s[m > 0], t[m > 0]) for s, t, m in zip(sources, targets, masks, strict=True)]
        if not sum(source.size for source, _ in pairs):
            raise ValueError("no voxel to fit a lookup table on; the masks are empty")
        index = np.concatenate([_bin(source, low, high, bins) for source, _ in pairs])
        target = np.concatenate([target for _, target in pairs]).astype(np.float64)
        order = np.argsort(index, kind="stable")
        groups = np.split(target[order], np.cumsum(np.bincount(index, minlength=bins))[:-1])
        of = np.mean if statistic == "mean" else np.median
        filled = [i for i, group in enumerate(groups) if group.size]
        return cls(low, high, np.interp(np.arange(bins), filled, [float(of(groups[i])) for i in filled]))

    def apply(self, source: NDArray[Any]) -> NDArray[np.float32]:
        """The target image that the table reads off `source`, of the same shape."""
        return self.values.astype(np.float32)[_bin(source, self.low, self.high, len(self.values))]


def _bin(source: NDArray[Any], low: float, high: float, bins: int) -> NDArray[np.intp]:
    """The bin of each voxel; NaN falls into the first."""
    place = np.nan_to_num((np.asarray(source, dtype=np.float64) - low) * (bins / (high - low)), nan=0.0)
    return np.clip(np.floor(place), 0, bins - 1).astype(np.intp)
