"""The contract that every recipe keeps, in 2D and 3D."""

import copy
import inspect
from typing import Any

import pytest
import torch

from medgan.config import Component, InputError
from medgan.recipes import RECIPES, Recipe
from medgan.recipes.parts import ImagePool, averaged, frozen, intensity_distance, ramp
from medgan.recipes.view import toned, tones_weight

SIZE = 8


def _parameters(name: str) -> set[str]:
    return set(inspect.signature(RECIPES[name]).parameters)


SMALL = {
    "generator_net": Component(name="unet", channels=8, levels=1),
    "discriminator_net": Component(name="patchgan", channels=8, layers=1),
}
ALIKE = {"lambda_identity": 1.0, "lambda_gradient": 1.0, "lambda_mind": 1.0}
SEGMENTOR = Component(name="segresnet", channels=8, levels=1)
NOISE = {"generator_net": Component(name="dcgan", channels=4), "latent_dim": 3}
BATCH_NORM = {"discriminator_net": Component(name="dcgan", channels=4, norm="batch")}
CRITIC = {"discriminator_net": Component(name="dcgan", channels=4, norm="none")}
OPTIONS: dict[str, dict[str, Any]] = {
    "density_network": NOISE,
    "gan": NOISE | BATCH_NORM,
    "dcgan": NOISE | BATCH_NORM,
    "wgan": NOISE | BATCH_NORM | {"critic_steps": 2, "clip": 10.0},
    "wgan_gp": NOISE | CRITIC | {"critic_steps": 2},
    "sngan": NOISE | CRITIC,
    "cgan": NOISE | CRITIC,
    "srgan": {
        "scale": 2,
        "warmup": 0.2,
        "enlarger_net": Component(name="srresnet", features=4, blocks=1),
        "critic_net": Component(name="srgan", features=4, levels=1, hidden=4),
    },
    "stylegan2": {"channels": 4, "max_channels": 8, "latent_dim": 4, "mapping_layers": 2},
    "dvdgan": {
        "generator_net": Component(name="films", channels=4, max_channels=4),
        "spatial_net": Component(name="spectral", channels=4, max_channels=4),
        "temporal_net": Component(name="spectral", channels=4, max_channels=4),
        "latent_dim": 4,
        "judged_frames": 2,
        "critic_steps": 2,
    },
    "cyclegan": SMALL | ALIKE | {"pool_size": 2},
    "conditional_cyclegan": SMALL | {"lambda_identity": 1.0, "pool_size": 2},
    "seg_cyclegan": SMALL | ALIKE | {"segmentor_net": SEGMENTOR, "pool_size": 2},
    "segmentation": {"segmentor_net": SEGMENTOR},
    "pix2pix": SMALL | {"lambda_gradient": 1.0},
    "cut": SMALL | {"places": 512, "features": 8},
}
DIFFERENCES = ("wgan", "wgan_gp", "sngan")  # their critics' differences do not see the last bias
FLAT = {"dvdgan": 3}  # recipes of one number of dimensions
EVERY = pytest.mark.parametrize(
    ("name", "spatial_dims"),
    [(name, dims) for name in RECIPES for dims in (2, 3) if FLAT.get(name, dims) == dims],
)
TRANSLATING = pytest.mark.parametrize(
    ("name", "spatial_dims"),
    [(name, dims) for name in RECIPES for dims in (2, 3) if {"spatial_dims", "lambda_adv"} <= _parameters(name)],
)


def make(name: str, spatial_dims: int, **options: Any) -> Recipe:
    torch.manual_seed(0)
    facts = {"spatial_dims": spatial_dims, "image_shape": (1, *(SIZE,) * spatial_dims), "num_classes": 3}
    settled = {key: value for key, value in facts.items() if key in _parameters(name)}
    return RECIPES[name](**settled | OPTIONS[name] | options)


def batch(spatial_dims: int, seed: int = 0, size: int = 4) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shape = (size, 1, *(SIZE,) * spatial_dims)
    images = {key: torch.rand(shape, generator=rng) * 2 - 1 for key in "AB"}
    images |= {f"label_{key}": torch.randint(0, 3, shape, generator=rng) for key in "AB"}
    return images | {f"class_{key}": torch.randint(0, 3, (size,), generator=rng) for key in "AB"}


def step(recipe: Recipe, index: int, spatial_dims: int, progress: float = 0.9) -> dict[str, torch.Tensor]:
    torch.manual_seed(100 + index)
    recipe.train()
    recipe.set_progress(progress)
    return recipe.training_step(batch(spatial_dims, index), progress)


def weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    return {name: value for name, value in recipe.state_dict().items() if isinstance(value, torch.Tensor)}


def trained(recipe: Recipe) -> dict[str, torch.Tensor]:
    of_players = {id(p) for o in recipe.optimizers.values() for group in o.param_groups for p in group["params"]}
    return {key: p for key, p in recipe.named_parameters() if id(p) in of_players}


@EVERY
def test_a_step_gives_finite_losses_and_moves_every_trained_weight(name: str, spatial_dims: int) -> None:
    recipe = make(name, spatial_dims)
    before = {key: p.detach().clone() for key, p in trained(recipe).items()}
    for index in range(2):
        losses = step(recipe, index, spatial_dims, progress=0.5)
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert {key.split("/")[0] for key in losses} == set(recipe.optimizers)
    still = {key for key, p in trained(recipe).items() if torch.equal(p, before[key])}
    assert still <= ({"D.head.bias"} if name in DIFFERENCES else set())


@EVERY
def test_every_gradient_passes_the_ranks_before_it_is_used(name: str, spatial_dims: int) -> None:
    recipe = make(name, spatial_dims)
    before = {key: p.detach().clone() for key, p in trained(recipe).items()}
    recipe.average_gradients = lambda gradients: [gradient.zero_() for gradient in gradients] and None
    step(recipe, 0, spatial_dims, progress=0.5)
    moved = [key for key, p in trained(recipe).items() if not torch.equal(p, before[key])]
    assert not moved


@EVERY
def test_a_restored_recipe_takes_the_same_next_steps(name: str, spatial_dims: int) -> None:
    first, second = make(name, spatial_dims), make(name, spatial_dims)
    for index in range(3):
        step(first, index, spatial_dims)
    second.load_state(copy.deepcopy(first.state()))
    for recipe in (first, second):
        step(recipe, 3, spatial_dims)
    for key, value in weights(first).items():
        assert torch.equal(value, weights(second)[key]), key


@EVERY
def test_a_translator_keeps_shape_and_range(name: str, spatial_dims: int) -> None:
    recipe = make(name, spatial_dims)
    images = batch(spatial_dims)
    for direction in ("AB", "BA"):
        network = recipe.translator(direction)
        if network is not None:
            translated = network(images[direction[0]])
            assert translated.shape == images[direction[0]].shape
            assert translated.abs().max() <= 1


@EVERY
def test_a_sampler_gives_as_many_images_as_asked_and_the_same_for_equal_latents(name: str, spatial_dims: int) -> None:
    sampler = make(name, spatial_dims).eval().sampler()
    if sampler is None:
        return
    latents = sampler.latents(5, torch.Generator().manual_seed(1))
    assert latents.shape == (5, sampler.latent_dim)
    assert torch.equal(latents, sampler.latents(5, torch.Generator().manual_seed(1)))
    classes = torch.arange(5) % sampler.num_classes if sampler.num_classes else None
    torch.manual_seed(0)
    images = sampler(latents, classes)
    assert images.shape == (5, 1, *(SIZE,) * spatial_dims)
    torch.manual_seed(0)
    assert torch.equal(images, sampler(latents, classes))


@EVERY
def test_validation_gives_a_score_and_changes_nothing(name: str, spatial_dims: int) -> None:
    recipe = make(name, spatial_dims)
    before = copy.deepcopy(weights(recipe))
    measures = recipe.eval().validation_step(batch(spatial_dims))
    assert torch.isfinite(measures["score"])
    previews = recipe.preview(batch(spatial_dims))
    assert all(torch.equal(value, before[key]) for key, value in weights(recipe).items())
    assert all(set(image.shape[2:]) == {SIZE} for image in previews.values())  # films are shown frame by frame


@TRANSLATING
def test_two_half_batches_averaged_equal_one_whole(name: str, spatial_dims: int) -> None:
    """What two ranks do: each its half, gradients averaged. Without labels: Dice pools its batch."""
    whole = make(name, spatial_dims)
    whole.load_state(whole.state())
    images = batch(spatial_dims)
    images = {key: value for key, value in images.items() if not key.startswith("label")}
    halves = [{key: value[2 * i : 2 * i + 2] for key, value in images.items()} for i in range(2)]
    collected: list[list[list[torch.Tensor]]] = []
    for half in halves:
        rank = make(name, spatial_dims)
        seen: list[list[torch.Tensor]] = []
        rank.average_gradients = lambda gradients, seen=seen: seen.append([g.clone() for g in gradients])
        rank.training_step(half, 0.2)
        collected.append(seen)
    first: list[list[torch.Tensor]] = []
    whole.average_gradients = lambda gradients: first.append([g.clone() for g in gradients])
    whole.training_step(images, 0.2)
    for mine, theirs, one in zip(collected[0][0], collected[1][0], first[0], strict=True):
        torch.testing.assert_close((mine + theirs) / 2, one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.at_once])
