"""Numbers of motion that one can work out, and curves in the order of their steps."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.data.phantom_films import PhantomFilms
from medgan.recipes import Sampler
from medgan.sample import draw

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gan2d_films import kid_curve, motion, score_films

FILMS = PhantomFilms(size=8, frames=4, bodies=4, held_out_bodies=4)


class Copier(Sampler):
    """Gives back real films of a split, or noise."""

    latent_dim, num_classes = 1, 0

    def __init__(self, split: str | None, scale: float = 1.0) -> None:
        super().__init__()
        self.split, self.scale = split, scale

    def latents(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.rand(count, 1, generator=generator)

    def forward(
        self, latents: torch.Tensor, classes: torch.Tensor | None = None, truncation: float = 1.0
    ) -> torch.Tensor:
        if self.split is None:
            return torch.rand(len(latents), 1, 4, 8, 8) * self.scale
        rng = np.random.default_rng(int(latents[0] * 1e6))
        return FILMS.draw(rng, len(latents), self.split, "single")["A"]


def test_still_films_do_not_change() -> None:
    found = motion(torch.rand(3, 1, 1, 4, 4).expand(-1, -1, 5, -1, -1))
    assert found.change == 0
    assert found.by_lag == (0.0,) * 4
    assert (found.by_film == 0).all()


def test_films_that_rise_by_a_tenth_each_frame() -> None:
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1) / 10
    found = motion(ramp.expand(2, 1, 4, 3, 3))
    assert found.change == pytest.approx(0.1)
    assert found.by_lag == pytest.approx((0.1, 0.2, 0.3))


def test_a_pixel_that_blinks_correlates_with_itself_every_other_frame() -> None:
    blink = torch.tensor([1.0, -1.0] * 3).view(1, 1, 6, 1, 1)
    assert motion(blink).autocorrelation == pytest.approx((-1, 1, -1, 1, -1))
    assert motion(blink).by_lag == pytest.approx((2, 0, 2, 0, 2))


def test_real_films_are_as_near_as_the_floor_and_noise_is_far() -> None:
    real = score_films(Copier("train"), FILMS, count=64)
    noise = score_films(Copier(None), FILMS, count=64)
    assert real.distance < 3 * real.floor + 1e-3
    assert noise.distance > 10 * noise.floor
    assert noise.fake.change > 3 * noise.real.change
    assert noise.real.by_lag == real.real.by_lag


def test_a_curve_falls_towards_its_floor_as_samples_come_nearer() -> None:
    samplers = {200: Copier("train"), 0: Copier(None, 10.0), 100: Copier(None, 1.0)}
    curve, floor = kid_curve(samplers, FILMS, lambda films: films.flatten(1).double().numpy(), count=64)
    assert list(curve) == [0, 100, 200]
    assert curve[0].mean > curve[100].mean > curve[200].mean
    assert abs(curve[200].mean) < 0.1 * curve[100].mean
    assert abs(floor.mean) < 0.1 * curve[100].mean


def test_equal_seeds_give_equal_samples() -> None:
    assert torch.equal(draw(Copier("test"), 5, seed=1), draw(Copier("test"), 5, seed=1))
