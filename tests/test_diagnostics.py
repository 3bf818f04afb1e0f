"""What a training says of itself: each failure has its sign, and a sound one has none."""

import pytest
import torch

from medgan.train.diagnostics import Watch, diversity


def _seen(lines: list[dict[str, float]]) -> Watch:
    watch = Watch()
    for step, line in enumerate(lines, 1):
        watch.see(10 * step, line)
    return watch


def test_two_samples_differ_by_their_root_mean_square_distance() -> None:
    images = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.0)])
    assert diversity(images).item() == pytest.approx(3.0)
    assert diversity(torch.ones(4, 1, 2, 2)).item() == pytest.approx(0.0, abs=1e-3)


def test_a_sound_training_has_no_sign_of_failure() -> None:
    watch = _seen([{"G/adv": 1.0, "D/real": 0.7, "watch/gradient_G": 1.0, "watch/diversity": 0.9}] * 20)
    assert watch.verdict().startswith("no sign")


def test_a_vanished_generator_gradient_says_that_the_discriminator_wins_and_since_when() -> None:
    watch = _seen([{"watch/gradient_G": 1.0}] * 10 + [{"watch/gradient_G": 1e-4}] * 3)
    assert "the discriminator wins" in watch.verdict()
    assert "(since step 120)" in watch.verdict()


def test_a_gradient_that_comes_back_is_forgiven() -> None:
    watch = _seen([{"watch/gradient_G": 1.0}] * 10 + [{"watch/gradient_G": 1e-4}] * 5 + [{"watch/gradient_G": 1.0}] * 5)
    assert watch.verdict().startswith("no sign")


def test_samples_that_are_alike_say_collapse_wherever_they_stand_in_the_log() -> None:
    lines = [{"G/adv": 1.0} | ({"watch/diversity": 0.2} if step % 5 == 0 else {}) for step in range(20)]
    assert "collapse" in _seen(lines).verdict()


def test_a_loss_beyond_all_measure_says_divergence() -> None:
    assert "diverge" in _seen([{"D/real": 0.7}] * 10 + [{"D/real": -500.0}] * 3).verdict()
