"""CUT: what PatchNCE says on paper, what the generators' encoders show, and what is compared."""

import math

import pytest
import torch

from medgan.config import Component, InputError
from medgan.losses import patch_nce
from medgan.networks import ResNetGenerator, UNetGenerator
from medgan.recipes import CUT


def make(spatial_dims: int = 2, **options) -> CUT:
    torch.manual_seed(0)
    options = {"generator_net": Component(name="unet", channels=8, levels=1)} | options
    net = Component(name="patchgan", channels=8, layers=1)
    return CUT(spatial_dims=spatial_dims, discriminator_net=net, **options)


def test_features_that_are_all_alike_cost_the_log_of_their_number() -> None:
    same = torch.ones(2, 5, 3)
    assert patch_nce(same, same).item() == pytest.approx(math.log(5))


def test_orthogonal_features_at_their_own_place_cost_next_to_nothing_and_elsewhere_one_over_temperature() -> None:
    features = torch.eye(4)[None] * 7.0  # length does not matter
    own = math.log(1 + 3 * math.exp(-1 / 0.5))
    assert patch_nce(features, features, 0.5).item() == pytest.approx(own)
    assert patch_nce(features, features.roll(1, dims=1), 0.5).item() == pytest.approx(own + 1 / 0.5)


def test_keys_take_no_gradient() -> None:
    queries, keys = torch.rand(1, 4, 3, requires_grad=True), torch.rand(1, 4, 3, requires_grad=True)
    patch_nce(queries, keys).backward()
    assert queries.grad is not None
    assert keys.grad is None


def test_places_of_other_images_are_no_negatives() -> None:
    features = torch.eye(3)[None]
    assert patch_nce(features.repeat(2, 1, 1), features.repeat(2, 1, 1)) == pytest.approx(patch_nce(features, features))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("kind", [UNetGenerator, ResNetGenerator])
def test_encoders_show_the_maps_that_they_promise(kind, spatial_dims) -> None:
    network = kind(spatial_dims, 1, 1, channels=8, levels=2)
    image = torch.rand(1, 1, *(10,) * spatial_dims)
    maps = network.encode(image)
    assert [m.shape[1] for m in maps] == list(network.encoder_channels)
    assert maps[0].shape[2:] == (12,) * spatial_dims  # padded to a multiple of 4
    assert maps[-1].shape[2:] == (3,) * spatial_dims
    assert len(maps) == (4 if kind is UNetGenerator else 5)  # the paper compares five


def test_a_translation_equal_to_its_source_is_cheaper_than_a_shuffled_one() -> None:
    recipe = make()
    image = torch.rand(1, 1, 16, 16) * 2 - 1
    shuffled = image.flatten(2)[..., torch.randperm(256)].reshape(image.shape)
    assert recipe.contrast(image, image, recipe.G) < recipe.contrast(image, shuffled, recipe.G)


def test_the_image_itself_need_not_be_compared() -> None:
    image = torch.rand(1, 1, 16, 16)
    whole, deep = make(places=2**10), make(places=2**10, first_map=2)
    assert len(whole.heads) == 3
    assert len(deep.heads) == 1
    assert deep.heads[0][0].in_features == 16  # the coarsest map of the two levels
    assert torch.isfinite(deep.contrast(image, image, deep.G))


def test_places_are_all_different_and_in_the_body_while_it_has_any() -> None:
    recipe = make(places=40)
    body = torch.zeros(2, 1, 16, 16)
    body[:, :, :8, :8] = 1
    where = recipe._draw(body, torch.zeros(2, 3, 16, 16))
    assert where.shape == (2, 40)
    assert all(len(set(row.tolist())) == 40 for row in where)
    assert body.flatten(1).gather(1, where).bool().all()
    assert recipe._draw(body, torch.zeros(2, 3, 4, 4)).tolist() == [list(range(16))] * 2


@pytest.mark.parametrize("direction", ["AB", "BA"])
def test_it_translates_in_its_one_direction(direction) -> None:
    recipe = make(direction=direction, lambda_identity=0.0)
    images = {"A": torch.rand(1, 1, 8, 8), "B": torch.rand(1, 1, 8, 8)}
    assert set(recipe.training_step(images, 0.0)) == {"D/real", "G/adv", "G/nce"}
    network = recipe.translator(direction)
    assert network is not None
    assert network(images[direction[0]]).shape == (1, 1, 8, 8)
    assert recipe.translator("BA" if direction == "AB" else "AB") is None


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="channels_B"):
        make(channels_A=2)
    with pytest.raises(InputError, match="first_map"):
        make(first_map=3)
    with pytest.raises(InputError, match="encode"):
        make(generator_net=Component(name="medgan.networks.UNetSegmentor", channels=8))
