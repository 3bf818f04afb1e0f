"""How good the recipes on small images are: digits asked for, images enlarged, slices translated.

The page of the two-dimensional study calls these; each states what is compared with what, and puts the distance of two
real sets beside every distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from gan2d_features import Features
from numpy.typing import NDArray
from torch import Tensor

from medgan.data.cases import Split
from medgan.data.digits import Digits
from medgan.data.phantom import TISSUES
from medgan.data.phantom_slices import RANGES, Contrast, PhantomSlices
from medgan.data.source import Source
from medgan.metrics.distribution import (
    Kid,
    PrecisionRecall,
    TwoSample,
    kid,
    precision_recall,
    two_sample_test,
)
from medgan.metrics.image import mae, psnr, ssim
from medgan.metrics.lookup import LookupTable
from medgan.networks.resize import enlarged
from medgan.recipes import ConditionalCycleGAN, Direction, Recipe, Sampler
from medgan.recipes.srgan import SRGAN
from medgan.sample import draw

_RANGE = 2.0  # highest minus lowest value of images in [-1, 1]


class DigitsScore(NamedTuple):
    """What a sampler of digits is worth.

    Attributes:
        asked: share of samples that the judge reads as the class asked for; None without classes.
        asked_by_class: the same for each class.
        judge: share of held-out real digits that the judge reads right: more cannot be asked of samples.
        apart: nearest-neighbour two-sample test of samples against held-out reals.
        floor: the same test of reals that were learnt from against held-out reals.
        spread: precision and recall of samples against held-out reals.
        spread_floor: the same of reals that were learnt from.
    """

    asked: float | None
    asked_by_class: tuple[float, ...]
    judge: float
    apart: TwoSample
    floor: TwoSample
    spread: PrecisionRecall
    spread_floor: PrecisionRecall


def score_digits(sampler: Sampler, digits: Digits, *, per_class: int = 100, seed: int = 0) -> DigitsScore:
    """Samples of every class against the digits' test split; the judge is a support vector machine of the train split.

    The judge has seen no generated image. Two-sample tests and precision and recall see as many samples as there are
    digits in the test split, of the same classes, and, for the floor, as many digits of the train split.
    """
    from sklearn.svm import SVC

    rng = np.random.default_rng(seed)
    known, held = (digits.draw(rng, len(digits.items[split]), split, "single") for split in ("train", "test"))
    judge = SVC(gamma="scale", C=10.0).fit(_flat(known["A"]), known["class_A"].numpy())
    held_images = _flat(held["A"])
    asked: tuple[float, ...] = ()
    if sampler.num_classes:
        wanted = torch.arange(sampler.num_classes).repeat_interleave(per_class)
        read = judge.predict(_flat(draw(sampler, len(wanted), classes=wanted, seed=seed)))
        hit = (read == wanted.numpy()).reshape(sampler.num_classes, per_class)
        asked = tuple(float(share) for share in hit.mean(axis=1))
    classes = held["class_A"] if sampler.num_classes else None
    fake = _flat(draw(sampler, len(held_images), classes=classes, seed=seed + 1))
    real = _flat(known["A"])[: len(held_images)]
    return DigitsScore(
        asked=float(np.mean(asked)) if asked else None,
        asked_by_class=asked,
        judge=float((judge.predict(held_images) == held["class_A"].numpy()).mean()),
        apart=two_sample_test(held_images, fake, seed=seed),
        floor=two_sample_test(held_images, real, seed=seed),
        spread=precision_recall(held_images, fake),
        spread_floor=precision_recall(held_images, real),
    )


class Enlargement(NamedTuple):
    """One way to enlarge, over held-out images.

    Attributes:
        psnr: mean over images, dB, for a range of 2.
        ssim: mean over images.
        distance: KID of the enlarged images from other real ones.
    """

    psnr: float
    ssim: float
    distance: Kid


def score_super_resolution(
    recipe: SRGAN, source: Source, features: Features, *, count: int = 256, seed: int = 0
) -> dict[str, Enlargement]:
    """Nearest voxel, cubic, SRResNet and SRGAN on images of the test split, by name; and "real", the floor of KID.

    KID compares with as many slices of the train split, of other bodies: being near one's own truth does not count, and
    "real" tells how far held-out reals are from those. Its deviation is over 20 random halves.
    """
    rng = np.random.default_rng(seed)
    truth, others = (source.draw(rng, count, split, "single")["A"] for split in ("test", "train"))
    low = recipe.low_resolution(truth)
    coarse = low
    for axis in range(2, low.ndim):
        coarse = coarse.repeat_interleave(recipe.scale, axis)
    made = {
        "nearest": coarse,
        "cubic": enlarged(low, recipe.scale).clamp(-1.0, 1.0),
        "srresnet": recipe.super_resolve(low, "srresnet"),
        "srgan": recipe.super_resolve(low, "srgan"),
        "real": truth,
    }
    reals = features(others)
    distances = {
        name: kid(reals, features(images), subsets=20, subset_size=count // 2, seed=seed)
        for name, images in made.items()
    }
    return {name: _enlargement(images, truth, distances[name]) for name, images in made.items()}


def _enlargement(images: Tensor, truth: Tensor, distance: Kid) -> Enlargement:
    pairs = [(image[0], true[0]) for image, true in zip(images, truth, strict=True)]
    return Enlargement(
        psnr=float(np.mean([psnr(image, true, _RANGE) for image, true in pairs])),
        ssim=float(np.mean([ssim(image, true, _RANGE) for image, true in pairs])),
        distance=distance,
    )


class TranslationScore(NamedTuple):
    """What a translation of slices is worth against the same slices of the same held-out bodies.

    Attributes:
        contrast: of the target; errors are in its units, HU for "ct".
        mae: mean absolute error in the body.
        by_tissue: the same in each tissue.
        lookup: the error of a table from intensity to intensity, fitted on pairs of the training bodies.
        one_value: the error of one value everywhere, fitted likewise.
        outside: largest distance from background, exactly -1, outside the body, in [-1, 1].
    """

    contrast: Contrast
    mae: float
    by_tissue: dict[str, float]
    lookup: float
    one_value: float
    outside: float


@torch.no_grad()
def score_translation(
    recipe: Recipe,
    source: PhantomSlices,
    *,
    direction: Direction = "AB",
    kind: int = 0,
    count: int = 128,
    seed: int = 0,
) -> TranslationScore:
    """The translator of a recipe on `count` pairs of the test split.

    Tables are of 60 bins and of one, medians, over as many pairs of the training split: what no table can do needs
    context.

    Args:
        recipe: as trained on `source`, with or without its pairs.
        source: of two domains.
        direction: which must be one that the recipe has learnt.
        kind: number of the target's contrast, where the target has several.
        count: slices.
        seed: of which.

    Raises:
        ValueError: there is no such direction, or the target is labels or edges, which have no errors.
    """
    contrast = source.contrasts[direction[1]][kind]
    if isinstance(recipe, ConditionalCycleGAN):
        network = recipe.translator_to(kind, direction)
    else:
        network = recipe.translator(direction)  # type: ignore[assignment]
    if network is None or contrast not in RANGES:
        raise ValueError(f"no translation {direction} to {contrast} here; name another direction")
    known, held = (_pairs(source, split, direction, kind, count, seed) for split in ("train", "test"))
    units = RANGES[contrast].denormalize
    recipe.eval()
    fake = torch.cat([network(part).float() for part in torch.split(held[0], 32)])
    truth, body = units(held[1]), held[2] > 0

    def table(bins: int) -> float:
        pairs = [known[0].numpy()], [units(known[1]).numpy()], [known[2].numpy()]
        fitted = LookupTable.fit(*pairs, low=-1.0, high=1.0, bins=bins, statistic="median")
        return mae(fitted.apply(held[0].numpy()), truth.numpy(), body.numpy())

    tissues = {name: held[2] == label for label, name in TISSUES.items() if label}
    return TranslationScore(
        contrast=contrast,
        mae=mae(units(fake), truth, body),
        by_tissue={name: mae(units(fake), truth, mask) for name, mask in tissues.items() if mask.any()},
        lookup=table(60),
        one_value=table(1),
        outside=float((fake + 1).abs()[~body].max()),
    )


def _pairs(
    source: PhantomSlices, split: Split, direction: Direction, kind: int, count: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and label of `count` paired slices whose target is of one contrast."""
    rng, found = np.random.default_rng(seed), list[dict[str, Tensor]]()
    while sum(len(part["A"]) for part in found) < count:
        drawn = source.draw(rng, count, split, "paired")
        classes = drawn.get(f"class_{direction[1]}")
        mine = torch.arange(count) if classes is None else (classes == kind).nonzero().flatten()
        found.append({key: value[mine] for key, value in drawn.items()})
    images = {key: torch.cat([part[key] for part in found])[:count] for key in found[0]}
    return images[direction[0]], images[direction[1]], images["label_A"]


def _flat(images: Tensor) -> NDArray[np.float64]:
    return images.flatten(1).double().numpy()
