"""The segmentor that learns from real images alone."""

import copy

import pytest
import torch

from medgan.config import Component
from medgan.recipes.segmentation import Segmentation


def make(spatial_dims: int = 2) -> Segmentation:
    torch.manual_seed(0)
    net = Component(name="segresnet", channels=8, levels=1)
    return Segmentation(num_classes=3, spatial_dims=spatial_dims, segmentor_net=net, ema_decay=0.5)  # type: ignore[arg-type]


def bright_and_dark(spatial_dims: int = 2) -> dict[str, torch.Tensor]:
    """Class 0 is black, 1 grey, 2 white."""
    label = torch.randint(0, 3, (2, 1, *(8,) * spatial_dims), generator=torch.Generator().manual_seed(1))
    return {"A": label - 1.0, "label_A": label}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_it_learns_to_tell_black_from_grey_from_white(spatial_dims: int) -> None:
    recipe, batch = make(spatial_dims), bright_and_dark(spatial_dims)
    recipe.optimizers["S"].param_groups[0]["lr"] = 1e-2
    before = recipe.validation_step(batch)["score"]
    for _ in range(60):
        recipe.training_step(batch, 0.5)
    assert recipe.validation_step(batch)["score"] > 0.3 * before > before
    network = recipe.segmentor("A")
    assert network is not None
    assert (network(batch["A"]).argmax(1, keepdim=True) == batch["label_A"]).float().mean() > 0.9


def test_a_batch_without_labels_teaches_nothing() -> None:
    recipe = make()
    before = copy.deepcopy(recipe.S.state_dict())
    assert recipe.training_step({"A": bright_and_dark()["A"]}, 0.5)["S/real"] == 0
    assert all(torch.equal(value, before[key]) for key, value in recipe.S.state_dict().items())


def test_it_translates_nothing_and_reads_domain_a_only() -> None:
    recipe = make()
    assert recipe.translator("AB") is None
    assert recipe.segmentor("B") is None


def test_a_preview_shows_image_reading_and_label_on_one_scale() -> None:
    shown = make().preview(bright_and_dark())
    assert list(shown) == ["real_A", "S(real_A)", "label_A"]
    assert torch.equal(shown["label_A"], shown["real_A"])
    assert all(image.abs().max() <= 1 for image in shown.values())
