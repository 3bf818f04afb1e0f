"""How far the surfaces of two masks lie apart: HD95, and surface Dice at a tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def hd95_mm(prediction: NDArray[Any], reference: NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """95th percentile of the distance from one mask's surface to the other's, the larger of the two directions, in mm.

    A surface voxel is a voxel of the mask with a neighbour along an axis that is outside it; beyond the image is
    outside. NaN when either mask is empty.
    """
    return SurfaceDistances.between(prediction, reference, spacing_mm).percentile_mm(95)


def surface_dice(
    prediction: NDArray[Any], reference: NDArray[Any], spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Share of the two surfaces' area that lies within `tolerance_mm` of the other surface; NaN when both are empty.

    The surface is made of the same voxels as for `hd95_mm`, and distances are those between their centres; each counts
    the area of its faces (in 2D, the length of its edges) that are turned outside. One empty mask gives 0.

    Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy for
    radiotherapy", 2018, Equation 4. They take the area from triangles between the voxels; on a voxel's faces, planes
    along the axes have their exact area and oblique ones too much, in both parts of the fraction alike.
    """
    return SurfaceDistances.between(prediction, reference, spacing_mm).share_within(tolerance_mm)


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each surface voxel of one mask is from the other mask's surface, and how much surface it stands for.

    Attributes:
        to_reference_mm: a value for each surface voxel of the prediction; infinite where the reference is empty.
        to_prediction_mm: a value for each surface voxel of the reference.
        area: of the prediction's voxels, mm2 (mm in 2D).
        reference_area: of the reference's.
    """

    to_reference_mm: Floats
    to_prediction_mm: Floats
    area: Floats
    reference_area: Floats

    @classmethod
    def between(
        cls, prediction: NDArray[Any], reference: NDArray[Any], spacing_mm: Sequence[float]
    ) -> SurfaceDistances:
        """Those of two masks of one shape."""
        a, b = as_masks(prediction, reference)
        if not (a | b).any():
            nothing = np.zeros(0)
            return cls(nothing, nothing, nothing, nothing)
        box = tuple(
            slice(max(0, first - 1), last + 1) for first, last in zip(*_extent(a | b), strict=True)
        )  # one voxel around the union keeps every surface and every nearest neighbour
        area_a, area_b = _outer_area(a[box], spacing_mm), _outer_area(b[box], spacing_mm)
        on_a, on_b = area_a > 0, area_b > 0
        return cls(
            _distance_mm(on_b, spacing_mm)[on_a], _distance_mm(on_a, spacing_mm)[on_b], area_a[on_a], area_b[on_b]
        )

    def percentile_mm(self, percent: float) -> float:
        """That percentile of the distances, the larger of the two directions; NaN when either mask is empty."""
        if not self.area.size or not self.reference_area.size:
            return math.nan
        return float(max(np.percentile(x, percent) for x in (self.to_reference_mm, self.to_prediction_mm)))

    def share_within(self, tolerance_mm: float) -> float:
        """Share of both surfaces within the tolerance of each other; NaN when both masks are empty."""
        total = self.area.sum() + self.reference_area.sum()
        near = self.area[self.to_reference_mm <= tolerance_mm].sum()
        near += self.reference_area[self.to_prediction_mm <= tolerance_mm].sum()
        return float(near / total) if total else math.nan


def as_masks(prediction: NDArray[Any], reference: NDArray[Any]) -> tuple[Mask, Mask]:
    """Two masks of one shape.

    Raises:
        ValueError: their shapes differ.
    """
    a, b = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"prediction {a.shape} and reference {b.shape} differ in shape; resample one onto the other")
    return a, b


def _extent(mask: Mask) -> tuple[list[int], list[int]]:
    """First voxel along each axis, and one past the last, of a mask that is not empty."""
    first, last = [], []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        first.append(int(hit[0]))
        last.append(int(hit[-1]) + 1)
    return first, last


def _outer_area(mask: Mask, spacing_mm: Sequence[float]) -> Floats:
    """Per voxel of the mask the area of its faces that are turned outside; 0 in its inside and outside of it."""
    padded = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    area = np.zeros(mask.shape)
    for axis, spacing in enumerate(spacing_mm):
        face = math.prod(spacing_mm) / spacing
        for step in (-1, 1):
            area += face * (mask & ~np.roll(padded, step, axis)[inner])
    return area


def _distance_mm(surface: Mask, spacing_mm: Sequence[float]) -> Floats:
    if not surface.any():
        return np.full(surface.shape, math.inf)
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=list(spacing_mm)))