def test_a_batch_in_two_parts_takes_the_step_of_the_whole(name: str, spatial_dims: int) -> None:
    """Labels alike in both parts: Dice pools its batch."""
    images = {key: torch.cat([value[:1]] * 2) for key, value in batch(spatial_dims).items()}
    if name != "segmentation":
        images |= {key: value[:2] for key, value in batch(spatial_dims).items() if not key.startswith("label")}
        images = {key: value for key, value in images.items() if not key.startswith("label")}
    whole, parts = (make(name, spatial_dims, **({"pool_size": 0} if "cyclegan" in name else {})) for _ in range(2))
    seen = [recipe.training_step_in_parts(images, 0.9, count) for recipe, count in ((whole, 1), (parts, 2))]
    for term, loss in seen[0].items():
        torch.testing.assert_close(seen[1][term], loss, rtol=1e-4, atol=1e-6, msg=term)
    for player, optimizer in whole.optimizers.items():
        for group, other in zip(optimizer.param_groups, parts.optimizers[player].param_groups, strict=True):
            for one, two in zip(group["params"], other["params"], strict=True):
                torch.testing.assert_close(two.grad, one.grad, rtol=1e-3, atol=1e-5)
    averages = [
        {key: v for key, v in weights(recipe).items() if key.endswith("n_averaged")} for recipe in (whole, parts)
    ]
    assert averages[0] == averages[1]


def test_the_segmentation_term_follows_its_schedule() -> None:
    recipe = make("seg_cyclegan", 2, seg_warmup=0.05, seg_start=0.2, seg_ramp=0.2, seg_fakes_start=0.6, beta_seg=2.0)
    assert set(step(recipe, 0, 2, progress=0.01)) == {"S/real_A", "S/real_B"}
    assert "G/seg_A" not in step(recipe, 0, 2, progress=0.1)
    late = step(recipe, 0, 2, progress=0.5)
    assert "G/seg_A" in late
    assert "S/fake_A" not in late
    assert "S/fake_A" in step(recipe, 0, 2, progress=0.7)


def test_the_generators_learn_from_labels_through_frozen_segmentors() -> None:
    recipe = make("seg_cyclegan", 2, lambda_adv=0.0, lambda_cycle=0.0, seg_start=0.0, seg_ramp=0.0, seg_fakes_start=1.0)
    recipe.lambda_identity = recipe.lambda_gradient = recipe.lambda_mind = 0.0
    recipe.update = lambda player, losses, **_: (  # type: ignore[method-assign]
        torch.stack([loss.float() for loss in losses.values()]).sum().backward() if player == "G" else None
    )
    recipe.training_step(batch(2), 0.5)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in recipe.G_AB.network.head.parameters())
    assert all(p.grad is None for p in recipe.S_B.parameters())
    assert all(p.grad is None for p in recipe.D_B.parameters())


