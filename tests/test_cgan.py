"""The conditional GAN: what the class decides, in both players, and what it is asked for afterwards."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from medgan.config import Component, InputError
from medgan.recipes.cgan import CGAN

SHAPES = {2: (1, 8, 8), 3: (1, 8, 8, 8)}
NETWORKS = {
    "mlp": Component(name="mlp", width=8, layers=1),
    "dcgan": Component(name="dcgan", channels=4, start=4),
}
KINDS = pytest.mark.parametrize(("kind", "dims"), [("mlp", 2), ("mlp", 3), ("dcgan", 2), ("dcgan", 3)])


def make(kind: str = "mlp", dims: int = 2, **options: Any) -> CGAN:
    torch.manual_seed(0)
    nets = {"generator_net": NETWORKS[kind], "discriminator_net": NETWORKS[kind]}
    return CGAN(image_shape=SHAPES[dims], num_classes=3, latent_dim=4, **{**nets, **options})


def batch(dims: int = 2, seed: int = 0, count: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, *SHAPES[dims], generator=generator) * 2 - 1
    return {"A": images, "class_A": torch.arange(count) % 3}


@KINDS
def test_samples_are_of_the_asked_number_and_shape_and_another_class_is_another_image(kind: str, dims: int) -> None:
    recipe = make(kind, dims)
    recipe.training_step(batch(dims), 0.0)
    sampler = recipe.sampler()
    latents = sampler.latents(1, torch.Generator().manual_seed(0)).expand(3, -1)
    images = sampler(latents, torch.tensor([0, 1, 1]))
    assert images.shape == (3, *SHAPES[dims])
    assert images.abs().max() <= 1
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[1], images[2])


@KINDS
def test_a_restored_recipe_takes_the_same_next_step(kind: str, dims: int) -> None:
    first, second = make(kind, dims, lambda_r1=1.0), make(kind, dims, lambda_r1=1.0)
    first.training_step(batch(dims), 0.0)
    second.load_state(copy.deepcopy(first.state()))
    for recipe in (first, second):
        torch.manual_seed(1)
        recipe.training_step(batch(dims, 1), 0.5)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_the_class_reaches_both_players() -> None:
    recipe = make()
    seen: list[tuple[str, list[int]]] = []
    for name in ("G", "D"):
        getattr(recipe, name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.append((name, inputs[1].tolist()))
        )
    recipe.training_step(batch(), 0.0)
    assert [name for name, _ in seen] == ["G", "D", "D", "D"]
    assert all(classes == [0, 1, 2, 0, 1, 2] for _, classes in seen)


def test_a_wrong_class_is_never_the_right_one_and_every_other_one_comes() -> None:
    classes = torch.arange(3).repeat(200)
    other = make()._other(classes)
    assert (other != classes).all()
    assert set(zip(classes.tolist(), other.tolist(), strict=True)) == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }


def test_reals_beside_a_wrong_class_are_fakes_where_that_is_asked_for() -> None:
    assert set(make().training_step(batch(), 0.0)) == {"D/game", "G/game"}
    losses = make(lambda_mismatch=0.5, label_smoothing=0.0).training_step(batch(), 0.0)
    assert set(losses) == {"D/game", "D/mismatch", "G/game"}


def test_a_critic_that_says_nothing_costs_what_pencil_and_paper_say() -> None:
    """Logit 0: each cross-entropy is log 2, smoothed labels or not; its slope is 0."""
    recipe = make(lambda_mismatch=0.5, lambda_r1=3.0)
    for parameter in recipe.D.parameters():
        nn.init.zeros_(parameter)
    recipe.update = lambda player, losses: None  # type: ignore[method-assign]
    losses = {name: loss.item() for name, loss in recipe.training_step(batch(), 0.0).items()}
    log2 = math.log(2)
    assert losses == pytest.approx({"D/game": 2 * log2, "D/mismatch": log2, "D/r1": 0.0, "G/game": log2})


def test_labels_are_smoothed_on_reals_alone() -> None:
    """D says logit 2 to everything: towards 1 - s the reals cost s times 2 more, the fakes no more."""
    plain, smooth = make(label_smoothing=0.0), make(label_smoothing=0.2)
    found = []
    for recipe in (plain, smooth):
        for parameter in recipe.D.parameters():
            nn.init.zeros_(parameter)
        nn.init.constant_(recipe.D.body[-1].bias, 2.0)
        recipe.update = lambda player, losses: None  # type: ignore[method-assign]
        found.append(recipe.training_step(batch(), 0.0))
    assert (found[1]["D/game"] - found[0]["D/game"]).item() == pytest.approx(0.4, abs=1e-5)
    assert found[1]["G/game"] == found[0]["G/game"]


def test_smoothed_labels_are_refused_where_the_game_has_no_probabilities() -> None:
    with pytest.raises(InputError, match="label_smoothing"):
        make(objective="hinge", label_smoothing=0.1)


def test_reals_and_fakes_are_augmented_and_the_generator_learns_through_it() -> None:
    recipe = make(augment=("translation", "brightness"))
    before = copy.deepcopy(recipe.G.state_dict())
    recipe.training_step(batch(), 0.0)
    assert not all(torch.equal(value, before[key]) for key, value in recipe.G.state_dict().items())


def test_a_good_image_of_another_class_scores_less() -> None:
    recipe = make()
    images = batch(count=6)
    recipe.sampler = lambda: _Fixed(images["A"])  # type: ignore[method-assign, assignment, return-value]
    assert recipe.validation_step(images)["score"].item() == pytest.approx(0.0, abs=1e-4)
    swapped = {"A": images["A"].roll(1, 0), "class_A": images["class_A"]}
    assert recipe.validation_step(swapped)["score"] < -0.1


def test_points_have_no_preview() -> None:
    torch.manual_seed(0)
    recipe = CGAN(image_shape=(2,), num_classes=3, latent_dim=2)
    points = {"A": torch.rand(6, 2), "class_A": torch.arange(6) % 3}
    recipe.training_step(points, 0.0)
    assert recipe.preview(points) == {}
    assert list(make().preview(batch())) == ["real", "fake"]


class _Fixed(nn.Module):
    """A sampler that knows the answer."""

    latent_dim, num_classes = 1, 3

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images = images

    def latents(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.zeros(count, 1)

    def forward(self, latents: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        return self.images
