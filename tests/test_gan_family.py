"""What the papers promise of their games: pencil and paper first, then every recipe that makes samples out of noise."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from medgan.config import Component, InputError
from medgan.data.sources import SOURCES
from medgan.data.toy import Grid, Ring
from medgan.losses import OBJECTIVES, gradient_penalty, one_sided, r1_penalty
from medgan.recipes import RECIPES, Recipe
from medgan.recipes.augmentation import AUGMENTATIONS, cutout, translation
from medgan.recipes.density_network import log_likelihood
from medgan.recipes.parts import draw_latents, energy_distance
from medgan.recipes.sampling import falling, split_batch
from medgan.recipes.view import View, pack

POINTS, SLICES, VOLUMES = (2,), (1, 8, 8), (1, 8, 8, 8)
SHAPES = pytest.mark.parametrize("shape", [POINTS, SLICES, VOLUMES], ids=["points", "2D", "3D"])
FAMILY = ("density_network", "gan", "dcgan", "wgan", "wgan_gp", "sngan")
CRITIC_STEPS = {"wgan": 2, "wgan_gp": 2}
EVERY = pytest.mark.parametrize("name", [name for name in FAMILY if name != "dcgan"])


def make(name: str, shape: tuple[int, ...], **options: Any) -> Recipe:
    torch.manual_seed(0)
    image = len(shape) > 1
    nets = {"generator_net": Component(name="dcgan", channels=4) if image else Component(name="mlp", width=8, layers=1)}
    if name != "density_network":
        norm = "batch" if name in ("gan", "dcgan", "wgan") else "none"
        nets["discriminator_net"] = (
            Component(name="dcgan", channels=4, norm=norm) if image else Component(name="mlp", width=8, layers=1)
        )
    if name in CRITIC_STEPS:
        options.setdefault("critic_steps", CRITIC_STEPS[name])
    return RECIPES[name](image_shape=shape, latent_dim=3, **nets, **options)


def batch(shape: tuple[int, ...], seed: int = 0, size: int = 8) -> dict[str, torch.Tensor]:
    return {"A": torch.rand(size, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1}


def step(recipe: Recipe, shape: tuple[int, ...], index: int, progress: float = 0.3) -> dict[str, torch.Tensor]:
    torch.manual_seed(100 + index)
    recipe.train()
    recipe.set_progress(progress)
    return recipe.training_step(batch(shape, index), progress)


def weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    return {name: value for name, value in recipe.state_dict().items() if isinstance(value, torch.Tensor)}


# -- losses, by hand ---------------------------------------------------------------------------------------------------


@SHAPES
def test_a_linear_critic_pays_the_square_of_its_slope_less_one(shape: tuple[int, ...]) -> None:
    w = torch.full(shape, 3.0 / math.sqrt(math.prod(shape)), requires_grad=True)

    def critic(x: torch.Tensor) -> torch.Tensor:
        return (x * w).flatten(1).sum(dim=1, keepdim=True)

    penalty = gradient_penalty(critic, torch.rand(4, *shape), torch.rand(4, *shape))
    assert penalty.item() == pytest.approx((3 - 1) ** 2, rel=1e-5)
    penalty.backward()
    expected = 2 * (3 - 1) * w.detach() / 3  # of (|w| - 1)^2 by w
    torch.testing.assert_close(w.grad, expected)


def test_one_sided_a_shallow_critic_pays_nothing() -> None:
    x, y = torch.rand(4, 2), torch.rand(4, 2)
    shallow, steep = (lambda x: x[:, :1] * 0.25), (lambda x: x[:, :1] * 2.0)
    assert gradient_penalty(shallow, x, y).item() == pytest.approx(0.75**2)
    assert gradient_penalty(shallow, x, y, one_sided=True).item() == 0
    assert gradient_penalty(steep, x, y, one_sided=True).item() == pytest.approx(1)


def test_the_penalty_looks_between_reals_and_fakes() -> None:
    seen: list[torch.Tensor] = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum(dim=1)

    gradient_penalty(critic, torch.zeros(500, 2), torch.tensor([1.0, 2.0]).expand(500, 2))
    (x,) = seen
    torch.testing.assert_close(x[:, 1], 2 * x[:, 0])
    assert 0 <= x[:, 0].min() < 0.1
    assert 0.9 < x[:, 0].max() <= 1


def test_r1_of_a_linear_critic_is_half_its_squared_slope() -> None:
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = r1_penalty(lambda x: x @ w, torch.rand(5, 2))
    assert penalty.item() == pytest.approx(12.5)
    penalty.backward()
    torch.testing.assert_close(w.grad, torch.tensor([3.0, 4.0]))


def test_penalties_are_computed_in_float32_under_autocast() -> None:
    layer = torch.nn.Linear(2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        penalty = gradient_penalty(layer, torch.rand(3, 2), torch.rand(3, 2).bfloat16())
        assert r1_penalty(layer, torch.rand(3, 2)).dtype == torch.float32
    expected = (layer.weight.norm() - 1).square()
    torch.testing.assert_close(penalty, expected)


def test_smoothed_cross_entropy_asks_for_point_nine_on_reals_and_nothing_else_of_fakes() -> None:
    plain, smooth = OBJECTIVES["nonsaturating"], one_sided("nonsaturating", 0.1)
    real, fake = torch.tensor([2.0]), torch.tensor([-1.0])
    p = torch.sigmoid(real)
    by_hand = -(0.9 * p.log() + 0.1 * (1 - p).log()) + torch.nn.functional.softplus(fake)
    torch.testing.assert_close(smooth.discriminator(real, fake), by_hand.squeeze())
    assert smooth.generator(fake) == plain.generator(fake)
    best = torch.tensor([math.log(0.9 / 0.1)], requires_grad=True)  # where D(x) = 0.9
    smooth.discriminator(best, fake).backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="label_smoothing"):
        one_sided("wasserstein", 0.1)


def test_the_energy_distance_of_two_points_is_twice_their_distance() -> None:
    x, y = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert energy_distance(x, y).item() == pytest.approx(10)
    cloud = torch.randn(50, 1, 3, 3)
    assert energy_distance(cloud, cloud[torch.randperm(50)]).item() == pytest.approx(0, abs=1e-4)


def test_the_likelihood_of_one_component_is_the_gaussian_s() -> None:
    x, std = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]])
    expected = torch.distributions.Normal(torch.zeros(2), std[0]).log_prob(x[0]).sum()
    torch.testing.assert_close(log_likelihood(x, torch.zeros(1, 2), std.log()), expected[None])
    twice = log_likelihood(x, torch.zeros(2, 2), std.log().expand(2, 2))  # a mixture of equals is each of them
    torch.testing.assert_close(twice, expected[None])


# -- what a critic is shown --------------------------------------------------------------------------------------------


def test_packing_puts_neighbours_side_by_side() -> None:
    points = torch.arange(8.0).view(4, 2)
    assert torch.equal(pack(points, 2), torch.arange(8.0).view(2, 4))
    images = torch.rand(4, 3, 5, 6)
    packed = pack(images, 2)
    assert packed.shape == (2, 6, 5, 6)
    assert torch.equal(packed[1, 3:], images[3])


def test_instance_noise_fades_to_nothing() -> None:
    view, zeros = View(POINTS, packing=1, noise=2.0), torch.zeros(2000, 2)
    assert view(zeros, 0.0).std().item() == pytest.approx(2.0, rel=0.1)
    assert view(zeros, 0.5).std().item() == pytest.approx(1.0, rel=0.1)
    assert view(zeros, 1.0).abs().max() == 0


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [SLICES, VOLUMES], ids=["2D", "3D"])
def test_augmentation_keeps_the_shape_changes_the_image_and_lets_gradients_through(
    name: Any, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    images = batch(shape)["A"].requires_grad_()
    changed = AUGMENTATIONS[name](images)
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    changed.sum().backward()
    assert images.grad.abs().sum() > 0


def test_a_translated_image_is_the_image_elsewhere_with_background_behind_it() -> None:
    torch.manual_seed(1)
    image = torch.zeros(200, 1, 16, 16)
    image[:, :, 8, 8] = 1.0
    moved = translation(image)
    places = (moved == 1).nonzero()[:, 2:]
    assert len(places) == 200
    assert places.min() == 6  # an eighth of 16
    assert places.max() == 10
    row, column = places[0] - 8
    corner = moved[0, 0, -1 if row < 0 else 0, -1 if column < 0 else 0]
    assert (row == 0 and column == 0) or corner == -1


def test_cutout_blanks_a_quarter_of_a_slice_at_most() -> None:
    torch.manual_seed(0)
    share = (cutout(torch.ones(300, 1, 8, 8)) == 0).float().mean(dim=(1, 2, 3))
    assert share.max() <= 25 / 64
    assert 0.1 < share.mean() < 0.25


def test_points_cannot_be_augmented() -> None:
    with pytest.raises(InputError, match="augment"):
        make("sngan", POINTS, augment=("brightness",))


def test_a_batch_that_does_not_split_is_refused_with_the_way_out() -> None:
    assert [len(part) for part in split_batch(torch.zeros(12, 2), 2, 3)] == [6, 6]
    with pytest.raises(InputError, match="multiple of 6"):
        split_batch(torch.zeros(8, 2), 2, 3)


def test_spherical_latents_lie_on_the_sphere_and_uniform_ones_in_the_cube() -> None:
    torch.testing.assert_close(draw_latents(50, 16, "spherical").norm(dim=1), torch.full((50,), 4.0))
    uniform = draw_latents(5000, 4, "uniform")
    assert uniform.abs().max() <= 1
    assert uniform.var().item() == pytest.approx(1 / 3, rel=0.05)


def test_a_learning_rate_falls_from_where_it_is_told_to() -> None:
    assert [falling(p, 0.5) for p in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    assert falling(0.99, 1.0) == 1.0


# -- points in the plane -----------------------------------------------------------------------------------------------


def test_ring_and_grid_lie_where_their_papers_put_them() -> None:
    ring, grid = Ring(), Grid()
    np.testing.assert_allclose(np.linalg.norm(ring.centres, axis=1), 1.0)
    assert len(ring.centres) == 8
    assert sorted(set(grid.centres.ravel())) == [-4, -2, 0, 2, 4]
    assert len({tuple(centre) for centre in grid.centres}) == 25
    for name, source in (("ring", ring), ("grid", grid)):
        points = source.draw(np.random.default_rng(0), 20_000, "train", "single")["A"].numpy()
        away = np.linalg.norm(points[:, None] - source.centres, axis=2).min(axis=1)
        assert (away <= 3 * source.std).mean() == pytest.approx(1 - math.exp(-4.5), abs=0.003)
        assert type(source) is SOURCES[name]


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 28, 28), (1, 64, 32), (1, 8, 8, 8), (1, 16, 16, 8)])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_dcgan_s_networks_fit_any_size_that_halves(shape: tuple[int, ...], upsampling: str) -> None:
    from medgan.networks import CRITICS, SYNTHESIZERS

    images = SYNTHESIZERS["dcgan"](shape, 5, channels=4, upsampling=upsampling)(torch.randn(2, 5))
    assert images.shape == (2, *shape)
    assert images.abs().max() <= 1
    assert CRITICS["dcgan"](shape, channels=4)(images).shape == (2, 1)


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_conditional_networks_make_and_judge_a_class(name: str) -> None:
    from medgan.networks import CRITICS, SYNTHESIZERS

    torch.manual_seed(0)
    shape, z = (1, 8, 8), torch.randn(1, 4).expand(2, 4)
    images = SYNTHESIZERS[name](shape, 4, 3).eval()(z, torch.tensor([0, 2]))
    assert not torch.equal(images[0], images[1])
    judge = CRITICS[name](shape, 3).eval()
    same = images[:1].expand(2, *shape)
    logits = judge(same, torch.tensor([0, 2]))
    assert logits.shape == (2, 1)
    assert logits[0] != logits[1]


@pytest.mark.parametrize("shape", [(2,), (1, 7, 8), (1, 4, 4)])
def test_dcgan_says_which_shapes_it_cannot_make(shape: tuple[int, ...]) -> None:
    from medgan.networks import SYNTHESIZERS

    with pytest.raises(InputError, match="data: "):
        SYNTHESIZERS["dcgan"](shape, 5)


# -- the contract on points; tests/test_recipes.py has it on images ---------------------------------------------------


@EVERY
def test_a_step_gives_finite_losses_and_moves_every_trained_weight(name: str) -> None:
    recipe = make(name, POINTS)
    before = {key: p.detach().clone() for key, p in recipe.named_parameters() if p.requires_grad}
    for index in range(3):
        losses = step(recipe, POINTS, index)
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert {key.split("/")[0] for key in losses} == set(recipe.optimizers)
    after = dict(recipe.named_parameters())
    # the critic's last bias cancels out of a Wasserstein loss, and of a hinge while no logit leaves the margin
    free = {"D.body.2.bias"} if name in ("wgan", "wgan_gp", "sngan") else set()
    assert not [key for key, value in before.items() if torch.equal(value, after[key]) and key not in free]


@EVERY
def test_a_restored_recipe_takes_the_same_next_steps(name: str) -> None:
    options = {"pool_size": 4, "lambda_r1": 0.1, "label_smoothing": 0.1} if name == "gan" else {}
    first, second = make(name, POINTS, **options), make(name, POINTS, **options)
    for index in range(3):
        step(first, POINTS, index)
    second.load_state(copy.deepcopy(first.state()))
    for recipe in (first, second):
        step(recipe, POINTS, 3)
    for key, value in weights(first).items():
        assert torch.equal(value, weights(second)[key]), key


@EVERY
def test_points_are_sampled_and_scored_without_changing_the_recipe_and_shown_in_no_picture(name: str) -> None:
    recipe = make(name, POINTS)
    step(recipe, POINTS, 0)
    before = copy.deepcopy(weights(recipe))
    sampler = recipe.sampler()
    latents = sampler.latents(5)
    assert sampler(latents).shape == (5, 2)
    torch.testing.assert_close(sampler(latents, truncation=0.0), sampler(torch.zeros_like(latents)))
    assert torch.isfinite(recipe.validation_step(batch(POINTS))["score"])
    assert recipe.preview(batch(POINTS)) == {}
    assert all(torch.equal(value, before[key]) for key, value in weights(recipe).items())


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "density_network"])
def test_packing_shows_the_critic_several_samples_at_once(name: str) -> None:
    recipe = make(name, SLICES, packing=2)
    seen: list[torch.Size] = []
    recipe.D.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    step(recipe, SLICES, 0)
    assert {shape[1:] for shape in seen} == {(2, 8, 8)}


@pytest.mark.parametrize(("name", "most"), [("gan", 3), ("sngan", 3), ("wgan", 3), ("wgan_gp", 3)])
def test_the_critic_steps_as_often_as_asked_on_parts_of_the_batch(name: str, most: int) -> None:
    recipe = make(name, POINTS, critic_steps=most)
    turns: list[str] = []
    update = recipe.update
    recipe.update = lambda player, losses: (turns.append(player), update(player, losses))[1]  # type: ignore[method-assign]
    recipe.training_step(batch(POINTS, size=6), 0.5)
    assert turns == ["D"] * most + ["G"]


def test_the_weight_of_r1_falls_by_equal_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.recipes.gan.r1_penalty", lambda critic, real: torch.ones((), requires_grad=True))
    falling_weight, constant = (
        make("gan", POINTS, lambda_r1=0.1, lambda_r1_end=0.001),
        make("gan", POINTS, lambda_r1=0.1),
    )
    weights_seen = [step(falling_weight, POINTS, 0, progress=p)["D/r1"].item() for p in (0.0, 0.5, 1.0)]
    assert weights_seen == pytest.approx([0.1, 0.01, 0.001])
    assert step(constant, POINTS, 0, progress=0.5)["D/r1"].item() == pytest.approx(0.1)


def test_clipping_bounds_every_weight_of_the_critic() -> None:
    recipe = make("wgan", SLICES, clip=0.02, lr_discriminator=0.1)
    step(recipe, SLICES, 0)
    assert max(weight.abs().max().item() for weight in recipe.D.parameters()) == pytest.approx(0.02)


@pytest.mark.parametrize("shape", [POINTS, SLICES], ids=["points", "2D"])
def test_spectral_norms_of_the_discriminator_are_one(shape: tuple[int, ...]) -> None:
    recipe = make("sngan", shape)
    with torch.no_grad():
        for _ in range(50):
            recipe.D(batch(shape)["A"])
    layers = [m for m in recipe.D.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert norm.item() == pytest.approx(1.0, abs=0.02)


def test_a_gradient_penalty_does_not_go_with_batch_norm() -> None:
    with pytest.raises(InputError, match="batch norm"):
        RECIPES["wgan_gp"](image_shape=(1, 16, 16), discriminator_net=Component(name="dcgan", norm="batch"))


def test_the_density_network_finds_a_gaussian() -> None:
    recipe = make("density_network", POINTS, lr=0.05, num_latents=64)
    rng = torch.Generator().manual_seed(0)
    for index in range(300):
        torch.manual_seed(index)
        recipe.set_progress(index / 300)
        recipe.training_step({"A": torch.randn(128, 2, generator=rng) * 0.3 + 0.5}, index / 300)
    truth = -2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.3))  # minus the entropy
    held_out = torch.randn(2000, 2, generator=rng) * 0.3 + 0.5
    assert recipe.validation_step({"A": held_out})["score"].item() == pytest.approx(truth, abs=0.15)
