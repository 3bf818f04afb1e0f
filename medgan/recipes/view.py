"""What a critic is shown of the samples: noisy, augmented, packed; and their intensities in fine."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from medgan.config import InputError
from medgan.recipes.augmentation import Augmentation, augmented

Packing = Annotated[int, Field(gt=0, description="samples that the critic judges together (Lin 2018); 1: one by one")]
InstanceNoise = Annotated[
    float, Field(ge=0, description="noise on all that the critic sees, std at the start, falling to 0; 0: off")
]
Augmentations = Annotated[
    tuple[Augmentation, ...],
    Field(description="of all images that the critic sees: brightness, translation, cutout (Zhao 2020); none: off"),
]

Tones = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    Field(
        description="sines and cosines of so many periods over [-1, 1] that the discriminators see beside the image, "
        "each: differences that are small against the range; none: off"
    ),
]
TonesFrom = Annotated[
    float, Field(ge=0, le=0.8, description="share of the training from which tones come in; full a fifth later")
]
_RISE = 0.2  # share of the training in which tones come in


def tones_weight(begin: float, progress: float) -> float:
    """0 until `begin`, then linearly to 1."""
    return min(1.0, max(0.0, (progress - begin) / _RISE))


def toned(images: Tensor, tones: tuple[float, ...], weight: float = 1.0) -> Tensor:
    """Images ``(B, C, *S)`` in [-1, 1], and behind them their sines and cosines: ``(B, C * (1 + 2 * len(tones)), *S)``.

    Muscle and liver differ by a fortieth of a CT's range: a network that sees air and bone on the same scale is hardly
    moved by it. Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional
    Domains", 2020, Equation 1, of intensities in place of coordinates.
    """
    waves = [weight * wave(math.pi * tone * images) for tone in tones for wave in (torch.sin, torch.cos)]
    return torch.cat([images, *waves], dim=1) if waves else images


def pack(samples: Tensor, packing: int) -> Tensor:
    """Neighbours as one sample with more channels: ``(B, C, ...)`` to ``(B / packing, packing * C, ...)``.

    Lin et al., "PacGAN: The power of two samples in generative adversarial networks", 2018, section 2: a critic that
    judges several samples of one origin together sees that a generator always makes the same ones.
    """
    return samples.reshape(-1, packing * samples.shape[1], *samples.shape[2:])


def noisy(samples: Tensor, std: float, progress: float) -> Tensor:
    """Samples with normal noise whose std falls linearly to 0 over the training: two distributions then overlap.

    Sonderby et al., "Amortised MAP Inference for Image Super-resolution", 2017, section 3.3.
    """
    return samples + std * (1.0 - progress) * torch.randn_like(samples) if std else samples


class View:
    """Samples ``(B, C, ...)`` as the critic is to see them, reals and fakes alike.

    First instance noise (`noisy`), then augmentation, then packing.
    """

    def __init__(
        self, image_shape: tuple[int, ...], *, packing: int, noise: float = 0.0, augment: tuple[Augmentation, ...] = ()
    ) -> None:
        if augment and len(image_shape) < 3:
            raise InputError("recipe.augment: points cannot be augmented; leave it out")
        self.packing, self.noise, self.augment = packing, noise, augment
        self.shape = (packing * image_shape[0], *image_shape[1:])

    def __call__(self, samples: Tensor, progress: float) -> Tensor:
        return pack(augmented(noisy(samples, self.noise, progress), self.augment), self.packing)
