"""How well samplers of points know all modes of a mixture, beside the mixture itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from medgan.data.toy import Grid, Ring
from medgan.metrics.distribution import high_quality_share, mode_coverage, reverse_kl
from medgan.recipes import Sampler
from medgan.sample import draw

SAMPLES = 2500  # as in Lin et al., "PacGAN", 2018, section 4.1


def score_points(sampler: Sampler, source: Ring | Grid, *, count: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """Modes found by both counting rules, share of samples of high quality, reverse KL and the modes' width.

    `spread` is the standard deviation of samples of high quality about their mode, over the real one: below 1, modes
    are narrower than they should be.
    """
    return _scores(draw(sampler, count, seed=seed), source)


def score_real_points(source: Ring | Grid, *, count: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """The same of as many points of the mixture: what cannot be beaten honestly."""
    return _scores(source.draw(np.random.default_rng(seed), count, "test", "single")["A"], source)


def _scores(points: torch.Tensor, source: Ring | Grid) -> dict[str, Any]:
    places = points.double().numpy()
    coverage = mode_coverage(places, source.centres, source.std)
    apart = places[:, None] - source.centres[None]
    nearest = apart[np.arange(len(places)), np.square(apart).sum(axis=2).argmin(axis=1)]
    good = nearest[np.sqrt(np.square(nearest).sum(axis=1)) <= 3 * source.std]
    return {
        "modes": len(source.centres),
        "found by one sample": coverage.one_sample,
        "found by 1 %": coverage.one_percent,
        "high quality": high_quality_share(places, source.centres, source.std),
        "reverse KL": reverse_kl(places, source.centres),
        "spread": float(np.sqrt(np.square(good).mean()) / source.std) if len(good) else None,
        "samples": len(places),
    }
