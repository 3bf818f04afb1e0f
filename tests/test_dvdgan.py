"""DVD-GAN: what its memory remembers, what each critic sees, what it makes."""

from typing import Any

import pytest
import torch

from medgan.config import Component, InputError
from medgan.networks.temporal import ConvGRU, FilmGenerator, Grain, LatentNorm, Rhythms, SpectralCritic
from medgan.recipes.dvdgan import DVDGAN


def make(**options: Any) -> DVDGAN:
    torch.manual_seed(0)
    critic = Component(name="spectral", channels=4, max_channels=4)
    small = {
        "image_shape": (1, 4, 8, 8),
        "latent_dim": 6,
        "generator_net": Component(name="films", channels=4, max_channels=4),
        "spatial_net": critic,
        "temporal_net": critic,
        "judged_frames": 2,
    }
    return DVDGAN(**small | options)


def films(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_memory_of_one_pixel_is_the_gated_unit_that_one_writes_down() -> None:
    torch.manual_seed(0)
    memory = ConvGRU(1, settle=2)
    centre = {name: p[..., 1, 1].flatten() if p.ndim == 4 else p for name, p in memory.state_dict().items()}
    x = torch.randn(1, 3, 1, 1, 1)
    state = (centre["of_input.weight"] * x[0, 0, 0, 0, 0] + centre["of_input.bias"])[2].relu()
    for step, t in enumerate([0, 0, 0, 1, 2]):
        of_x = centre["of_input.weight"] * x[0, t, 0, 0, 0] + centre["of_input.bias"]
        of_state = centre["of_state.weight"] * state + centre["of_state.bias"]
        reset, keep = (of_x[:2] + of_state).sigmoid()
        candidate = (of_x[2] + centre["of_reset.weight"] * reset * state + centre["of_reset.bias"]).relu()
        state = (keep * state + (1 - keep) * candidate).squeeze()
        if step >= 2:
            assert memory(x)[0, t, 0, 0, 0].item() == pytest.approx(state.item(), abs=1e-6)


def test_a_settled_memory_of_a_still_input_starts_where_it_would_have_come_to() -> None:
    torch.manual_seed(0)
    still = torch.randn(1, 1, 2, 4, 4).expand(-1, 8, -1, -1, -1)
    memory = ConvGRU(2, settle=0)
    path = memory(still)
    memory.settle = 5
    torch.testing.assert_close(memory(still)[:, :3], path[:, 5:])


def test_a_film_s_rhythms_turn_at_their_own_speed_and_keep_their_size() -> None:
    torch.manual_seed(0)
    rhythms = Rhythms(6, 200, 3)
    latents = torch.randn(4, 6)
    codes = rhythms(latents)
    assert torch.equal(codes[..., :6], latents[:, None].expand(-1, 200, -1))
    pairs = torch.complex(codes[..., 6:9], codes[..., 9:])
    torch.testing.assert_close(pairs.abs(), pairs[:, :1].abs().expand(-1, 200, -1))
    turned = (pairs[:, 1:] / pairs[:, :-1]).angle()
    torch.testing.assert_close(turned, turned[:, :1].expand(-1, 199, -1), rtol=1e-3, atol=1e-3)
    assert (turned[:, 0] / rhythms.turns - 1).abs().max() < 0.25
    assert (turned[0, 0] - turned[1, 0]).abs().min() > 0


def test_grain_is_fresh_in_training_and_fixed_after_it_and_every_frame_has_its_own() -> None:
    torch.manual_seed(0)
    grain = Grain(2, 4, (8, 8))
    x = torch.zeros(3, 4, 2, 8, 8)
    assert torch.equal(grain(x), x)
    torch.nn.init.constant_(grain.strength, 0.5)
    first, second = grain(x), grain(x)
    assert first.std().item() == pytest.approx(0.5, rel=0.1)
    assert not torch.equal(first, second)
    grain.eval()
    still = grain(x)
    assert torch.equal(still, grain(x))
    assert torch.equal(still[0], still[2])
    assert (still.diff(dim=1) != 0).all()


def test_only_with_grain_are_two_films_of_one_latent_different_in_training() -> None:
    def apart(**options: bool) -> float:
        torch.manual_seed(0)
        generator = FilmGenerator((1, 4, 16, 16), 6, channels=4, max_channels=8, **options)
        for name, parameter in generator.named_parameters():
            if name.endswith("strength"):
                torch.nn.init.ones_(parameter)
        latents = torch.randn(2, 6)
        return float((generator(latents) - generator(latents)).abs().max().detach())

    assert apart() < 1e-6
    assert apart(grain=True) > 1e-3


def test_without_rhythms_every_frame_has_the_film_s_latent() -> None:
    made = FilmGenerator((1, 4, 16, 16), 6, channels=4, max_channels=8, rhythms=0)
    assert made.rhythms is None
    assert made(torch.randn(3, 6)).shape == (3, 1, 4, 16, 16)


def test_a_memory_sees_the_past_and_not_the_future() -> None:
    memory = ConvGRU(2)
    x = torch.randn(1, 5, 2, 4, 4)
    changed = x.clone()
    changed[:, 3] += 1
    before, after = memory(x), memory(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])
    assert not torch.equal(before[:, 4], after[:, 4])


