"""Losses against values that one can work out on paper."""

import math

import pytest
import torch

from medgan.losses import OBJECTIVES, gradient_difference, mind_difference, soft_dice_cross_entropy
from medgan.losses.consistency import mind


def test_an_undecided_discriminator_pays_log_four() -> None:
    zero = torch.zeros(3, 1, 2, 2)
    for name in ("minimax", "nonsaturating"):
        assert OBJECTIVES[name].discriminator(zero, zero).item() == pytest.approx(math.log(4))


def test_minimax_and_nonsaturating_part_when_the_discriminator_wins() -> None:
    slopes = {}
    for name in ("minimax", "nonsaturating"):
        logits = torch.full((1,), -10.0, requires_grad=True)
        OBJECTIVES[name].generator(logits).backward()
        slopes[name] = logits.grad.abs().item()
    assert slopes["minimax"] < 1e-4
    assert slopes["nonsaturating"] > 0.99


def test_least_squares_asks_for_one_and_zero() -> None:
    game = OBJECTIVES["lsgan"]
    assert game.generator(torch.tensor([1.0])) == 0
    assert game.discriminator(torch.tensor([1.0]), torch.tensor([0.0])) == 0
    assert game.discriminator(torch.tensor([0.0]), torch.tensor([2.0])) == 2.5


def test_hinge_is_satisfied_beyond_the_margin() -> None:
    game = OBJECTIVES["hinge"]
    assert game.discriminator(torch.tensor([1.5]), torch.tensor([-2.0])) == 0
    assert game.discriminator(torch.tensor([0.5]), torch.tensor([0.5])) == 2
    assert game.generator(torch.tensor([3.0])) == -3


def test_a_critic_measures_the_gap() -> None:
    game = OBJECTIVES["wasserstein"]
    assert game.discriminator(torch.tensor([4.0]), torch.tensor([1.0])) == -3
    assert game.generator(torch.tensor([1.0])) == -1


@pytest.mark.parametrize("size", [(4, 4), (4, 4, 2)])
def test_a_sure_and_right_reading_costs_nothing(size: tuple[int, ...]) -> None:
    label = torch.randint(0, 3, (1, 1, *size))
    logits = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1) * 100.0
    assert soft_dice_cross_entropy(logits, label).item() == pytest.approx(0, abs=1e-4)


def test_an_undecided_reading_costs_what_paper_says() -> None:
    label = torch.tensor([0, 1]).view(1, 1, 2, 1)
    logits = torch.zeros(1, 2, 2, 1)
    dice = 2 * 0.5 / (2 * 0.25 + 1)  # probability one half everywhere, one voxel of each class
    assert soft_dice_cross_entropy(logits, label).item() == pytest.approx(1 - dice + math.log(2), abs=1e-4)


def test_unlabelled_voxels_do_not_count() -> None:
    label = torch.tensor([0, 1, -1, -1]).view(1, 1, 4, 1)
    logits = torch.randn(1, 2, 4, 1, requires_grad=True)
    torch.testing.assert_close(
        soft_dice_cross_entropy(logits, label), soft_dice_cross_entropy(logits[:, :, :2], label[:, :, :2])
    )
    soft_dice_cross_entropy(logits, label).backward()
    assert logits.grad[:, :, 2:].abs().max() == 0


def test_nothing_labelled_costs_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = soft_dice_cross_entropy(logits, torch.full((1, 1, 4, 4), -1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_a_class_that_is_absent_neither_rewards_nor_punishes_dice() -> None:
    label = torch.zeros(1, 1, 2, 2, dtype=torch.long)
    two, three = torch.tensor([9.0, -9.0]), torch.tensor([9.0, -9.0, -9.0])
    first = soft_dice_cross_entropy(two.view(1, 2, 1, 1).expand(1, 2, 2, 2), label)
    second = soft_dice_cross_entropy(three.view(1, 3, 1, 1).expand(1, 3, 2, 2), label)
    assert first.item() == pytest.approx(second.item(), abs=1e-4)


def test_gradient_difference_counts_missing_edges_and_ignores_their_sign() -> None:
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1.0
    assert gradient_difference(step, step) == 0
    assert gradient_difference(step, -step) == 0
    blank = torch.zeros_like(step)
    assert gradient_difference(step, blank).item() == pytest.approx((4 / 12) / 2)  # 4 of 12 steps along x, none along y


@pytest.mark.parametrize("axes", [2, 3])
def test_mind_tells_where_edges_are_and_not_which_way_or_how_far_they_go(axes: int) -> None:
    step = torch.zeros(1, 1, *(8,) * axes)
    step[..., 4:] = 1.0
    told = mind(step)
    assert told.shape == (1, 2 * axes, *(8,) * axes)
    assert torch.allclose(told, mind(-0.5 * step), atol=1e-6)
    assert (told[..., :2] == 1).all(), "flat: every neighbour is alike"
    # the neighbour across the edge alone differs: V is D over the number of neighbours
    assert told[0, -1, ..., 3].flatten()[0].item() == pytest.approx(math.exp(-2 * axes * (1 / 3) / (2 / 3)))
    assert (told[:, : 2 * axes - 2] == 1).all()
    moved = step.roll(2, dims=-1)
    moved[..., :2] = 0.0
    assert mind_difference(step, 3 * step) == pytest.approx(0.0, abs=1e-6)
    assert mind_difference(step, moved) > 0.1


def test_mind_takes_noise_for_flat_and_passes_gradients() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = (0.002 * torch.randn(2, 1, 12, 12, generator=draw)).requires_grad_()
    assert mind(noise).min() > 0.98
    edge = torch.zeros(2, 1, 12, 12)
    edge[:, :, 6:] = 1.0
    mind_difference(noise, edge).backward()
    assert noise.grad is not None
    assert noise.grad.abs().sum() > 0
