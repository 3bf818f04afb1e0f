"""What a training step takes, as straight lines over the voxels of a batch, drawn through dry steps.

Per step there are alive: two generators, two discriminators and two segmentors with gradients, averages and Adam's two
moments (fixed), the maps of both translations and both ways back with what D and S make of them (by the voxel), and the
pools of earlier translations (by the voxel, once they are full).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_BYTES_OF_POOLED = 4  # float32


@dataclass(frozen=True)
class Sample:
    """What dry steps took.

    Attributes:
        patch_size: voxels along each axis.
        peak_bytes: of the process, or of the GPU.
        seconds: of a step.
    """

    patch_size: tuple[int, int, int]
    peak_bytes: int
    seconds: float

    @property
    def voxels(self) -> int:
        """Of a patch, which was a batch."""
        return math.prod(self.patch_size)


@dataclass(frozen=True)
class StepModel:
    """Memory and time of a step as straight lines.

    Attributes:
        fixed_bytes: process, libraries, weights, gradients, moments.
        bytes_per_voxel: of a batch.
        pool_images: earlier translations that are kept in all, one channel each.
        fixed_seconds: of a step of no voxels.
        seconds_per_voxel: of a batch.
    """

    fixed_bytes: float
    bytes_per_voxel: float
    pool_images: int
    fixed_seconds: float
    seconds_per_voxel: float

    @classmethod
    def fit(cls, samples: Sequence[Sample], pool_images: int) -> Self:
        """Through samples of at least two sizes, batches of one, taken with empty pools."""
        voxels = np.array([sample.voxels for sample in samples], dtype=np.float64)
        fixed_bytes, bytes_per_voxel = _line(voxels, np.array([float(sample.peak_bytes) for sample in samples]))
        fixed_seconds, seconds_per_voxel = _line(voxels, np.array([sample.seconds for sample in samples]))
        return cls(fixed_bytes, bytes_per_voxel, pool_images, fixed_seconds, seconds_per_voxel)

    def peak_bytes(self, patch_voxels: int, batch_size: int = 1) -> float:
        """The largest memory of a training once its pools are full."""
        pools = self.pool_images * patch_voxels * _BYTES_OF_POOLED
        return self.fixed_bytes + self.bytes_per_voxel * patch_voxels * batch_size + pools

    def seconds(self, patch_voxels: int, batch_size: int = 1) -> float:
        """The time of a step."""
        return self.fixed_seconds + self.seconds_per_voxel * patch_voxels * batch_size


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Intercept and slope by least squares, neither below 0."""
    slope, intercept = np.polyfit(x, y, 1)
    if intercept < 0:
        return 0.0, float((x * y).sum() / (x * x).sum())
    return (float(intercept), float(slope)) if slope > 0 else (float(y.mean()), 0.0)