def test_what_s_reads_once_teaches_both_players_as_if_read_twice() -> None:
    """With a weight of 0 for G's term, S reads translations for itself; its gradients must be the same."""
    gradients, losses = [], []
    for beta in (0.0, 2.0):
        recipe = make("seg_cyclegan", 2, seg_start=0.0, seg_ramp=0.0, beta_seg=beta, seg_fakes_weight=0.7)
        losses.append(recipe.training_step(batch(2), 0.9))
        gradients.append([p.grad for network in (recipe.S_A, recipe.S_B) for p in network.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)
    for term in ("S/fake_A", "S/fake_B", "S/real_A"):
        torch.testing.assert_close(losses[1][term], losses[0][term])


def test_missing_labels_leave_the_segmentor_of_that_domain_alone() -> None:
    recipe = make("seg_cyclegan", 2)
    images = {key: value for key, value in batch(2).items() if key != "label_B"}
    before = copy.deepcopy(recipe.S_B.state_dict())
    losses = recipe.training_step(images, 0.3)
    assert losses["S/real_B"] == 0
    assert losses["G/seg_B"] == 0
    assert losses["G/seg_A"] > 0
    assert all(torch.equal(value, before[key]) for key, value in recipe.S_B.state_dict().items())


def test_pix2pix_without_an_adversary_has_no_discriminator() -> None:
    recipe = make("pix2pix", 2, lambda_adv=0.0)
    assert set(recipe.optimizers) == {"G"}
    assert "G/adv" not in step(recipe, 0, 2)
    assert recipe.translator("AB") is None


def test_in_the_warm_up_cyclegan_s_generators_learn_to_give_back_what_they_see_and_nobody_judges() -> None:
    recipe = make("cyclegan", 2, warmup=0.5)
    judges = {key: p.detach().clone() for key, p in trained(recipe).items() if key.startswith("D_")}
    losses = [step(recipe, index, 2, progress=0.1) for index in range(5)]
    assert set(losses[0]) == {"G/start_A", "G/start_B"}
    assert losses[-1]["G/start_A"] < losses[0]["G/start_A"]
    assert all(torch.equal(p, judges[key]) for key, p in trained(recipe).items() if key in judges)
    assert "D/A" in step(recipe, 5, 2, progress=0.5)


def test_images_of_different_channels_cannot_be_given_back() -> None:
    with pytest.raises(InputError, match=r"recipe\.warmup: 0\.1, but images of 1 channels"):
        make("cyclegan", 2, warmup=0.1, channels_B=2)


def test_cyclegan_s_discriminators_see_noise_that_fades_and_its_generators_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[float, float]] = []

    def noisy(samples: torch.Tensor, std: float, progress: float) -> torch.Tensor:
        seen.append((std, progress))
        return samples

    monkeypatch.setattr("medgan.recipes.cyclegan.noisy", noisy)
    step(make("cyclegan", 2, instance_noise=0.2), 0, 2, progress=0.75)
    assert seen == [(0.2, 0.75)] * 6  # two fakes for G; two reals and two fakes for D


def test_cyclegan_s_discriminators_see_augmented_images_and_its_generators_whole_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, ...]] = []
    seen: dict[str, list[bool]] = {"D_A": [], "D_B": [], "G_AB": [], "G_BA": []}

    def augmented(samples: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
        asked.append(names)
        return torch.full_like(samples, -1.0)

    monkeypatch.setattr("medgan.recipes.cyclegan.augmented", augmented)
    recipe = make("cyclegan", 2, augment=("translation",))
    for name, blank in seen.items():
        network = getattr(recipe, name)
        network.register_forward_pre_hook(lambda _, given, blank=blank: blank.append(bool((given[0] == -1).all())))
    step(recipe, 0, 2, progress=0.5)
    assert asked == [("translation",)] * 6  # as with the noise
    assert all(blank and all(blank) for blank in (seen["D_A"], seen["D_B"]))
    assert all(blank and not any(blank) for blank in (seen["G_AB"], seen["G_BA"]))


def test_tones_are_the_sines_of_intensities_and_set_near_ones_apart() -> None:
    shades = torch.tensor([-0.16, -0.14]).view(2, 1, 1, 1)
    fine = toned(shades, (2.0, 4.0))
    assert fine.shape == (2, 5, 1, 1)
    torch.testing.assert_close(fine[:, 1], torch.sin(2 * torch.pi * shades[:, 0]))
    torch.testing.assert_close(fine[:, 4], torch.cos(4 * torch.pi * shades[:, 0]))
    torch.testing.assert_close(toned(shades, (2.0, 4.0), 0.5)[:, 1:], fine[:, 1:] / 2)
    assert (fine[0] - fine[1]).norm() > 10 * (shades[0] - shades[1]).norm()
    assert torch.equal(toned(shades, ()), shades)


def test_tones_come_in_within_a_fifth_of_the_training() -> None:
    weights = [tones_weight(0.3, progress) for progress in (0.0, 0.3, 0.4, 0.5, 1.0)]
    assert weights == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("name", ["cyclegan", "conditional_cyclegan"])
def test_discriminators_see_tones_and_generators_none(name: str) -> None:
    recipe = make(name, 2, tones=(2.0,))
    seen: dict[str, list[torch.Tensor]] = {"D_A": [], "D_B": [], "G_AB": []}
    for network, images in seen.items():
        getattr(recipe, network).register_forward_pre_hook(lambda _, given, images=images: images.append(given[0]))
    step(recipe, 0, 2, progress=0.5)
    assert {images.shape[1] for images in seen["G_AB"]} == {1}
    for images in (*seen["D_A"], *seen["D_B"]):
        image, sine, cosine = images.chunk(3, dim=1)
        torch.testing.assert_close(sine, torch.sin(2 * torch.pi * image))
        torch.testing.assert_close(cosine, torch.cos(2 * torch.pi * image))


def test_the_learning_rate_is_constant_and_then_falls_to_nothing() -> None:
    recipe = make("cyclegan", 2)
    assert [recipe.lr_factor(p) for p in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    recipe.set_progress(0.75)
    assert recipe.optimizers["G"].param_groups[0]["lr"] == pytest.approx(1e-4)


def test_a_clipped_update_is_no_longer_than_the_bound() -> None:
    recipe = make("cyclegan", 2)
    recipe.clip_norm = 1e-3
    recipe.training_step(batch(2), 0.5)
    norm = torch.stack([p.grad.norm() for p in recipe.D_A.parameters()]).norm()
    assert norm <= 1.01e-3


def test_a_pool_returns_new_images_until_full_and_then_half_the_time_older_ones() -> None:
    torch.manual_seed(0)
    pool = ImagePool(3)
    for value in range(3):
        assert pool(torch.full((1, 1, 2, 2), float(value)))[0, 0, 0, 0] == value
    old = sum(pool(torch.full((1, 1, 2, 2), 100.0 + value))[0, 0, 0, 0] != 100 + value for value in range(400))
    assert 150 < old < 250
    assert len(pool.images) == 3


def test_frozen_networks_pass_gradients_through_and_take_none() -> None:
    layer = torch.nn.Linear(2, 1)
    x = torch.ones(1, 2, requires_grad=True)
    with frozen(layer):
        layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad.abs().sum() > 0
    assert layer.weight.requires_grad


def test_an_average_moves_by_one_minus_decay() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 0.0)
    average = averaged(layer, 0.9)
    average.update_parameters(layer)
    torch.nn.init.constant_(layer.weight, 1.0)
    average.update_parameters(layer)
    assert average.module.weight.item() == pytest.approx(0.1)


def test_a_ramp_is_nothing_then_linear_then_one() -> None:
    assert [ramp(p, 0.2, 0.4) for p in (0.1, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert ramp(0.5, 0.5, 0.0) == 1.0


def test_the_distance_between_shifted_intensities_is_the_shift_and_background_does_not_count() -> None:
    values = torch.rand(1, 1, 100, 100) - 0.5
    assert intensity_distance(values, values, values + 0.25).item() == pytest.approx(0.25, abs=0.02)
    source, fake, real = values.clone(), values.clone(), values.clone()
    source[..., :50], fake[..., :50], real[..., :20] = -1.0, -0.99, -1.0
    assert intensity_distance(fake, source, real).item() < 0.02


def test_a_pool_that_was_loaded_elsewhere_returns_images_where_new_ones_are() -> None:
    pool = ImagePool(1)
    pool.set_extra_state({"images": [torch.zeros(1, 2, 2)]})
    returned = {pool(torch.ones(1, 1, 2, 2, device="meta")).device.type for _ in range(8)}
    assert returned == {"meta"}


def test_a_second_look_within_a_step_sees_the_updated_weights() -> None:
    recipe = make("cyclegan", 2)
    image = torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        before = recipe.D_A(image)
        recipe.update("D", {"D/A": before.square().mean()})
        after = recipe.D_A(image)
    assert not torch.equal(before, after)


@TRANSLATING
def test_background_comes_out_as_background_and_the_body_is_translated(name: str, spatial_dims: int) -> None:
    recipe = make(name, spatial_dims)
    network = recipe.translator("BA") or recipe.translator("AB")
    assert network is not None
    image = batch(spatial_dims)["B"].clamp(min=-0.99)
    image[:, :, :3] = -1
    translated = network(image)
    assert (translated[:, :, :3] == -1).all()
    assert (translated[:, :, 3:] > -0.9).all()


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan", "conditional_cyclegan", "cut"])
def test_a_generator_may_be_let_paint_where_its_source_is_empty(name: str) -> None:
    recipe = make(name, 2, keep_background=False)
    network = recipe.translator("BA")
    assert network is not None
    assert (network(torch.full((1, 1, SIZE, SIZE), -1.0)) > -0.9).all()
