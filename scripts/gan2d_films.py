"""How generated films move beside real ones, and how a distance falls over a training. Tensors in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gan2d_features import Features
from numpy.typing import NDArray
from torch import Tensor

from medgan.data.source import Source
from medgan.metrics.distribution import Kid, kid
from medgan.recipes import Sampler
from medgan.sample import draw


class Motion(NamedTuple):
    """How films move, in units of [-1, 1].

    Attributes:
        change: mean of ``|x_t+1 - x_t|`` over films, frames and pixels.
        by_film: the same of each film, sorted, (N,).
        by_lag: mean of ``|x_t+l - x_t|`` for lags of 1 to T - 1 frames.
        autocorrelation: of pixels' departures from their own mean over time, for the same lags, 1 at lag 0; all pixels
            pooled, so that those that move most count most.
    """

    change: float
    by_film: NDArray[np.float64]
    by_lag: tuple[float, ...]
    autocorrelation: tuple[float, ...]


class FilmScore(NamedTuple):
    """Samples beside films of held-out bodies, and films that were learnt from beside these: the floor.

    Attributes:
        real: motion of held-out films.
        fake: motion of samples.
        learnt: motion of films of the train split.
        distance: Wasserstein-1 distance of the films' own changes, samples to held-out films.
        floor: the same of films that were learnt from.
    """

    real: Motion
    fake: Motion
    learnt: Motion
    distance: float
    floor: float


def motion(films: Tensor) -> Motion:
    """The motion of films ``(N, C, T, H, W)``, T at least 2."""
    x = films.double()
    steps = x.diff(dim=2).abs().mean(dim=(1, 2, 3, 4))
    moving = x - x.mean(dim=2, keepdim=True)
    variance = moving.square().mean().clamp(min=1e-12)
    lags = range(1, x.shape[2])
    pairs = [(moving[:, :, lag:], moving[:, :, :-lag]) for lag in lags]
    return Motion(
        change=float(steps.mean()),
        by_film=np.sort(steps.numpy()),
        by_lag=tuple(float((later - earlier).abs().mean()) for later, earlier in pairs),
        autocorrelation=tuple(float((later * earlier).mean() / variance) for later, earlier in pairs),
    )


def score_films(sampler: Sampler, source: Source, *, count: int = 256, seed: int = 0) -> FilmScore:
    """`count` samples beside as many films of the test split and of the train split."""
    rng = np.random.default_rng(seed)
    real, learnt = (motion(source.draw(rng, count, split, "single")["A"]) for split in ("test", "train"))
    fake = motion(draw(sampler, count, seed=seed))
    return FilmScore(real, fake, learnt, _apart(fake, real), _apart(learnt, real))


def kid_curve(
    samplers: Mapping[int, Sampler], source: Source, features: Features, *, count: int = 512, seed: int = 0
) -> tuple[dict[int, Kid], Kid]:
    """KID from held-out images after so many steps of the training, and its floor: images learnt from.

    `samplers` are those of the checkpoints by step; all get the same latents. Deviations are over 20 random halves.
    """
    rng = np.random.default_rng(seed)
    held, learnt = (features(source.draw(rng, count, split, "single")["A"]) for split in ("test", "train"))

    def distance(other: NDArray[np.float64]) -> Kid:
        return kid(held, other, subsets=20, subset_size=count // 2, seed=seed)

    curve = {step: distance(features(draw(samplers[step], count, seed=seed))) for step in sorted(samplers)}
    return curve, distance(learnt)


def draw_curve(picture: Path, curve: Mapping[str, Mapping[str, float]], floor: float) -> None:
    """KID by step as a line with its deviations, and the floor; `curve` holds "mean" and "sd" by step."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3), constrained_layout=True)
    means, deviations = ([point[key] for point in curve.values()] for key in ("mean", "sd"))
    axis.errorbar([int(step) for step in curve], means, deviations, marker="o", capsize=3, label="samples")
    axis.axhline(floor, color="0.5", linestyle="--", label="images learnt from")
    axis.set(xlabel="step", ylabel="KID", yscale="log")
    axis.legend()
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _apart(one: Motion, other: Motion) -> float:
    """Between two sets of equally many films."""
    return float(np.abs(one.by_film - other.by_film).mean())
