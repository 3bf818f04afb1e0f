"""MR signal without units on a scale that all images of a domain share: landmarks, learnt from the training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.config import InputError

_LEAST_GAP = 1e-6  # between neighbouring landmarks, as a share of their range
_BINS = 200
_SMOOTHING = 3.0  # bins


def landmarks(values: NDArray[Any], percentiles: Sequence[float]) -> NDArray[np.float64]:
    """The percentiles of finite values, each above the one before.

    Raises:
        InputError: no values, or a single one.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError("nyul: no finite voxel in the body; lower body_threshold or check the image")
    found = np.percentile(finite.astype(np.float64), percentiles)
    if not found[0] < found[-1]:
        raise InputError(f"nyul: the body holds one value only ({found[0]:g}); check the image or use fixed_range")
    gap = (found[-1] - found[0]) * _LEAST_GAP
    steps = np.arange(len(found)) * gap
    return np.asarray(np.maximum.accumulate(found - steps) + steps)


def standard_levels(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The common scale: landmarks (N, K) of N images, each stretched so that its ends are -1 and 1, and averaged.

    Nyul and Udupa, "On standardizing the MR image intensity scale", Magnetic Resonance in Medicine 1999, Section
    "Training"; with their later mean of several landmarks (Nyul, Udupa and Zhang, IEEE Transactions on Medical Imaging
    2000).
    """
    low, high = rows[:, :1], rows[:, -1:]
    return np.asarray(((rows - low) / (high - low) * 2 - 1).mean(axis=0))


def tissue_peak(values: NDArray[Any]) -> tuple[float, float]:
    """Where the darkest values lie (their 0.5th percentile), and where the most frequent tissue does.

    The highest peak of the smoothed histogram up to the 99th percentile, as WhiteStripe looks for its white matter:
    Shinohara et al., "Statistical normalization techniques for magnetic resonance imaging", NeuroImage: Clinical 2014.

    Raises:
        InputError: no values, or a single one.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        raise InputError("white_stripe: no finite voxel in the body; lower body_threshold or check the image")
    low, high = np.percentile(finite, (0.5, 99.0))
    if not low < high:
        raise InputError(f"white_stripe: the body holds one value only ({low:g}); check the image or use fixed_range")
    counts, edges = np.histogram(finite, bins=_BINS, range=(low, high))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), _SMOOTHING, mode="constant")
    smooth[: int(2 * _SMOOTHING)] = 0.0  # the rim of the body, half air
    best = int(np.argmax(smooth))
    return float(low), float((edges[best] + edges[best + 1]) / 2)
