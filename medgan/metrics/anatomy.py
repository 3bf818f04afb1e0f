"""Whether a translation shows the anatomy of its source: organs as they were read off both, without any truth.

Shapes are compared between two label maps on one grid; intensities are those of the translation where the source has
the organ, so that an organ of the right shape and the wrong tissue is seen too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.metrics.displacement import displacement_mm
from medgan.metrics.segmentation import dice

PIECE_ML = 1.0
SPOT_MM = 20.0
_DISPLACED_ML = 3.0  # smaller pieces are too few voxels to be looked for elsewhere
_TOUCHING = ndimage.generate_binary_structure(3, 3)
_FOUND = 0.25  # share of a piece that the other map must know


@dataclass(frozen=True)
class OrganReading:
    """One organ in the source and in the translation; NaN where there is nothing to measure.

    Attributes:
        label: value in the label maps.
        dice: overlap of both, 0 to 1.
        volume_ml: in the source.
        volume_change_ml: translation minus source.
        volume_change_percent: the same in percent of the source: -100 where it was lost, NaN where the source has none.
        shift_mm: distance between the centroids.
        missing: pieces of the source of which the translation knows less than a quarter.
        extra: pieces of the translation of which the source knows less than a quarter.
        spot_percent: the largest share of a cube of `SPOT_MM` in which the two disagree on the organ.
        intensity_low, intensity, intensity_high: of the translation where the source has the organ: 10th percentile,
            median, 90th percentile, stored units.
        spot_low, spot_high: by how much the darkest and the brightest cube of `SPOT_MM` of the translation differ from
            `intensity`, where the source has the organ: means over the cube, in which what is not organ counts as 0 and
            no voxel as more than the tolerance; stored units, at most 0 and at least 0.
        displacement_mm: the farthest that a piece of the organ looks displaced in the image (`displacement_mm`).
        slice: index along the slice axis where the two disagree most; where they agree, the organ's middle.
    """

    label: int
    dice: float
    volume_ml: float
    volume_change_ml: float
    volume_change_percent: float
    shift_mm: float
    missing: int
    extra: int
    spot_percent: float
    intensity_low: float
    intensity: float
    intensity_high: float
    spot_low: float
    spot_high: float
    displacement_mm: float
    slice: int


def read_organs(
    source: NDArray[Any],
    translation: NDArray[Any],
    image: NDArray[Any],
    labels: Iterable[int],
    spacing_mm: Sequence[float],
    *,
    tolerance: float,
    piece_ml: float = PIECE_ML,
    slice_axis: int = 2,
) -> list[OrganReading]:
    """The reading of each organ that stands in one map or the other.

    Args:
        source: (X, Y, Z) labels of the source; where they are -1 nothing is known and nothing compared.
        translation: (X, Y, Z) labels of the translation.
        image: (X, Y, Z) the translation, stored units.
        labels: the organs' values.
        spacing_mm: of the grid.
        tolerance: difference of intensity from which a voxel is no worse for differing more, stored units.
        piece_ml: smaller pieces are noise and count neither as missing nor as extra.
        slice_axis: along which slices are counted.

    Raises:
        ValueError: shapes differ.
    """
    if not source.shape == translation.shape == image.shape:
        raise ValueError(f"shapes {source.shape}, {translation.shape} and {image.shape} differ; give one grid")
    known = source != -1
    readings = []
    for label in labels:
        one, other = source == label, (translation == label) & known
        box = _box(one | other)
        if box is not None:
            voxels = _DISPLACED_ML * 1000 / math.prod(spacing_mm)
            pieces = _pieces(one, voxels)
            displaced = displacement_mm(pieces, source, image, spacing_mm, tolerance) if pieces else math.nan
            cut = one[box], other[box], image[box]
            readings.append(_organ(label, *cut, spacing_mm, piece_ml, tolerance, displaced, slice_axis, box))
    return readings


def _organ(
    label: int,
    one: NDArray[np.bool_],
    other: NDArray[np.bool_],
    image: NDArray[Any],
    spacing_mm: Sequence[float],
    piece_ml: float,
    tolerance: float,
    displaced_mm: float,
    slice_axis: int,
    box: tuple[slice, ...],
) -> OrganReading:
    voxel_ml = math.prod(spacing_mm) / 1000
    volume, change = one.sum() * voxel_ml, (int(other.sum()) - int(one.sum())) * voxel_ml
    both = one.any() and other.any()
    shift = np.linalg.norm((_centroid(one) - _centroid(other)) * spacing_mm) if both else math.nan
    pieces = _pieces(one, piece_ml / voxel_ml)
    inside = np.percentile(image[one], (10, 50, 90)) if one.any() else [math.nan] * 3
    unlike = np.where(one, np.clip(image - inside[1], -tolerance, tolerance), 0) if one.any() else np.zeros(one.shape)
    spots = _over_cubes(unlike, spacing_mm)
    differ = one ^ other
    per_slice = np.moveaxis(differ if differ.any() else one, slice_axis, 0).sum(axis=(1, 2))
    where = int(np.argmax(per_slice)) if differ.any() else round(float(_centroid(one)[slice_axis]))
    return OrganReading(
        label=label,
        dice=dice(other, one),
        volume_ml=float(volume),
        volume_change_ml=float(change),
        volume_change_percent=float(100 * change / volume) if volume else math.nan,
        shift_mm=float(shift),
        missing=sum(bool(other[piece].mean() < _FOUND) for piece in pieces),
        extra=sum(bool(one[piece].mean() < _FOUND) for piece in _pieces(other, piece_ml / voxel_ml)),
        spot_percent=100 * float(np.clip(_over_cubes(differ, spacing_mm).max(), 0, 1)),
        intensity_low=float(inside[0]),
        intensity=float(inside[1]),
        intensity_high=float(inside[2]),
        spot_low=float(min(spots.min(), 0)),
        spot_high=float(max(spots.max(), 0)),
        displacement_mm=displaced_mm,
        slice=where + box[slice_axis].start,
    )


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else None


def _centroid(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(mask).mean(axis=0), dtype=np.float64)


def _pieces(mask: NDArray[np.bool_], voxels: float) -> list[NDArray[np.bool_]]:
    """The connected pieces of at least so many voxels; voxels that share a corner are connected."""
    pieces, count = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    return [pieces == index for index in range(1, count + 1) if sizes[index] >= voxels]


def _over_cubes(values: NDArray[Any], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """The mean over the cube of `SPOT_MM` around each voxel; beyond the array lies 0."""
    side = [max(1, round(SPOT_MM / mm)) for mm in spacing_mm]
    return np.asarray(ndimage.uniform_filter(values.astype(np.float32), side, mode="constant"), np.float32)
