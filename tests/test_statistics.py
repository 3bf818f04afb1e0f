"""Means over patients and their intervals, tests between runs, and agreement of volumes."""

import math

import numpy as np
import pytest
from scipy import stats

from medgan.metrics.statistics import bland_altman, holm, paired_wilcoxon, summarize


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


def test_wilcoxon_of_six_differences_of_one_sign_is_two_in_two_to_the_sixth() -> None:
    first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert paired_wilcoxon(first, [0.0] * 6) == pytest.approx(2 / 2**6)
    assert paired_wilcoxon(first[:5], [0.0] * 5) == pytest.approx(2 / 2**5)  # five pairs cannot reach 0.05
    assert paired_wilcoxon([0.0] * 6, first) == pytest.approx(2 / 2**6)


def test_wilcoxon_counts_the_rank_sums_that_are_as_far_out() -> None:
    # ranks 1 to 4, the rank sum of the negative differences is 1: {} and {1} of 16 are as low, and two-sided twice that
    assert paired_wilcoxon([-1.0, 2.0, 3.0, 4.0], [0.0] * 4) == pytest.approx(2 * 2 / 16)


def test_wilcoxon_leaves_out_what_is_missing_or_equal() -> None:
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0] * 6
    more = paired_wilcoxon([*first, math.nan, 7.0, 3.0], [*second, 1.0, math.nan, 3.0])
    assert more == paired_wilcoxon(first, second)
    assert paired_wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1
    assert math.isnan(paired_wilcoxon([math.nan], [1.0]))
    assert math.isnan(paired_wilcoxon([], []))


def test_wilcoxon_of_equal_sizes_is_the_sign_test() -> None:
    tails = sum(math.comb(8, k) for k in (0, 1))  # seven of eight coins, or more
    assert paired_wilcoxon([1.0] * 7 + [-1.0], [0.0] * 8) == pytest.approx(2 * tails / 2**8)
    assert paired_wilcoxon([1.0, -1.0], [0.0, 0.0]) == 1


def test_wilcoxon_agrees_with_scipy_where_that_is_exact_and_where_it_is_not() -> None:
    gaps = np.random.default_rng(0).normal(0.4, 1, size=60)
    few = gaps[:15]
    assert paired_wilcoxon(few, np.zeros(15)) == pytest.approx(stats.wilcoxon(few, method="exact").pvalue)
    assert paired_wilcoxon(gaps, np.zeros(60)) == pytest.approx(stats.wilcoxon(gaps, method="approx").pvalue)
    both = [paired_wilcoxon(gaps[:n], np.zeros(n)) for n in (50, 51)]
    assert both[0] == pytest.approx(both[1], rel=0.5)


def test_wilcoxon_refuses_runs_of_other_lengths() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_wilcoxon([1.0, 2.0], [1.0])


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_does_not_count_tests_that_were_not_made() -> None:
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[0] == pytest.approx(0.02)
    assert corrected[2] == pytest.approx(0.04)
    assert math.isnan(corrected[1])


def test_limits_of_agreement_are_1_96_standard_deviations_from_the_bias() -> None:
    second = [10.0, 20.0, 30.0, 40.0, 50.0]
    agreement = bland_altman([value + gap for value, gap in zip(second, [1, 2, 3, 4, 5], strict=True)], second)
    sd, t = math.sqrt(2.5), 2.7764451  # t of 4 degrees of freedom at 97.5 %
    assert (agreement.bias, agreement.count, agreement.without) == (3, 5, 0)
    assert agreement.sd == pytest.approx(sd)
    assert (agreement.lower, agreement.upper) == pytest.approx((3 - 1.96 * sd, 3 + 1.96 * sd))
    assert (agreement.bias_low, agreement.bias_high) == pytest.approx((3 - t * sd / 5**0.5, 3 + t * sd / 5**0.5))
    around = t * sd * math.sqrt(1 / 5 + 1.96**2 / 8)
    assert (agreement.lower_low, agreement.lower_high) == pytest.approx(
        (agreement.lower - around, agreement.lower + around)
    )
    assert (agreement.upper_low, agreement.upper_high) == pytest.approx(
        (agreement.upper - around, agreement.upper + around)
    )


def test_a_constant_shift_is_all_bias_and_its_limits_have_no_width() -> None:
    agreement = bland_altman([3.0, 4.0, 9.0], [1.0, 2.0, 7.0])
    assert (agreement.lower, agreement.bias, agreement.upper, agreement.sd) == (2, 2, 2, 0)


def test_limits_of_agreement_hold_95_percent_of_normal_differences() -> None:
    gaps = np.random.default_rng(0).normal(1, 3, size=4000)
    agreement = bland_altman(gaps, np.zeros(4000))
    assert np.mean((gaps > agreement.lower) & (gaps < agreement.upper)) == pytest.approx(0.95, abs=0.01)


def test_patients_without_a_volume_are_counted_not_compared() -> None:
    agreement = bland_altman([1.0, math.nan, 3.0], [0.0, 1.0, 2.0])
    assert (agreement.bias, agreement.count, agreement.without) == (1, 2, 1)
    alone = bland_altman([2.0], [1.0])
    assert (alone.bias, alone.count) == (1, 1)
    assert math.isnan(alone.lower)
    assert math.isnan(bland_altman([], []).bias)
