"""Slices translated, scored against the same slices of the same bodies."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan.config import Component
from medgan.data.phantom_slices import CT_WINDOW, PhantomSlices
from medgan.recipes import ConditionalCycleGAN, Pix2Pix, Recipe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gan2d_scores import score_translation

SOURCE = PhantomSlices(size=16, A="mr", B="ct", bodies=3, held_out_bodies=2, slices=4)
NETS: dict[str, Any] = {
    "spatial_dims": 2,
    "generator_net": Component(name="unet", channels=8, levels=1),
    "discriminator_net": Component(name="patchgan", channels=8, layers=1),
}


class Soft(nn.Module):
    """Every pixel of the body as 50 HU."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.where(image > -1, CT_WINDOW.normalize(torch.tensor(50.0)), -1.0)


def using(network: nn.Module) -> Recipe:
    recipe = Pix2Pix(direction="AB", **NETS)
    recipe.translator = lambda direction: network if direction == "AB" else None  # type: ignore[method-assign]
    return recipe


def test_one_value_everywhere_is_worth_one_value_everywhere() -> None:
    score = score_translation(using(Soft()), SOURCE, count=16)
    assert score.contrast == "ct"
    assert score.mae == pytest.approx(score.one_value, rel=0.15)
    assert score.lookup < score.one_value
    assert score.by_tissue["cortical bone"] > 300 > score.by_tissue["muscle"]
    assert score.outside == 0


def test_painting_outside_the_body_is_seen() -> None:
    assert score_translation(using(nn.Identity()), SOURCE, count=4).outside == 0
    painted = score_translation(using(nn.Hardtanh(-0.5, 1.0)), SOURCE, count=4)
    assert painted.outside == pytest.approx(0.5)


def test_each_contrast_of_several_is_scored_in_its_own_units() -> None:
    source = PhantomSlices(size=16, A="mr", B=("ct", "t2"), bodies=3, held_out_bodies=2, slices=4)
    recipe = ConditionalCycleGAN(num_classes=2, **NETS)
    found = [score_translation(recipe, source, kind=kind, count=6) for kind in (0, 1)]
    assert [score.contrast for score in found] == ["ct", "t2"]
    assert found[0].one_value != pytest.approx(found[1].one_value, rel=0.01)
    assert score_translation(recipe, source, direction="BA", kind=0, count=6).contrast == "mr"


def test_a_direction_that_was_not_learnt_is_refused() -> None:
    with pytest.raises(ValueError, match="BA"):
        score_translation(using(Soft()), SOURCE, direction="BA")
