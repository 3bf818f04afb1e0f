"""Means over patients and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """The mean of one metric over cases.

    Attributes:
        mean: over the cases that have a value.
        sd: sample standard deviation over them (n - 1), NaN for fewer than two.
        low, high: ends of the 95 % bootstrap interval of the mean, over patients; NaN for fewer than two patients.
        count: cases that have a value.
        without: cases that have none (NaN), as where a tissue is absent.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int
    without: int


def summarize(
    values: Sequence[float], patients: Sequence[Hashable] | None = None, *, resamples: int = 10_000, seed: int = 0
) -> Summary:
    """Mean, standard deviation and 95 % interval of `values`, one per case, NaN where a case has none.

    Args:
        values: one per case.
        patients: who each case is of; cases of one patient are drawn together. None: each case is a patient.
        resamples: bootstrap samples.
        seed: of the draw, so that a table can be made again.

    The interval is the percentile bootstrap over patients (Efron, "Bootstrap Methods: Another Look at the Jackknife",
    1979). With a handful of patients it is too narrow; state the count beside it.
    """
    names = list(range(len(values))) if patients is None else list(patients)
    found = [(name, value) for name, value in zip(names, values, strict=True) if not math.isnan(value)]
    without = len(names) - len(found)
    if not found:
        return Summary(math.nan, math.nan, math.nan, math.nan, 0, without)
    data = np.array([value for _, value in found], dtype=np.float64)
    with np.errstate(invalid="ignore"):  # an infinite value (PSNR without error) has no distance to the mean
        sd = float(data.std(ddof=1)) if len(data) > 1 else math.nan
        low, high = _interval(found, resamples, seed)
    return Summary(float(data.mean()), sd, low, high, len(data), without)


def _interval(found: Sequence[tuple[Hashable, float]], resamples: int, seed: int) -> tuple[float, float]:
    groups: dict[Hashable, list[float]] = {}
    for name, value in found:
        groups.setdefault(name, []).append(value)
    if len(groups) < 2:
        return math.nan, math.nan
    sums = np.array([sum(group) for group in groups.values()])
    sizes = np.array([len(group) for group in groups.values()])
    drawn = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
