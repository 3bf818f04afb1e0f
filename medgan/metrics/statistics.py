"""Means over patients and how sure they are; whether two runs differ; how well two measurements agree."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_EXACT = 50  # pairs up to which all signs are counted
_Z = 1.96  # standard deviations that hold 95 % of a normal distribution


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


@dataclass(frozen=True)
class Agreement:
    """How two measurements of the same thing agree, in the unit that was measured.

    Attributes:
        bias: mean of first minus second.
        bias_low, bias_high: its 95 % interval.
        sd: sample standard deviation of the differences.
        lower: lower limit of agreement, bias - 1.96 sd.
        lower_low, lower_high: its 95 % interval.
        upper: upper limit of agreement, bias + 1.96 sd.
        upper_low, upper_high: its 95 % interval.
        count: pairs that have both values.
        without: pairs that lack one of them.
    """

    bias: float
    bias_low: float
    bias_high: float
    sd: float
    lower: float
    lower_low: float
    lower_high: float
    upper: float
    upper_low: float
    upper_high: float
    count: int
    without: int


def bland_altman(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """Bias and limits of agreement of paired measurements, one pair per patient; NaN where one is missing.

    Bland and Altman, "Statistical methods for assessing agreement between two methods of clinical measurement", 1986;
    intervals from Student's t with n - 1 degrees of freedom and, of the limits, their approximate variance
    (1 / n + 1.96^2 / (2 (n - 1))) sd^2, "Measuring agreement in method comparison studies", 1999, Section 2.

    Returns:
        All but the bias NaN for fewer than two pairs.
    """
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = gaps[np.isfinite(gaps)]
    n, without = len(found), int(len(gaps) - np.isfinite(gaps).sum())
    bias = float(found.mean()) if n else math.nan
    sd, t = (float(found.std(ddof=1)), float(stats.t.ppf(0.975, n - 1))) if n > 1 else (math.nan, math.nan)
    lower, upper = bias - _Z * sd, bias + _Z * sd
    around_bias = t * sd / math.sqrt(max(1, n))
    around_limit = t * sd * math.sqrt(1 / max(1, n) + _Z**2 / (2 * max(1, n - 1)))
    return Agreement(
        bias=bias,
        bias_low=bias - around_bias,
        bias_high=bias + around_bias,
        sd=sd,
        lower=lower,
        lower_low=lower - around_limit,
        lower_high=lower + around_limit,
        upper=upper,
        upper_low=upper - around_limit,
        upper_high=upper + around_limit,
        count=n,
        without=without,
    )


def paired_wilcoxon(first: Sequence[float], second: Sequence[float]) -> float:
    """p-value, two-sided, of the hypothesis that paired values differ by chance, one pair per patient.

    Pairs that lack a value (NaN) are left out, and so are those that are equal; if nothing is left of some pairs, the
    result is 1, and without pairs NaN. Exact up to 50 pairs, with ties too, else the normal approximation. With fewer
    than six pairs no p-value can be below 0.05.

    Wilcoxon, "Individual Comparisons by Ranking Methods", 1945.

    Raises:
        ValueError: the lengths differ.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if not (math.isnan(a) or math.isnan(b))]
    gaps = np.array([a - b for a, b in pairs if a != b], dtype=np.float64)
    if not gaps.size:
        return 1.0 if pairs else math.nan
    if len(gaps) > _EXACT:
        return float(stats.wilcoxon(gaps, method="approx").pvalue)
    doubled = (2 * stats.rankdata(np.abs(gaps))).astype(int)  # ranks of ties are whole or half
    ways = np.ones(1)  # of the signs of the ranks so far to give each sum
    for rank in doubled:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    found = int(doubled[gaps > 0].sum())
    return min(1.0, float(2 * min(ways[: found + 1].sum(), ways[found:].sum()) / ways.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in the order given; NaN stays NaN and counts as no test.

    The k-th smallest of n is multiplied by n - k + 1, is at least its predecessor, and at most 1: whoever rejects what
    is below 0.05 errs in any of the tests with a probability of at most 0.05.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    highest = 0.0
    for rank, index in enumerate(order):
        highest = min(1.0, max(highest, p_values[index] * (len(order) - rank)))
        corrected[index] = highest
    return corrected
