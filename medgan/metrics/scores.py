"""All numbers of one case in one flat mapping: what a row of ``cases.csv`` holds.

Names are ``mae``, ``mae/bone``, ``dice/liver``, ...; a value that the case does not have is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.metrics.image import decibels, differences, mae, ssim
from medgan.metrics.segmentation import segmentation_score

ORGAN_METRICS = (
    "dice",
    "hd95_mm",
    "surface_dice",
    "volume_ml",
    "reference_volume_ml",
    "volume_difference_ml",
    "volume_difference_percent",
)


def image_scores(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[np.bool_],
    data_range: float,
    regions: Mapping[str, NDArray[np.bool_]],
) -> dict[str, float]:
    """``mae, bias, psnr, ssim`` inside `mask`, and ``mae/<region>`` where each region lies in it.

    Args:
        prediction: (X, Y, Z) in stored units.
        reference: the truth, same shape.
        mask: where to score.
        data_range: of PSNR and SSIM, in stored units.
        regions: parts to look at one by one; one that the mask does not meet has NaN.

    Raises:
        ValueError: shapes differ, the mask is empty, or a voxel in it is not finite.
    """
    apart = differences(prediction, reference, mask)
    scores = {
        "mae": apart.absolute,
        "bias": apart.signed,
        "psnr": decibels(apart.squared, data_range),
        "ssim": ssim(prediction, reference, data_range, mask),
    }
    for name, region in regions.items():
        part = mask & region
        scores[f"mae/{name}"] = mae(prediction, reference, part) if part.any() else math.nan
    return scores


def label_scores(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    classes: Mapping[int, str],
    spacing_mm: Sequence[float],
    mask: NDArray[np.bool_] | None,
    tolerance_mm: float = 2.0,
) -> dict[str, float]:
    """The means of `segmentation_score`, ``dice`` to ``spurious``, and `ORGAN_METRICS` of each class.

    Args:
        prediction: label map.
        reference: the true one, same shape.
        classes: names by value.
        spacing_mm: voxel size along each axis.
        mask: only what lies in it counts.
        tolerance_mm: of surface Dice.

    Raises:
        ValueError: shapes differ.
    """
    score = segmentation_score(prediction, reference, classes, spacing_mm, mask, tolerance_mm=tolerance_mm)
    scores = {
        "dice": score.dice,
        "hd95_mm": score.hd95_mm,
        "hd95_found_mm": score.hd95_found_mm,
        "surface_dice": score.surface_dice,
        "surface_dice_found": score.surface_dice_found,
        "missed": float(score.missed),
        "spurious": float(score.spurious),
    }
    for metric in ORGAN_METRICS:
        scores |= {f"{metric}/{classes[organ.label]}": float(getattr(organ, metric)) for organ in score.organs}
    return scores
