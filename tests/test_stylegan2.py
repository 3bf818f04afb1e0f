"""StyleGAN2: its convolution against the paper's form, its regularisers, its augmentation, its schedule."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from medgan.losses import path_lengths
from medgan.networks.equalized import Blur, ModulatedConv
from medgan.networks.stylegan2 import ResidualCritic, StyleGenerator, Synthesis, group_deviation
from medgan.recipes.adaptive import AdaptiveAugmentation, augment
from medgan.recipes.stylegan2 import StyleGAN2


def make(**options: Any) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(
        **{"image_shape": (1, 16, 16), "latent_dim": 6, "channels": 4, "max_channels": 8, "mapping_layers": 2} | options
    )


def images(seed: int = 0, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("up", [False, True])
def test_modulating_inputs_and_outputs_is_the_paper_s_grouped_convolution(spatial_dims: int, up: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(spatial_dims, 3, 5, 4, up=up)
    x, w = torch.randn(2, 3, *(6,) * spatial_dims), torch.randn(2, 4)
    found, factor = layer(x, w)
    found = found * factor
    ones = (1,) * spatial_dims
    modulated = layer.weight[None] * layer.scale * layer.style(w).reshape(2, 1, 3, *ones)  # Equation 1
    root = modulated.square().flatten(2).sum(dim=2).add(1e-8).rsqrt()
    weights = modulated * root.reshape(2, 5, 1, *ones)  # Equation 3
    if up:
        transposed = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[spatial_dims]
        grouped = transposed(x.flatten(0, 1)[None], weights.transpose(1, 2).flatten(0, 1), stride=2, groups=2)
        expected = layer.filter(grouped[0].unflatten(0, (2, 5)))
    else:
        convolve = {2: F.conv2d, 3: F.conv3d}[spatial_dims]
        expected = convolve(x.flatten(0, 1)[None], weights.flatten(0, 1), padding=1, groups=2)[0].unflatten(0, (2, 5))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_demodulated_outputs_have_unit_variance_whatever_the_style() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(2, 16, 32, 8)
    x, w = torch.randn(8, 16, 24, 24), 5 * torch.randn(8, 8)
    y, factor = layer(x, w)
    inner = (y * factor)[..., 1:-1, 1:-1]  # beyond the border lie zeros
    assert inner.std(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 8, abs=0.05)
    assert y.std(dim=(1, 2, 3)).max() > 2


def test_the_filter_keeps_a_constant_and_the_enlarging_one_is_linear_interpolation() -> None:
    flat = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Blur(2, padding=0)(flat), torch.ones(1, 2, 5, 5))
    x = torch.randn(1, 2, 6, 6)
    spread = torch.zeros(1, 2, 12, 12)
    spread[..., ::2, ::2] = x
    found = Blur(2, gain=4.0, padding=2)(spread)[..., 1:11, 1:11]
    expected = F.interpolate(x, scale_factor=2.0, mode="bilinear")[..., 1:-1, 1:-1]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 8, 16), (1, 8, 8, 16)])
def test_any_size_that_halves_down_to_four_has_a_generator_and_a_critic(shape: tuple[int, ...]) -> None:
    made = StyleGenerator(shape, 6, channels=4, max_channels=8, mapping_layers=1)(torch.randn(2, 6))
    assert made.shape == (2, *shape)
    assert ResidualCritic(shape, channels=4, max_channels=8)(made).shape == (2, 1)


def test_channels_double_with_each_halving_up_to_the_most() -> None:
    synthesis = Synthesis((1, 32, 32), 6, 4, 12)
    assert [convolution.weight.shape[1] for convolution in synthesis.to_images] == [12, 12, 8, 4]


def test_group_deviation_is_nothing_among_equals_and_the_spread_otherwise() -> None:
    same = torch.full((4, 2, 4, 4), 3.0)
    assert group_deviation(same, 4).max() < 1e-3
    pair = torch.stack([torch.zeros(2, 4, 4), torch.full((2, 4, 4), 2.0)])
    torch.testing.assert_close(group_deviation(pair, 4), torch.ones(2, 1, 4, 4))
    assert group_deviation(torch.randn(6, 2, 4, 4), 4).shape == (6, 1, 4, 4)  # groups of three


def test_truncation_0_is_the_mean_style_s_image_and_1_leaves_styles_alone() -> None:
    recipe = make()
    recipe.ema.module.style_mean.copy_(torch.randn(6))
    sampler = recipe.sampler()
    with torch.no_grad():
        made = sampler(sampler.latents(3), truncation=0.0)
        mean = recipe.ema.module.style_mean.expand(1, recipe.G.synthesis.num_styles, -1)
        torch.testing.assert_close(
            made, recipe.ema.module.synthesis(mean, "constant").clamp(-1, 1).expand(3, 1, 16, 16)
        )
        latents = torch.randn(2, 6)
        half = recipe.G.styles(latents, truncation=0.5)
        between = (recipe.G.styles(latents) + recipe.G.style_mean) / 2
    torch.testing.assert_close(half, between)


def test_images_come_in_range_and_noise_is_fresh_in_training_alone() -> None:
    recipe = make()
    for layer in recipe.ema.module.synthesis.convs:
        layer.strength.fill_(1.0)
    sampler = recipe.sampler()
    latents = sampler.latents(2)
    with torch.no_grad():
        assert torch.equal(sampler(latents), sampler(latents))
        assert sampler(latents).abs().max() <= 1
        network = recipe.ema.train()
        assert not torch.equal(network(latents), network(latents))


def test_path_lengths_of_a_linear_generator_are_those_of_its_matrix() -> None:
    """Images A w: the slope is A^T y; with A = c on the diagonal, E|A^T y|^2 is c^2 times d / pixels."""
    torch.manual_seed(0)
    styles = torch.randn(4000, 1, 16, requires_grad=True)
    lengths = path_lengths((3.0 * styles).view(4000, 1, 4, 4), styles)
    assert lengths.shape == (4000,)
    assert lengths.square().mean().item() == pytest.approx(9.0, rel=0.05)


def test_styles_are_mixed_from_a_layer_on_as_often_as_asked() -> None:
    recipe = make(style_mixing=0.5)
    styles, _ = recipe._styles(400, torch.device("cpu"), None)
    changed = (styles.diff(dim=1).abs().amax(dim=2) > 0).sum(dim=1)
    assert set(changed.tolist()) == {0, 1}
    assert changed.float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert make(style_mixing=0.0)._styles(9, torch.device("cpu"), None)[0].diff(dim=1).abs().max() == 0


def test_regularisers_come_at_their_steps_and_the_count_survives_a_restart() -> None:
    recipe = make(r1_every=3, path_every=2)
    seen = []
    for step in range(4):
        seen.append(set(recipe.training_step({"A": images(step)}, 0.0)) - {"G/game", "D/game"})
    assert seen == [{"G/path", "D/r1"}, set(), {"G/path"}, {"D/r1"}]
    again = make(r1_every=3, path_every=2)
    again.load_state(recipe.state())
    assert "G/path" in again.training_step({"A": images()}, 0.0)
    assert "D/r1" not in make(lambda_r1=0.0).training_step({"A": images()}, 0.0)


def test_lazy_regularisation_keeps_adam_s_pace() -> None:
    recipe = make(lr=1.7e-3, r1_every=16, lambda_path=0.0)
    assert recipe.optimizers["D"].param_groups[0]["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))
    assert recipe.optimizers["G"].param_groups[0]["lr"] == 1.7e-3


def test_p_rises_while_d_is_too_sure_of_reals_falls_otherwise_and_stays_a_probability() -> None:
    adaptive = AdaptiveAugmentation(0.6, ramp_images=100, interval=2)
    for expected in (0.4, 0.8, 1.0, 1.0):
        for _ in range(2):
            adaptive.see(torch.ones(20))
        adaptive.adjust(40)
        assert adaptive.p.item() == pytest.approx(expected)
        assert adaptive.certainty.item() == 0
    for expected in (0.6, 0.2, 0.0, 0.0):
        adaptive.see(torch.tensor([1.0, -1.0]))
        adaptive.adjust(40)
        assert adaptive.p.item() == pytest.approx(expected, abs=1e-6)


def test_without_a_target_nothing_is_augmented() -> None:
    recipe = make(augment_target=0.0)
    for step in range(8):
        recipe.training_step({"A": images(step)}, 0.0)
    assert recipe.augment.p == 0
    assert recipe.augment(images()) is not None
    assert torch.equal(recipe.augment(images()), images())


@pytest.mark.parametrize("dims", [2, 3])
def test_at_probability_0_images_stay_and_at_1_each_changes_its_own_way(dims: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, *(8,) * dims).expand(3, 1, *(8,) * dims)
    torch.testing.assert_close(augment(image, 0.0), image)
    changed = augment(image, 1.0)
    assert changed.shape == image.shape
    assert not torch.allclose(changed[0], changed[1])


def test_augmentation_passes_gradients_and_moves_a_body_without_losing_it() -> None:
    torch.manual_seed(0)
    blob = torch.zeros(64, 1, 32, 32)
    blob[..., 12:20, 12:20] = 1.0
    blob.requires_grad_()
    moved = augment(blob, 0.5)
    moved.sum().backward()
    assert torch.isfinite(blob.grad).all()
    assert (blob.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert (moved.amax(dim=(1, 2, 3)) - moved.amin(dim=(1, 2, 3)) > 0.2).all()


def test_the_average_forgets_its_start() -> None:
    """After n updates its half-life is a twentieth of n, far below that of its decay."""
    recipe = make(ema_decay=0.9999, ema_warm_up=0.05)
    with torch.no_grad():
        for _ in range(40):
            for parameter in recipe.G.parameters():
                parameter.fill_(1.0)
            recipe.ema.update_parameters(recipe.G)
    assert all(torch.allclose(p, torch.ones(())) for p in recipe.ema.module.parameters())
    slow = make(ema_decay=0.9999, ema_warm_up=0.0)
    before = slow.G.synthesis.start.detach().clone()
    slow.ema.update_parameters(slow.G)
    with torch.no_grad():
        slow.G.synthesis.start.fill_(9.0)
    slow.ema.update_parameters(slow.G)
    torch.testing.assert_close(slow.ema.module.synthesis.start, before.lerp(torch.full_like(before, 9.0), 1e-4))


def test_a_class_changes_the_image_and_the_logit() -> None:
    recipe = make(num_classes=3)
    sampler = recipe.sampler()
    latents = sampler.latents(1).expand(2, -1)
    with torch.no_grad():
        made = sampler(latents, torch.tensor([0, 2]))
        assert not torch.allclose(made[0], made[1])
        logits = recipe.D(made[:1].expand(2, -1, -1, -1), torch.tensor([0, 2]))
    assert logits[0] != logits[1]
    assert math.isfinite(recipe.training_step({"A": images(), "class_A": torch.arange(4) % 3}, 0.0)["G/game"].item())
