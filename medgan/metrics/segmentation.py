"""How well label maps agree, per class: Dice, HD95, surface Dice and volume; missed organs are counted, never dropped.

The usual mean of HD95 leaves out organs that were missed altogether, so that missing one improves the score. Here each
organ that stands in one map only gets Dice 0, surface Dice 0 and the diagonal of the image as its distance; the means
without such organs are given beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgan.metrics.surfaces import Mask, SurfaceDistances, as_masks

Presence = Literal["both", "missed", "spurious", "absent"]


@dataclass(frozen=True)
class OrganScore:
    """Agreement on one class.

    Attributes:
        label: value in the label maps.
        presence: "both", "missed" (in the reference only), "spurious" (in the prediction only) or "absent".
        dice: 0 to 1; 0 where missed or spurious, NaN where absent (all others here alike).
        hd95_mm: 95th percentile of the distances between the surfaces; the penalty where missed or spurious.
        surface_dice: share of both surfaces that lies within the tolerance of the other, 0 to 1; 0 where missed or
            spurious.
        volume_ml: in the prediction.
        reference_volume_ml: in the reference.
    """

    label: int
    presence: Presence
    dice: float
    hd95_mm: float
    surface_dice: float
    volume_ml: float
    reference_volume_ml: float

    @property
    def volume_difference_ml(self) -> float:
        """Prediction minus reference: above 0 where the organ came out too large."""
        return self.volume_ml - self.reference_volume_ml

    @property
    def volume_difference_percent(self) -> float:
        """The difference in percent of the reference: -100 where missed, NaN where the reference has none."""
        if not self.reference_volume_ml > 0:
            return math.nan
        return 100 * self.volume_difference_ml / self.reference_volume_ml


@dataclass(frozen=True)
class SegmentationScore:
    """Agreement on all classes that stand in the reference or the prediction.

    Attributes:
        organs: one entry per class that was asked for.
        dice: mean over the classes in the reference or the prediction, NaN if there are none.
        hd95_mm: the same mean, missed and spurious organs at the penalty.
        hd95_found_mm: mean over the classes in both only, NaN if there are none: it looks better the more is missed.
        surface_dice: mean over the classes in the reference or the prediction.
        surface_dice_found: mean over the classes in both only.
        missed: number of classes in the reference only.
        spurious: number of classes in the prediction only.
        penalty_mm: the distance that a missed or spurious organ counts: the diagonal of the image.
    """

    organs: tuple[OrganScore, ...]
    dice: float
    hd95_mm: float
    hd95_found_mm: float
    surface_dice: float
    surface_dice_found: float
    missed: int
    spurious: int
    penalty_mm: float


def dice(prediction: NDArray[Any], reference: NDArray[Any]) -> float:
    """Twice the overlap of two masks of one shape over the sum of their sizes; NaN when both are empty."""
    a, b = as_masks(prediction, reference)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else math.nan


def segmentation_score(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    labels: Iterable[int],
    spacing_mm: Sequence[float],
    mask: NDArray[Any] | None = None,
    *,
    tolerance_mm: float = 2.0,
) -> SegmentationScore:
    """Compare two integer label maps of one shape, class by class.

    Args:
        prediction: label map.
        reference: label map; voxels that are -1 are unlabelled and count for nothing.
        labels: the classes to score, usually all but the background.
        spacing_mm: voxel size along each axis.
        mask: only what lies in it counts.
        tolerance_mm: of surface Dice.

    Raises:
        ValueError: shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape; resample one")
    known = reference != -1 if mask is None else (reference != -1) & (mask > 0)
    penalty = math.sqrt(sum((n * mm) ** 2 for n, mm in zip(reference.shape, spacing_mm, strict=True)))
    organs = tuple(
        _organ(label, (prediction == label) & known, (reference == label) & known, spacing_mm, penalty, tolerance_mm)
        for label in labels
    )
    seen = [organ for organ in organs if organ.presence != "absent"]
    return SegmentationScore(
        organs=organs,
        dice=_mean(organ.dice for organ in seen),
        hd95_mm=_mean(organ.hd95_mm for organ in seen),
        hd95_found_mm=_mean(organ.hd95_mm for organ in seen if organ.presence == "both"),
        surface_dice=_mean(organ.surface_dice for organ in seen),
        surface_dice_found=_mean(organ.surface_dice for organ in seen if organ.presence == "both"),
        missed=sum(organ.presence == "missed" for organ in organs),
        spurious=sum(organ.presence == "spurious" for organ in organs),
        penalty_mm=penalty,
    )


def _organ(
    label: int,
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    penalty_mm: float,
    tolerance_mm: float,
) -> OrganScore:
    voxel_ml = math.prod(spacing_mm) / 1000
    presence = _PRESENCE[bool(prediction.any()), bool(reference.any())]
    if presence == "absent":
        return OrganScore(label, presence, *[math.nan] * 5)
    volumes = (voxel_ml * int(prediction.sum()), voxel_ml * int(reference.sum()))
    if presence != "both":
        return OrganScore(label, presence, 0.0, penalty_mm, 0.0, *volumes)
    surfaces = SurfaceDistances.between(prediction, reference, spacing_mm)
    return OrganScore(
        label,
        presence,
        dice(prediction, reference),
        surfaces.percentile_mm(95),
        surfaces.share_within(tolerance_mm),
        *volumes,
    )


_PRESENCE: dict[tuple[bool, bool], Presence] = {  # in the prediction, in the reference
    (True, True): "both",
    (False, True): "missed",
    (True, False): "spurious",
    (False, False): "absent",
}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan
