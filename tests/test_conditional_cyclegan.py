"""CycleGAN with classes: who is told what, and what can be chosen."""

import pytest
import torch

from medgan.config import Component, InputError
from medgan.recipes import ConditionalCycleGAN
from medgan.recipes.conditional_cyclegan import with_class


def make(**options) -> ConditionalCycleGAN:
    torch.manual_seed(0)
    nets = {
        "generator_net": Component(name="unet", channels=8, levels=1),
        "discriminator_net": Component(name="patchgan", channels=8, layers=1),
    }
    return ConditionalCycleGAN(spatial_dims=2, num_classes=3, **nets | options)


def images(count: int = 3) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    batch = {key: torch.rand((count, 1, 8, 8), generator=rng) * 2 - 1 for key in "AB"}
    return batch | {"class_B": torch.arange(count) % 3}


def test_a_class_is_one_channel_of_ones_among_zeros() -> None:
    told = with_class(torch.full((2, 1, 4, 5), 0.5), torch.tensor([2, 0]), 3)
    assert told.shape == (2, 4, 4, 5)
    assert told[:, 0].unique().tolist() == [0.5]
    assert told[0, 1:].flatten(1).mean(1).tolist() == [0, 0, 1]
    assert told[1, 1:].flatten(1).mean(1).tolist() == [1, 0, 0]


def test_another_class_gives_another_image_and_background_stays() -> None:
    recipe, image = make(), images(1)["A"]
    image[:, :, :3] = -1
    made = [recipe.translator_to(kind)(image) for kind in range(3)]
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[1], made[2])
    assert all((one[:, :, :3] == -1).all() and (one[:, :, 3:] > -1).all() for one in made)
    painted = make(keep_background=False).translator("AB")(image)
    assert (painted[:, :, :3] > -0.9).all()


def test_the_default_class_is_an_option_and_unknown_ones_are_named() -> None:
    recipe, image = make(target_class=2), images(1)["A"]
    assert torch.equal(recipe.translator("AB")(image), recipe.translator_to(2)(image))
    assert torch.equal(recipe.translator("BA")(image), recipe.translator_to(2, "BA")(image))
    with pytest.raises(InputError, match="0 to 2"):
        recipe.translator_to(3)
    with pytest.raises(InputError, match="target_class"):
        make(target_class=3)


def test_batches_without_classes_are_refused_with_the_way_out() -> None:
    batch = images()
    del batch["class_B"]
    with pytest.raises(InputError, match="several contrasts"):
        make().training_step(batch, 0.0)


def test_pooled_fakes_keep_the_class_that_they_were_asked_for() -> None:
    recipe = make(pool_size=8)
    recipe.training_step(images(), 0.0)
    assert [image[1:].flatten(1).mean(1).argmax().item() for image in recipe.pool_B.images] == [0, 1, 2]


def test_it_learns_two_targets_that_differ_by_their_class_alone() -> None:
    torch.manual_seed(0)
    recipe = make(ema_decay=0.9, lr=2e-3, lambda_cycle=1.0)
    for _ in range(60):
        source, kind = torch.rand(6, 1, 8, 8) - 0.5, torch.arange(6) % 2
        target = torch.rand(6, 1, 8, 8) * 0.2 + torch.where(kind == 0, -0.7, 0.6)[:, None, None, None]
        recipe.training_step({"A": source, "B": target, "class_B": kind}, 0.0)
    dark, bright = (recipe.translator_to(kind)(torch.rand(1, 1, 8, 8) - 0.5).mean().item() for kind in (0, 1))
    assert dark < -0.3
    assert bright > 0.3


def test_before_the_game_generators_learn_to_give_back_what_they_see() -> None:
    recipe = make(warmup=0.2)
    judges = [p.detach().clone() for network in (recipe.D_A, recipe.D_B) for p in network.parameters()]
    losses = [recipe.training_step(images(), 0.1) for _ in range(5)]
    assert set(losses[0]) == {"G/start_A", "G/start_B"}
    assert losses[-1]["G/start_A"] < losses[0]["G/start_A"]
    after = [p for network in (recipe.D_A, recipe.D_B) for p in network.parameters()]
    assert all(torch.equal(now, before) for now, before in zip(after, judges, strict=True))
    assert "D/A" in recipe.training_step(images(), 0.5)
    with pytest.raises(InputError, match=r"recipe\.warmup: 0\.2, but images of 1 channels"):
        make(warmup=0.2, channels_B=2)