def test_a_norm_s_scale_and_shift_are_the_film_s_own() -> None:
    torch.manual_seed(0)
    norm = LatentNorm(3, 2)
    torch.nn.init.zeros_(norm.scale.weight)
    torch.nn.init.zeros_(norm.scale.bias)
    torch.nn.init.zeros_(norm.shift.bias)
    torch.nn.init.ones_(norm.shift.weight)
    x = 5 + 3 * torch.randn(2, 4, 3, 8, 8)
    y = norm(x, torch.tensor([[1.0, 1.0], [0.0, 0.0]])[:, None].expand(-1, 4, -1))
    gap = norm.norm(x.flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(y[0], gap[0] + 2, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(y[1], gap[1], rtol=1e-3, atol=1e-3)


def test_frames_of_an_untrained_film_differ() -> None:
    torch.manual_seed(0)
    made = FilmGenerator((1, 4, 16, 16), 6, channels=4, max_channels=8, grain=True)(torch.randn(3, 6))
    assert made.shape == (3, 1, 4, 16, 16)
    assert made.abs().max() <= 1
    assert (made.diff(dim=2).abs().amax(dim=(1, 3, 4)) > 0).all()


def test_the_spatial_critic_sees_k_whole_frames_of_each_film_and_no_frame_twice() -> None:
    recipe = make(judged_frames=3)
    frames = torch.arange(4.0)[:, None, None].expand(5, 1, 4, 8, 8)
    seen: list[torch.Tensor] = []
    recipe.D_S.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    assert recipe._spatial(frames, None).shape == (5, 1)
    assert seen[0].shape == (15, 1, 8, 8)
    for numbers in seen[0][:, 0, 0, 0].view(5, 3).tolist():
        assert len(set(numbers)) == 3


def test_a_film_s_spatial_logit_is_the_sum_of_its_frames() -> None:
    recipe = make(judged_frames=4).eval()
    film = films(1)
    with torch.no_grad():
        alone = recipe.D_S(film[0].transpose(0, 1)).sum()
        torch.testing.assert_close(recipe._spatial(film, None)[0, 0], alone)


def test_the_temporal_critic_sees_every_frame_at_half_the_resolution() -> None:
    recipe = make()
    film = films()
    seen: list[torch.Tensor] = []
    recipe.D_T.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    recipe._temporal(film, None)
    assert seen[0].shape == (4, 1, 4, 4, 4)
    assert seen[0][0, 0, 2, 1, 3].item() == pytest.approx(film[0, 0, 2, 2:4, 6:8].mean().item())


def test_order_in_time_moves_the_temporal_critic_alone() -> None:
    recipe = make(judged_frames=4).eval()
    film = films()
    shuffled = film[:, :, [2, 0, 3, 1]]
    with torch.no_grad():
        torch.testing.assert_close(recipe._spatial(film, None), recipe._spatial(shuffled, None))
        assert (recipe._temporal(film, None) - recipe._temporal(shuffled, None)).abs().min() > 1e-6


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 8, 16, 16), (2, 6, 8, 8)])
def test_every_weight_of_a_critic_is_spectrally_normalised(shape: tuple[int, ...]) -> None:
    critic = SpectralCritic(shape, channels=4, max_channels=8)
    for _ in range(30):
        logits = critic(torch.randn(2, *shape))
    assert logits.shape == (2, 1)
    weights = [m.weight for m in critic.modules() if isinstance(getattr(m, "weight", None), torch.Tensor)]
    assert len(weights) > 6
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.detach().flatten(1), 2) < 1.1


def test_gradients_of_a_temporal_critic_in_bf16_are_those_in_float32() -> None:
    torch.manual_seed(0)
    critic, film = SpectralCritic((1, 8, 16, 16), channels=16, max_channels=16).eval(), torch.rand(4, 1, 8, 16, 16)
    found = []
    for enabled in (False, True):
        critic.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            critic(film).mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in critic.parameters()]))
    assert (found[0] - found[1]).norm() < 0.05 * found[0].norm()


def test_each_critic_step_meets_reals_of_its_own() -> None:
    recipe = make(critic_steps=2)
    seen: list[torch.Tensor] = []
    recipe.D_T.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    recipe.training_step({"A": films()}, 0.0)
    assert [len(given) for given in seen] == [2, 2, 2, 2, 2]  # real, fake; real, fake; G's
    assert not torch.equal(seen[0], seen[2])


def test_samples_are_films_and_are_shown_frame_by_frame() -> None:
    recipe = make()
    sampler = recipe.sampler()
    with torch.no_grad():
        assert sampler(sampler.latents(3)).shape == (3, 1, 4, 8, 8)
    shown = recipe.preview({"A": films(2)})
    assert list(shown) == [f"{whose}, frame {t}" for whose in ("real", "fake") for t in (1, 2, 3, 4)]
    assert torch.equal(shown["real, frame 3"], films(2)[:, :, 2])


def test_a_class_is_heeded() -> None:
    recipe = make(num_classes=2)
    sampler = recipe.sampler()
    with torch.no_grad():
        made = sampler(sampler.latents(1).expand(2, -1), torch.tensor([0, 1]))
    assert not torch.allclose(made[0], made[1])
    losses = recipe.training_step({"A": films(), "class_A": torch.arange(4) % 2}, 0.0)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_still_images_are_refused() -> None:
    with pytest.raises(InputError, match="films"):
        make(image_shape=(1, 8, 8))
    with pytest.raises(InputError, match="3 frames"):
        make(image_shape=(1, 2, 8, 8))
