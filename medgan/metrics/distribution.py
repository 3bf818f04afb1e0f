"""How near two sets of samples are as distributions: arrays of samples or of features, (N, D) each, no pairs needed.

Points in the plane have modes to count; images are compared by the features of a network that the caller brings. All
distances of small sets are noisy: state the counts, and put the distance of two real sets beside them as the floor.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

Classifier = Literal["nearest", "logistic", "svc"]
Array = NDArray[np.float64]
_ROWS = 1024  # of a distance matrix held at a time


class Coverage(NamedTuple):
    """How many modes are counted as found.

    Attributes:
        one_sample: modes with at least one sample of high quality.
        one_percent: modes with at least 1 % of all samples as samples of high quality.
    """

    one_sample: int
    one_percent: int


class TwoSample(NamedTuple):
    """A classifier's attempt to tell two sets apart.

    Attributes:
        accuracy: share of held-out samples that it assigns to their own set; 0.5 is indistinguishable.
        low, high: where 95 % of accuracies fall when both sets come from one distribution.
        p_value: chance of such an accuracy or a higher one in that case.
        held_out: samples that the classifier was judged on.
    """

    accuracy: float
    low: float
    high: float
    p_value: float
    held_out: int


class Kid(NamedTuple):
    """Mean and sample standard deviation of an unbiased squared MMD over subsets."""

    mean: float
    sd: float


class PrecisionRecall(NamedTuple):
    """Precision: share of generated samples that look real. Recall: share of real samples that could be generated."""

    precision: float
    recall: float


def mode_coverage(samples: ArrayLike, centres: ArrayLike, std: float) -> Coverage:
    """How many modes of a mixture of Gaussians the samples reach, by two counting rules.

    Args:
        samples: (N, D) generated points.
        centres: (K, D) means of the modes.
        std: standard deviation of each mode along each axis.

    A sample of high quality lies within three standard deviations of its nearest mode. One such sample makes a mode
    found in Srivastava et al., "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning", 2017, and
    in Lin et al., "PacGAN: The power of two samples in generative adversarial networks", 2018. That rule forgives a
    mode hit by a stray point, so the stricter one, 1 % of all samples, stands beside it.
    """
    mode, distance = _nearest(samples, centres)
    hits = np.bincount(mode[distance <= 3 * std], minlength=len(_samples(centres)))
    return Coverage(int((hits >= 1).sum()), int((hits >= 0.01 * len(mode)).sum()))


def high_quality_share(samples: ArrayLike, centres: ArrayLike, std: float) -> float:
    """The share of samples within three standard deviations of their nearest mode (Srivastava et al., 2017).

    The mixture itself reaches 98.9 % in the plane (1 - exp(-4.5)) where modes do not overlap; a larger share means
    modes narrower than the real ones.
    """
    _, distance = _nearest(samples, centres)
    return float((distance <= 3 * std).mean())


def reverse_kl(samples: ArrayLike, centres: ArrayLike) -> float:
    """KL divergence, in nats, of the histogram of nearest modes from the uniform one: 0 if balanced, log K at worst.

    Each sample, of whatever quality, counts for its nearest centre (Lin et al., "PacGAN", 2018).
    """
    mode, _ = _nearest(samples, centres)
    count = len(_samples(centres))
    share = np.bincount(mode, minlength=count) / len(mode)
    found = share[share > 0]
    return float((found * np.log(found * count)).sum())


def two_sample_test(
    real: ArrayLike, generated: ArrayLike, classifier: Classifier = "nearest", *, seed: int = 0
) -> TwoSample:
    """Whether a classifier tells generated samples from real ones, on samples that it was not fitted on.

    Args:
        real: (N, D).
        generated: (M, D); the larger set is thinned at random to the size of the smaller.
        classifier: "nearest" (the nearest neighbour), "logistic" or "svc" (support vectors, radial kernel); the last
            two see features scaled to unit variance.
        seed: of the thinning and the split into two halves.

    Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", 2017: under the null hypothesis the correct answers
    on n held-out samples are binomial with probability 1/2, which gives interval and p-value.

    Raises:
        ValueError: fewer than four samples in a set, or an unknown classifier.
    """
    sets = _pair(real, generated, least=4)
    if classifier not in _CLASSIFIERS:
        raise ValueError(f"classifier '{classifier}': unknown; one of {', '.join(get_args(Classifier))}")
    rng = np.random.default_rng(seed)
    size = min(map(len, sets))
    data = np.concatenate([part[rng.permutation(len(part))[:size]] for part in sets])
    label = np.repeat((0, 1), size)
    order = rng.permutation(2 * size)
    fitted, held = order[:size], order[size:]
    correct = int(
        (_CLASSIFIERS[classifier]().fit(data[fitted], label[fitted]).predict(data[held]) == label[held]).sum()
    )
    low, high = binom.ppf((0.025, 0.975), size, 0.5) / size
    return TwoSample(correct / size, float(low), float(high), float(binom.sf(correct - 1, size, 0.5)), size)


_CLASSIFIERS: dict[str, Any] = {
    "nearest": lambda: KNeighborsClassifier(n_neighbors=1),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "svc": lambda: make_pipeline(StandardScaler(), SVC()),
}


def polynomial_mmd2(x: ArrayLike, y: ArrayLike) -> float:
    """The unbiased squared maximum mean discrepancy with the kernel ``(<x, y> / D + 1)^3``; may be below 0.

    Gretton et al., "A Kernel Two-Sample Test", 2012, Equation 3; the kernel is that of `kid`.

    Raises:
        ValueError: fewer than two samples in a set.
    """
    a, b = _pair(x, y, least=2)
    n, m = len(a), len(b)
    aa, bb, ab = _cubic(a, a), _cubic(b, b), _cubic(a, b)
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def kid(real: ArrayLike, generated: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> Kid:
    """Kernel inception distance: `polynomial_mmd2` averaged over random subsets; 0 for equal distributions, no bias.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
        subsets: how many, drawn without replacement within each.
        subset_size: samples of each set in a subset; of smaller sets all, and then every subset is the same and the
            standard deviation says nothing.
        seed: of the draw.

    Binkowski et al., "Demystifying MMD GANs", 2018, with its 100 subsets of 1000.

    Raises:
        ValueError: fewer than two samples in a set.
    """
    a, b = _pair(real, generated, least=2)
    size = min(subset_size, len(a), len(b))
    rng = np.random.default_rng(seed)
    values = [
        polynomial_mmd2(*(part[rng.choice(len(part), size, replace=False)] for part in (a, b))) for _ in range(subsets)
    ]
    return Kid(float(np.mean(values)), float(np.std(values, ddof=1)) if subsets > 1 else 0.0)


def frechet_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """The squared Frechet distance of two Gaussians: ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``.

    Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982. The trace of the root is
    the sum of the singular values of ``C_a^(1/2) C_b^(1/2)``, with roots from eigenvalues: never complex, and defined
    for singular covariances.
    """
    a, b = np.asarray(cov_a, dtype=np.float64), np.asarray(cov_b, dtype=np.float64)
    shift = np.asarray(mean_a, dtype=np.float64) - np.asarray(mean_b, dtype=np.float64)
    cross = np.linalg.svd(_root(a) @ _root(b), compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.trace(a) + np.trace(b) - 2 * cross))


def fid(real: ArrayLike, generated: ArrayLike) -> float:
    """Frechet inception distance: `frechet_distance` of the Gaussians with the sets' means and covariances.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017, on
    features that the caller brings, so values compare only between equal features. Biased upwards, the more so the
    fewer the samples against the features: compare equal counts only, and prefer `kid` below some thousands.

    Raises:
        ValueError: fewer than two samples in a set.
    """
    a, b = _pair(real, generated, least=2)
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (a, b))
    return frechet_distance(mean_a, cov_a, mean_b, cov_b)


def precision_recall(real: ArrayLike, generated: ArrayLike, *, k: int = 3) -> PrecisionRecall:
    """Share of each set within the other's manifold: balls around its samples out to their k-th nearest neighbour.

    Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019, with its k = 3.

    Raises:
        ValueError: no more than k samples in a set.
    """
    a, b = _pair(real, generated, least=k + 1)
    return PrecisionRecall(_within(b, a, k), _within(a, b, k))


def _within(samples: Array, manifold: Array, k: int) -> float:
    # the sample itself, at distance 0, is the first of its k + 1 nearest
    radius = np.concatenate([np.partition(cdist(rows, manifold), k, axis=1)[:, k] for rows in _blocks(manifold)])
    return float(np.concatenate([(cdist(rows, manifold) <= radius).any(axis=1) for rows in _blocks(samples)]).mean())


def _blocks(samples: Array) -> list[Array]:
    return [samples[start : start + _ROWS] for start in range(0, len(samples), _ROWS)]


def _nearest(samples: ArrayLike, centres: ArrayLike) -> tuple[NDArray[np.intp], Array]:
    """The nearest centre of each sample and how far it is."""
    points, modes = _pair(samples, centres, least=1)
    distance = cdist(points, modes)
    return distance.argmin(axis=1), distance.min(axis=1)


def _cubic(x: Array, y: Array) -> Array:
    kernel: Array = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root: Array = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def _pair(x: ArrayLike, y: ArrayLike, *, least: int) -> tuple[Array, Array]:
    a, b = _samples(x), _samples(y)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"sets of {a.shape[1]} and {b.shape[1]} features; compare features of one extractor")
    if min(len(a), len(b)) < least:
        raise ValueError(f"sets of {len(a)} and {len(b)} samples; give at least {least} of each")
    return a, b


def _samples(x: ArrayLike) -> Array:
    samples = np.asarray(x, dtype=np.float64)
    if samples.ndim != 2:
        raise ValueError(f"samples of shape {samples.shape}; give (N, D)")
    if not np.isfinite(samples).all():
        raise ValueError("samples with NaN or infinity; drop or mend them first")
    return samples
