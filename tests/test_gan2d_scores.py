"""The numbers of the study in two dimensions: samplers and enlargers of known worth."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.config import Component
from medgan.data.digits import Digits
from medgan.data.phantom_slices import PhantomSlices
from medgan.recipes.recipe import Sampler
from medgan.recipes.srgan import SRGAN

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gan2d_features import slice_features
from gan2d_scores import score_digits, score_super_resolution


class Known(Sampler):
    """Digits of the train split: latents choose among those of the class, or the class is ignored, or always one."""

    latent_dim = 1

    def __init__(self, digits: Digits, kind: str) -> None:
        super().__init__()
        self.images, self.classes = (value[digits.items["train"]] for value in (digits.images, digits.classes))
        self.kind, self.num_classes = kind, 0 if kind == "unconditional" else 10

    def latents(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.rand(count, 1, generator=generator)

    def forward(
        self, latents: torch.Tensor, classes: torch.Tensor | None = None, truncation: float = 1.0
    ) -> torch.Tensor:
        if classes is None:
            return self.images[(latents[:, 0] * len(self.images)).long()]
        made = []
        for latent, wanted in zip(latents[:, 0], classes, strict=True):
            mine = self.images[self.classes == (wanted + (self.kind == "wrong")) % 10]
            made.append(mine[0 if self.kind == "collapsed" else int(latent * len(mine))])
        return torch.stack(made)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def test_real_digits_are_read_as_asked_and_cannot_be_told_from_reals(digits: Digits) -> None:
    score = score_digits(Known(digits, "right"), digits, per_class=20)
    assert score.asked == 1.0
    assert len(score.asked_by_class) == 10
    assert score.judge > 0.97
    for test in (score.apart, score.floor):
        assert test.low <= test.accuracy <= test.high
    assert score.spread.recall > 0.8
    assert score.spread_floor.recall > 0.8


def test_digits_of_the_next_class_are_none_that_was_asked_for(digits: Digits) -> None:
    assert score_digits(Known(digits, "wrong"), digits, per_class=20).asked == 0.0


def test_one_digit_for_each_class_is_right_but_has_no_spread(digits: Digits) -> None:
    score = score_digits(Known(digits, "collapsed"), digits, per_class=20)
    assert score.asked == 1.0
    assert score.apart.accuracy > 0.9
    assert score.spread.recall < 0.1


def test_a_sampler_without_classes_is_not_asked_for_any(digits: Digits) -> None:
    score = score_digits(Known(digits, "unconditional"), digits, per_class=20)
    assert score.asked is None
    assert score.asked_by_class == ()
    assert score.apart.low <= score.apart.accuracy <= score.apart.high


def test_an_enlarger_that_knows_the_truth_beats_the_others_and_is_as_far_from_reals_as_reals_are() -> None:
    source = PhantomSlices(size=32, bodies=4, held_out_bodies=4, slices=8)
    truth = source.draw(np.random.default_rng(0), 16, "test", "single")["A"]
    recipe = SRGAN(
        image_shape=source.image_shape,
        enlarger_net=Component(name="srresnet", features=4, blocks=1),
        critic_net=Component(name="srgan", features=4, levels=1, hidden=4),
    )
    cubic = recipe.super_resolve
    recipe.super_resolve = lambda low, stage="srgan": (  # type: ignore[method-assign]
        (truth + 0.02).clamp(-1, 1) if stage == "srgan" else cubic(low, stage)
    )
    features = slice_features(source, steps=5)
    found = score_super_resolution(recipe, source, features, count=16)
    assert list(found) == ["nearest", "cubic", "srresnet", "srgan", "real"]
    assert found["srgan"].psnr == pytest.approx(40.0, abs=0.5)  # 20 log10(2 / 0.02)
    assert found["nearest"].psnr < found["cubic"].psnr < found["srgan"].psnr
    assert found["nearest"].ssim < found["cubic"].ssim < found["srgan"].ssim
    assert found["srgan"].distance.mean < found["cubic"].distance.mean
    assert abs(found["srgan"].distance.mean - found["real"].distance.mean) < 0.1 * found["cubic"].distance.mean
    assert found["real"].ssim == pytest.approx(1.0)


def test_features_of_slices_are_standard_on_reals_and_tell_blurred_from_sharp() -> None:
    source = PhantomSlices(size=32, bodies=4, held_out_bodies=2, slices=8)
    read = slice_features(source, steps=20)
    images = source.draw(np.random.default_rng(1), 64, "train", "single")["A"]
    found = read(images)
    assert found.shape == (64, 112)
    assert np.abs(found.mean(axis=0)).max() < 1.0
    blurred = read(torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False))
    assert np.abs(blurred.mean(axis=0) - found.mean(axis=0)).max() > 0.3
