"""What recipes that learn a distribution have in common: their options, their batches, their samples."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from medgan.config import InputError
from medgan.recipes.parts import LatentSampler, Prior, energy_distance
from medgan.recipes.recipe import Batch, Losses, Pairing, Recipe, Sampler

ImageShape = Annotated[
    tuple[int, ...], Field(min_length=1, description="(C, *S) of images, (2,) of points; the data fill it in")
]
LatentDim = Annotated[int, Field(gt=0, description="numbers of a latent")]
LatentPrior = Annotated[
    Prior,
    Field(description="of latents: normal; spherical (normal, moved onto the sphere of radius sqrt(d)); uniform"),
]
EmaDecay = Annotated[float, Field(ge=0, lt=1, description="of the averaged generator, per step; 0: no average")]
DecayStart = Annotated[
    float,
    Field(ge=0, le=1, description="when learning rates begin to fall linearly to 0, share of the training; 1: never"),
]


class Synthesis(Recipe):
    """What recipes that make samples out of latents, without classes, have in common around their training steps.

    Attributes:
        ema: the averaged generator.
        latent_dim: numbers of a latent.
        prior: that latents are drawn from.
        lr_decay_start: when learning rates begin to fall, share of the training.
    """

    pairing: ClassVar[Pairing] = "single"
    ema: AveragedModel
    latent_dim: int
    prior: Prior
    lr_decay_start: float

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """How far samples are from held-out reals."""
        distance = energy_distance(like(self.sampler(), batch), batch["A"])
        return {"energy_distance": distance, "score": -distance}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Reals beside samples from latents that stay the same; nothing where samples are points."""
        return {"real": batch["A"], "fake": like(self.sampler(), batch)} if batch["A"].ndim > 2 else {}

    def sampler(self) -> LatentSampler:
        """The averaged generator."""
        return LatentSampler(self.ema, self.latent_dim, self.prior)

    def lr_factor(self, progress: float) -> float:
        """Constant, unless asked to fall."""
        return falling(progress, self.lr_decay_start)


@torch.no_grad()
def like(sampler: Sampler, batch: Batch) -> Tensor:
    """As many samples as the batch has reals, of the same classes, from latents that are the same at every call."""
    latents = sampler.latents(len(batch["A"]), torch.Generator().manual_seed(0))
    return cast(Tensor, sampler(latents, batch.get("class_A") if sampler.num_classes else None))


def split_batch(real: Tensor, parts: int, packing: int = 1) -> tuple[Tensor, ...]:
    """A batch in equal parts, one for each critic step, each a multiple of what a critic sees at once.

    Raises:
        InputError: it does not divide.
    """
    if len(real) % (parts * packing):
        raise InputError(
            f"train.batch_size: {len(real)} samples do not split into {parts} critic steps of packs of {packing}; "
            f"make it a multiple of {parts * packing}"
        )
    return real.chunk(parts)


def falling(progress: float, start: float) -> float:
    """1 until `start`, then linear to 0 at the end; both as shares of the training."""
    return min(1.0, (1.0 - progress) / (1.0 - start)) if start < 1.0 else 1.0
