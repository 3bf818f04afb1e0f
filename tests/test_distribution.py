"""Distances between sets of samples, against closed forms."""

import math

import numpy as np
import pytest

from medgan.metrics.distribution import (
    fid,
    frechet_distance,
    high_quality_share,
    kid,
    mode_coverage,
    polynomial_mmd2,
    precision_recall,
    reverse_kl,
    two_sample_test,
)

ANGLES = np.arange(8) * math.pi / 4
RING = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def _normal(n: int, dims: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, size=(n, dims))


def _ring(n: int, seed: int = 0, std: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return RING[rng.integers(8, size=n)] + rng.normal(0, std, size=(n, 2))


def test_a_mixture_covers_its_own_modes_with_the_share_of_the_rayleigh_law() -> None:
    samples = _ring(20_000)
    assert mode_coverage(samples, RING, 0.01) == (8, 8)
    assert high_quality_share(samples, RING, 0.01) == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert reverse_kl(samples, RING) == pytest.approx(0, abs=0.002)


def test_one_stray_sample_finds_a_mode_by_one_rule_only() -> None:
    samples = np.concatenate([np.repeat(RING[:1], 199, axis=0), RING[1:2]])
    assert mode_coverage(samples, RING, 0.01) == (2, 1)
    assert mode_coverage(np.concatenate([samples[:99], RING[1:2]]), RING, 0.01) == (2, 2)  # exactly 1 %


def test_quality_ends_at_three_standard_deviations() -> None:
    samples = RING[:1] + np.array([[0.0299, 0], [0.0301, 0], [0, -0.02], [5, 5]])
    assert high_quality_share(samples, RING, 0.01) == 0.5
    assert mode_coverage(RING + np.array([0.031, 0]), RING, 0.01) == (0, 0)


def test_reverse_kl_is_the_log_of_the_share_of_modes_that_are_left() -> None:
    assert reverse_kl(RING, RING) == pytest.approx(0)
    assert reverse_kl(np.repeat(RING[:1], 5, axis=0), RING) == pytest.approx(math.log(8))
    assert reverse_kl(np.repeat(RING[:2], 5, axis=0), RING) == pytest.approx(math.log(4))
    three_to_one = RING[[0, 0, 0, 1]]
    expected = 0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8)
    assert reverse_kl(three_to_one, RING) == pytest.approx(expected)


@pytest.mark.parametrize("classifier", ["nearest", "logistic", "svc"])
def test_a_classifier_tells_distant_sets_apart_and_not_equal_ones(classifier: str) -> None:
    same = two_sample_test(_normal(400, 3, 1), _normal(400, 3, 2), classifier)  # type: ignore[arg-type]
    assert same.low <= same.accuracy <= same.high
    assert same.p_value > 0.02
    apart = two_sample_test(_normal(400, 3, 1), _normal(400, 3, 2, shift=8), classifier)  # type: ignore[arg-type]
    assert apart.accuracy == 1
    assert apart.p_value == pytest.approx(0.5**400)


def test_a_linear_classifier_of_shifted_normals_has_the_bayes_accuracy() -> None:
    found = two_sample_test(_normal(4000, 1, 1), _normal(4000, 1, 2, shift=2), "logistic")
    assert found.accuracy == pytest.approx(0.8413, abs=0.02)  # Phi(1)


def test_the_null_interval_is_the_binomial_s() -> None:
    found = two_sample_test(_normal(1000, 2, 1), _normal(700, 2, 2))
    assert found.held_out == 700
    half = 1.96 * 0.5 / math.sqrt(700)
    assert (found.low, found.high) == (pytest.approx(0.5 - half, abs=0.002), pytest.approx(0.5 + half, abs=0.002))


def test_the_null_interval_holds_its_promise() -> None:
    tests = [two_sample_test(_normal(60, 2, seed), _normal(60, 2, seed + 1000), seed=seed) for seed in range(100)]
    assert sum(t.low <= t.accuracy <= t.high for t in tests) >= 88


