"""Means over patients and their bootstrap intervals."""

import math

import numpy as np
import pytest

from medgan.metrics.statistics import summarize


def test_mean_and_standard_deviation_are_the_sample_s() -> None:
    summary = summarize([1, 2, 3, 6])
    assert (summary.mean, summary.count, summary.without) == (3, 4, 0)
    assert summary.sd == pytest.approx(np.std([1, 2, 3, 6], ddof=1))


def test_the_interval_holds_the_mean_and_is_as_wide_as_normal_theory_says() -> None:
    values = np.random.default_rng(1).normal(10, 2, size=200).tolist()
    summary = summarize(values)
    half = 1.96 * summary.sd / math.sqrt(200)
    assert summary.low == pytest.approx(summary.mean - half, abs=0.1)
    assert summary.high == pytest.approx(summary.mean + half, abs=0.1)


def test_equal_values_have_no_width() -> None:
    summary = summarize([4, 4, 4])
    assert (summary.low, summary.high, summary.sd) == (4, 4, 0)


def test_an_infinite_value_makes_the_mean_infinite_without_a_warning() -> None:
    summary = summarize([math.inf, 40.0, math.inf])
    assert (summary.mean, summary.count) == (math.inf, 3)
    assert math.isnan(summary.sd)


def test_cases_of_one_patient_are_drawn_together() -> None:
    values = [0, 0, 0, 0, 10, 10, 10, 10]
    alone = summarize(values)
    together = summarize(values, ["a"] * 4 + ["b"] * 4)
    assert together.mean == alone.mean == 5
    assert (together.low, together.high) == (0, 10)  # both times the same patient
    assert alone.low > 0


def test_cases_without_a_value_are_counted_not_hidden() -> None:
    summary = summarize([1, math.nan, 3])
    assert (summary.mean, summary.count, summary.without) == (2, 2, 1)
    nothing = summarize([math.nan])
    assert (nothing.count, nothing.without) == (0, 1)
    assert math.isnan(nothing.mean)


def test_one_patient_has_no_interval() -> None:
    summary = summarize([1, 2], ["a", "a"])
    assert summary.mean == 1.5
    assert math.isnan(summary.low)
    assert math.isnan(summary.high)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [1.0, 5.0, 2.0, 8.0]
    assert summarize(values, seed=3) == summarize(values, seed=3)
