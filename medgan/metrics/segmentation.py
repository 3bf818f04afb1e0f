"""How well label maps agree: Dice and HD95 per class, with missed and spurious organs counted, never dropped.

The usual mean of HD95 leaves out organs that were missed altogether, so that missing one improves the score. Here each
organ that stands in one map only gets Dice 0 and the diagonal of the image as its distance; the mean without such
organs is given beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Presence = Literal["both", "missed", "spurious", "absent"]


@dataclass(frozen=True)
class OrganScore:
    """Agreement on one class.

    Attributes:
        label: value in the label maps.
        presence: "both", "missed" (in the reference only), "spurious" (in the prediction only) or "absent".
        dice: 0 to 1; 0 where missed or spurious, NaN where absent.
        hd95_mm: 95th percentile of the distances between the surfaces; the penalty where missed or spurious, NaN where
            absent.
    """

    label: int
    presence: Presence
    dice: float
    hd95_mm: float


@dataclass(frozen=True)
class SegmentationScore:
    """Agreement on all classes that stand in the reference or the prediction.

    Attributes:
        organs: one entry per class that was asked for.
        dice: mean over the classes in the reference or the prediction, NaN if there are none.
        hd95_mm: the same mean, missed and spurious organs at the penalty.
        hd95_found_mm: mean over the classes in both only, NaN if there are none: it looks better the more is missed.
        missed: number of classes in the reference only.
        spurious: number of classes in the prediction only.
        penalty_mm: the distance that a missed or spurious organ counts: the diagonal of the image.
    """

    organs: tuple[OrganScore, ...]
    dice: float
    hd95_mm: float
    hd95_found_mm: float
    missed: int
    spurious: int
    penalty_mm: float


def dice(prediction: NDArray[Any], reference: NDArray[Any]) -> float:
    """Twice the overlap of two masks of one shape over the sum of their sizes; NaN when both are empty."""
    a, b = _masks(prediction, reference)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else math.nan


def hd95_mm(prediction: NDArray[Any], reference: NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """95th percentile of the distance from one mask's surface to the other's, the larger of the two directions, in mm.

    A surface voxel is a voxel of the mask with a neighbour along an axis that is outside it; beyond the image is
    outside. NaN when either mask is empty.
    """
    a, b = _masks(prediction, reference)
    if not a.any() or not b.any():
        return math.nan
    box = tuple(
        slice(max(0, first - 1), last + 1) for first, last in zip(*_extent(a | b), strict=True)
    )  # one voxel around the union keeps every surface and every nearest neighbour
    surface_a, surface_b = _surface(a[box]), _surface(b[box])
    spacing = list(spacing_mm)
    to_b = ndimage.distance_transform_edt(~surface_b, sampling=spacing)[surface_a]
    to_a = ndimage.distance_transform_edt(~surface_a, sampling=spacing)[surface_b]
    return float(max(np.percentile(to_b, 95), np.percentile(to_a, 95)))


def segmentation_score(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    labels: Iterable[int],
    spacing_mm: Sequence[float],
    mask: NDArray[Any] | None = None,
) -> SegmentationScore:
    """Compare two integer label maps of one shape, class by class.

    Args:
        prediction: label map.
        reference: label map; voxels that are -1 are unlabelled and count for nothing.
        labels: the classes to score, usually all but the background.
        spacing_mm: voxel size along each axis.
        mask: only what lies in it counts.

    Raises:
        ValueError: shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape; resample one")
    known = reference != -1 if mask is None else (reference != -1) & (mask > 0)
    penalty = math.sqrt(sum((n * mm) ** 2 for n, mm in zip(reference.shape, spacing_mm, strict=True)))
    organs = tuple(
        _organ(label, (prediction == label) & known, (reference == label) & known, spacing_mm, penalty)
        for label in labels
    )
    seen = [organ for organ in organs if organ.presence != "absent"]
    return SegmentationScore(
        organs=organs,
        dice=_mean(organ.dice for organ in seen),
        hd95_mm=_mean(organ.hd95_mm for organ in seen),
        hd95_found_mm=_mean(organ.hd95_mm for organ in seen if organ.presence == "both"),
        missed=sum(organ.presence == "missed" for organ in organs),
        spurious=sum(organ.presence == "spurious" for organ in organs),
        penalty_mm=penalty,
    )


def _organ(label: int, prediction: Mask, reference: Mask, spacing_mm: Sequence[float], penalty_mm: float) -> OrganScore:
    presence = _PRESENCE[bool(prediction.any()), bool(reference.any())]
    if presence == "both":
        return OrganScore(label, presence, dice(prediction, reference), hd95_mm(prediction, reference, spacing_mm))
    if presence == "absent":
        return OrganScore(label, presence, math.nan, math.nan)
    return OrganScore(label, presence, 0.0, penalty_mm)


_PRESENCE: dict[tuple[bool, bool], Presence] = {  # in the prediction, in the reference
    (True, True): "both",
    (False, True): "missed",
    (True, False): "spurious",
    (False, False): "absent",
}


def _masks(prediction: NDArray[Any], reference: NDArray[Any]) -> tuple[Mask, Mask]:
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


def _surface(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan
