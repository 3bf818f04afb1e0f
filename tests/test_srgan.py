"""SRGAN: shapes, the warm-up, what is kept of it, and the small image."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from medgan.config import Component, InputError
from medgan.networks.resize import enlarged, reduced, resize
from medgan.networks.srgan import SRGANCritic, SRResNet, shuffle
from medgan.recipes.srgan import SRGAN

BOTH = pytest.mark.parametrize("dims", [2, 3])
SCALES = pytest.mark.parametrize("scale", [2, 4])
TINY = {
    "enlarger_net": Component(name="srresnet", features=4, blocks=1, stem_kernel=3),
    "critic_net": Component(name="srgan", features=4, levels=2, hidden=4),
}


def make(dims: int, scale: int = 2, channels: int = 1, **options: Any) -> SRGAN:
    torch.manual_seed(0)
    return SRGAN(image_shape=(channels, *(8,) * dims), scale=scale, **{**TINY, **options})


def batch(dims: int, seed: int = 0, channels: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"A": torch.rand(4, channels, *(8,) * dims, generator=generator) * 2 - 1}


def step(recipe: SRGAN, index: int, dims: int, progress: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(100 + index)
    recipe.set_progress(progress)
    return recipe.training_step(batch(dims, index), progress)


def same(first: nn.Module, second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[key]) for key, value in first.state_dict().items())


def test_pixels_are_shuffled_as_torch_shuffles_them() -> None:
    x = torch.rand(2, 12, 3, 5)
    assert torch.equal(shuffle(x, 2), nn.functional.pixel_shuffle(x, 2))


def test_eight_channels_of_one_voxel_fill_a_cube_the_last_axis_fastest() -> None:
    cube = shuffle(torch.arange(8.0).reshape(1, 8, 1, 1, 1), 2)
    assert cube.shape == (1, 1, 2, 2, 2)
    assert cube[0, 0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_voxels_beside_each_other_stay_beside_each_other() -> None:
    x = torch.zeros(1, 8, 2, 1, 1)
    x[:, :, 1] = 1.0
    assert shuffle(x, 2)[0, 0, :, 0, 0].tolist() == [0, 0, 1, 1]


def test_in_2d_resizing_is_torchs_antialiased_bicubic() -> None:
    x = torch.rand(2, 3, 16, 12)
    for size in ((4, 3), (8, 6), (32, 24), (20, 7)):
        expected = nn.functional.interpolate(x, size=size, mode="bicubic", antialias=True)
        torch.testing.assert_close(resize(x, size), expected, atol=1e-6, rtol=0)


@BOTH
@SCALES
def test_the_small_image_of_a_constant_is_that_constant(dims: int, scale: int) -> None:
    low = make(dims, scale).low_resolution(torch.full((1, 1, *(8,) * dims), 0.3))
    assert low.shape == (1, 1, *(8 // scale,) * dims)
    torch.testing.assert_close(low, torch.full_like(low, 0.3))


@BOTH
def test_a_ramp_stays_a_ramp_away_from_the_border(dims: int) -> None:
    """Voxel i of the small image lies between voxels 2i and 2i + 1 of the large one."""
    ramp = torch.arange(16.0).reshape(1, 1, 16, *(1,) * (dims - 1)).expand(1, 1, 16, *(4,) * (dims - 1))
    small = reduced(ramp, 2).flatten(3)[0, 0, :, 0].reshape(8, -1)[:, 0]
    torch.testing.assert_close(small[2:-2], torch.tensor([4.5, 6.5, 8.5, 10.5]))
    large = enlarged(ramp, 2).flatten(3)[0, 0, :, 0].reshape(32, -1)[:, 0]
    torch.testing.assert_close(large[4:-4], torch.arange(32)[4:-4] / 2 - 0.25)


@BOTH
@SCALES
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_srresnet_enlarges_by_its_scale_and_the_critic_gives_one_logit(dims: int, scale: int, norm: str) -> None:
    low = torch.rand(2, 3, *(5,) * dims)
    assert SRResNet(dims, 3, scale, features=4, blocks=2, norm=norm)(low).shape == (2, 3, *(5 * scale,) * dims)
    shape = (3, *(9,) * dims)
    assert SRGANCritic(shape, features=4, levels=2, hidden=4, norm=norm)(torch.rand(2, *shape)).shape == (2, 1)


def test_a_critic_of_classes_judges_one_image_differently_as_another_class() -> None:
    critic = SRGANCritic((1, 8, 8), 3, features=4, levels=2, hidden=4, norm="none")
    image = torch.rand(1, 1, 8, 8).expand(2, -1, -1, -1)
    first, second = critic(image, torch.tensor([0, 2]))
    assert first != second


def test_an_enlarger_whose_last_layer_is_nothing_is_cubic_interpolation() -> None:
    network = SRResNet(2, 1, 4, features=4, blocks=1)
    last = network.head[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    low = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(network(low), enlarged(low, 4))


@BOTH
@SCALES
def test_super_resolution_and_preview_have_the_shape_of_the_truth_and_its_range(dims: int, scale: int) -> None:
    recipe, images = make(dims, scale), batch(dims)
    low = recipe.low_resolution(images["A"])
    for stage in ("srresnet", "srgan"):
        fine = recipe.super_resolve(low, stage)
        assert fine.shape == images["A"].shape
        assert fine.abs().max() <= 1
    shown = recipe.preview(images)
    assert list(shown) == ["low", "cubic", "super_resolved", "truth"]
    assert all(image.shape == images["A"].shape for image in shown.values())
    corner = (0, 0, *(slice(scale),) * dims)
    assert shown["low"][corner].unique().numel() == 1


def test_during_the_warm_up_there_is_no_adversary_and_it_does_not_move() -> None:
    recipe = make(2, warmup=0.5)
    before = copy.deepcopy(recipe.D.state_dict())
    assert set(step(recipe, 0, 2, 0.0)) == {"G/content"}
    assert set(step(recipe, 1, 2, 0.49)) == {"G/content"}
    assert same(recipe.D, before)
    assert set(step(recipe, 2, 2, 0.5)) == {"D/adv", "G/content", "G/adv"}
    assert not same(recipe.D, before)


def test_srresnet_is_kept_as_it_was_at_the_end_of_the_warm_up() -> None:
    recipe = make(2, warmup=0.5)
    for index in range(3):
        step(recipe, index, 2, 0.1)
    kept = copy.deepcopy(recipe.srresnet.state_dict())
    low = recipe.low_resolution(batch(2)["A"])
    assert torch.equal(recipe.super_resolve(low, "srresnet"), recipe.super_resolve(low, "srgan"))
    for index in range(3):
        step(recipe, index, 2, 0.9)
    assert same(recipe.srresnet, kept)
    assert not torch.equal(recipe.super_resolve(low, "srresnet"), recipe.super_resolve(low, "srgan"))


@BOTH
@SCALES
def test_a_restored_recipe_takes_the_same_next_steps(dims: int, scale: int) -> None:
    first, second = make(dims, scale), make(dims, scale)
    step(first, 0, dims, 0.1)
    step(first, 1, dims, 0.8)
    second.load_state(copy.deepcopy(first.state()))
    for recipe in (first, second):
        step(recipe, 2, dims, 0.9)
    assert same(first, second.state_dict())


def test_the_adversarial_term_is_a_thousandth_of_what_the_game_says() -> None:
    recipe = make(2, lambda_adv=1e-3, warmup=0.0)
    nn.init.zeros_(recipe.D.body[-1].weight)
    nn.init.zeros_(recipe.D.body[-1].bias)
    recipe.update = lambda player, losses: None  # type: ignore[method-assign]
    assert step(recipe, 0, 2, 0.5)["G/adv"].item() == pytest.approx(1e-3 * torch.tensor(2.0).log().item())


def test_the_content_is_the_mean_squared_or_absolute_error() -> None:
    images = batch(2)["A"]
    for content, expected in (("mse", nn.functional.mse_loss), ("l1", nn.functional.l1_loss)):
        recipe = make(2, content=content)
        error = expected(recipe.G(recipe.low_resolution(images)), images)
        torch.testing.assert_close(recipe.training_step({"A": images}, 0.0)["G/content"], error)


def extractor() -> nn.Module:
    """Half the mean over windows of four: features that do not see detail."""
    network = nn.Sequential(nn.Conv2d(1, 1, 4, stride=4, bias=False), nn.BatchNorm2d(1))
    nn.init.constant_(network[0].weight, 1 / 32)
    return network


def test_an_injected_extractor_stays_as_it_is_and_counts_after_the_warm_up_only() -> None:
    recipe = make(2, features_net=Component(name=f"{__name__}.extractor"), lambda_adv=0.0, warmup=0.5)
    before = copy.deepcopy(recipe.features.state_dict())
    images = batch(2)["A"]
    low = recipe.low_resolution(images)
    pixels = recipe.training_step({"A": images}, 0.1)["G/content"]
    fake = recipe.G(low)
    expected = (recipe.features(fake) - recipe.features(images)).square().mean()
    features = recipe.train().training_step({"A": images}, 0.9)["G/content"]
    torch.testing.assert_close(features, expected)
    assert features < pixels / 4
    assert same(recipe.features, before)
    assert not recipe.features.network.training
    assert not {id(p) for p in recipe.features.parameters()} & {
        id(p) for o in recipe.optimizers.values() for group in o.param_groups for p in group["params"]
    }


def test_validation_scores_the_truth_highest_and_changes_nothing() -> None:
    recipe, images = make(2), batch(2)
    before = copy.deepcopy(recipe.state_dict())
    measures = recipe.validation_step(images)
    assert same(recipe, before)
    assert measures["score"] == -measures["l1"] - measures["edge_distance"]
    recipe.super_resolve = lambda low, stage="srgan": images["A"]  # type: ignore[method-assign]
    assert recipe.validation_step(images)["score"] == 0
    recipe.super_resolve = lambda low, stage="srgan": images["A"] + 0.2  # type: ignore[method-assign]
    assert recipe.validation_step(images)["psnr"].item() == pytest.approx(20.0, abs=1e-3)  # 20 log10(2 / 0.2)


def test_the_learning_rate_falls_to_a_tenth_halfway_through_the_adversarial_part() -> None:
    recipe = make(2, warmup=0.6)
    assert [recipe.lr_factor(p) for p in (0.0, 0.6, 0.79, 0.81, 1.0)] == [1.0, 1.0, 1.0, 0.1, 0.1]
    assert make(2, warmup=1.0).lr_factor(1.0) == 1.0


def test_sides_that_the_scale_does_not_divide_are_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"recipe\.scale: 4 does not divide"):
        SRGAN(image_shape=(1, 10, 10), scale=4, **TINY)


def test_it_neither_translates_nor_samples() -> None:
    recipe = make(2)
    assert recipe.translator("AB") is None
    assert recipe.sampler() is None