def test_mmd_of_two_points_each_is_as_on_paper() -> None:
    x, y = [[0.0], [1.0]], [[1.0], [2.0]]
    # k(0, 1) = 1, k(1, 2) = 27; across: k(0, 1), k(0, 2) = 1, k(1, 1) = 8, k(1, 2) = 27
    assert polynomial_mmd2(x, y) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_mmd_of_shifted_normals_is_the_kernel_s_expectation() -> None:
    # E k of independent x, y with means a, b in one dimension: 1 + 3ab + 3(1 + a^2)(1 + b^2) + (a^3 + 3a)(b^3 + 3b)
    expected = 8.0 + 1 + 3 + 12 + 16 - 2 * (1 + 6) - (8.0 - 4)
    within_0, within_1, across = 1 + 3, 1 + 3 + 12 + 16, 1 + 6
    assert expected == within_0 + within_1 - 2 * across
    found = np.mean([polynomial_mmd2(_normal(500, 1, s), _normal(500, 1, s + 99, shift=1)) for s in range(40)])
    assert found == pytest.approx(expected, rel=0.05)


def test_mmd_of_equal_distributions_is_zero_on_average_even_for_few_samples() -> None:
    values = [polynomial_mmd2(_normal(10, 4, s), _normal(10, 4, s + 5000)) for s in range(600)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(600)
    assert min(values) < 0


def test_kid_is_the_mean_over_subsets() -> None:
    x, y = _normal(300, 5, 1), _normal(300, 5, 2, shift=0.5)
    found = kid(x, y, subsets=50, subset_size=100)
    assert found.mean == pytest.approx(polynomial_mmd2(x, y), rel=0.1)
    assert 0 < found.sd < found.mean
    assert kid(x, y, subsets=50, subset_size=100) == found
    whole = kid(x, y, subsets=3)
    assert whole.mean == pytest.approx(polynomial_mmd2(x, y))
    assert whole.sd == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_diagonal_gaussians_is_that_of_their_deviations() -> None:
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    expected = 1 + 4 + 9 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert frechet_distance([0, 0, 0], np.diag(a), [1, -2, 3], np.diag(b)) == pytest.approx(expected)


def test_frechet_distance_of_a_scaled_covariance_needs_no_common_axes() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(5, 5))
    cov = half @ half.T
    zero = np.zeros(5)
    assert frechet_distance(zero, cov, zero, 4 * cov) == pytest.approx(np.trace(cov))
    assert frechet_distance(zero, cov, zero, cov) == pytest.approx(0, abs=1e-10)


def test_fid_of_a_set_and_its_shifted_self_is_the_shift_squared() -> None:
    x = _normal(50, 4, 0)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)
    assert fid(x, x + np.array([1, 0, 2, 0])) == pytest.approx(5)
    assert fid(x, 3 * x - 2 * x.mean(axis=0)) == pytest.approx(4 * np.var(x, axis=0, ddof=1).sum())


def test_fid_is_finite_with_fewer_samples_than_features_and_biased_upwards() -> None:
    few = fid(_normal(10, 40, 1), _normal(10, 40, 2))
    many = fid(_normal(5000, 40, 1), _normal(5000, 40, 2))
    assert few > 10 > 0.5 > many >= 0


def test_precision_and_recall_of_equal_and_disjoint_sets() -> None:
    x = _normal(100, 2, 0)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, x + 100) == (0, 0)


def test_a_collapsed_set_has_precision_without_recall_and_a_noisy_one_the_reverse() -> None:
    real = _normal(600, 2, 0)
    collapsed = precision_recall(real, 0.05 * _normal(600, 2, 1))
    assert collapsed.precision > 0.85
    assert collapsed.recall < 0.1
    wide = precision_recall(real, 6 * _normal(600, 2, 1))
    assert wide.precision < 0.3
    assert wide.recall > 0.8


def test_the_manifold_ends_at_the_kth_neighbour() -> None:
    line = np.array([[0.0], [1], [2], [3]])
    # with k = 1 every radius is 1: the line reaches from -1 to 4
    assert precision_recall(line, [[-1.0], [4], [4.1], [-1.1]], k=1).precision == 0.5


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([[1.0, 2]], [[1.0]], "features of one extractor"),
        ([[1.0]], [[1.0]], "at least 2"),
        ([1.0, 2], [1.0, 2], "give .N, D."),
        ([[math.nan], [1]], [[1.0], [2]], "NaN"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(x: list, y: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fid(x, y)


def test_an_unknown_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="one of nearest, logistic, svc"):
        two_sample_test(_normal(9, 1, 0), _normal(9, 1, 1), "forest")  # type: ignore[arg-type]
