"""Films of synthetic bodies: what moves, what does not, and whose they are."""

import numpy as np
import pytest
import torch

from medgan.config import InputError
from medgan.data.phantom_films import PhantomFilms
from medgan.data.source import SourceDataset


def films(count: int = 6, split: str = "train", seed: int = 0, **options: object) -> torch.Tensor:
    source = PhantomFilms(**{"size": 16, "bodies": 8, "held_out_bodies": 4} | options)
    return source.draw(np.random.default_rng(seed), count, split, "single")["A"]


def test_a_film_has_its_shape_and_range_and_background_is_exactly_minus_one() -> None:
    drawn = films(contrast="ct")
    assert drawn.shape == (6, *PhantomFilms(size=16).image_shape) == (6, 1, 8, 16, 16)
    assert drawn.dtype == torch.float32
    assert drawn.min() == -1
    assert drawn.max() <= 1
    outside = drawn[..., [0, -1]]
    assert (outside == -1).float().mean() > 0.5
    assert ((drawn > -1) & (drawn < -0.9985)).sum() == 0


def test_a_draw_is_a_function_of_its_generator_alone() -> None:
    assert torch.equal(films(seed=3), films(seed=3))
    assert not torch.equal(films(seed=3), films(seed=4))


def test_without_breath_beat_and_noise_a_film_stands_still() -> None:
    still = films(breath=0.0, beat=0.0, noise=0.0)
    assert torch.equal(still[:, :, 1:], still[:, :, :-1])


@pytest.mark.parametrize("moving", ["breath", "beat"])
def test_each_movement_returns_after_its_period(moving: str) -> None:
    """Periods vary by a fifth, so the mean over films is least near the period, not nothing."""
    other = "beat" if moving == "breath" else "breath"
    options = {moving: 0.3, other: 0.0, "noise": 0.0, f"{moving}_frames": 6.0, "frames": 7}
    film = films(40, **options)[:, 0]
    gaps = [(film[:, lag:] - film[:, :-lag]).abs().mean().item() for lag in range(1, 7)]
    assert gaps[5] < 0.75 * gaps[2]
    assert gaps[0] < gaps[2]


def test_the_diaphragm_moves_and_the_skin_does_not() -> None:
    film = films(beat=0.0, noise=0.0, breath=0.3)[:, 0]
    change = (film.amax(dim=1) - film.amin(dim=1)).mean(dim=0)
    lower_middle, edge = change[6:13, 6:10], change[:, [0, 1, -2, -1]]
    assert lower_middle.mean() > 10 * edge.mean()
    assert change[:2].mean() < 0.3 * lower_middle.mean()


def test_the_heart_beats_where_it_lies() -> None:
    film = films(20, breath=0.0, noise=0.0, beat=0.4)[:, 0]
    change = (film.amax(dim=1) - film.amin(dim=1)).mean(dim=0)
    assert change[2:8, 5:11].mean() > 3 * change[-4:].mean()


def test_splits_show_different_bodies() -> None:
    options = {"breath": 0.0, "beat": 0.0, "noise": 0.0, "frames": 3}
    seen = {split: {film.numpy().tobytes() for film in films(60, split, **options)} for split in ("train", "test")}
    assert len(seen["train"]) == 8
    assert len(seen["test"]) == 4
    assert not seen["train"] & seen["test"]


def test_films_are_single() -> None:
    with pytest.raises(InputError, match="single"):
        SourceDataset(PhantomFilms(), pairing="paired", split="train", batch_size=1, seed=0, num_steps=1)
