"""What a training looks at now and then: measures on held-out patients, pictures, how much samples differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from medgan.recipes import Direction, Recipe
from medgan.train.diagnostics import diversity

_WAYS: tuple[Direction, ...] = get_args(Direction)
_SHOWN = 8  # samples of a preview, at most
_DIVERSE = 64  # samples that are compared with as many real ones, at most


@torch.no_grad()
def measures(recipe: Recipe, batches: Iterable[Mapping[str, Tensor]], fabric: Fabric) -> dict[str, float]:
    """The means of `Recipe.validation_step` over batches that no player learns from."""
    recipe.eval()
    found: dict[str, list[float]] = {}
    for batch in batches:
        with fabric.autocast():
            step = recipe.validation_step(batch)
        for name, value in step.items():
            found.setdefault(name, []).append(value.item())
    return {name: float(np.mean(values)) for name, values in found.items()}


@torch.no_grad()
def pictures(recipe: Recipe, batch: Mapping[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """The recipe's preview of the batch's first samples."""
    recipe.eval()
    with fabric.autocast():
        return recipe.preview({key: value[:_SHOWN] for key, value in batch.items()})


@torch.no_grad()
def spread(recipe: Recipe, batch: Mapping[str, Tensor], fabric: Fabric) -> dict[str, float]:
    """How much samples, or translations, differ among themselves, as a share of how much real images do."""
    recipe.eval()
    sampler = recipe.sampler()
    ways = [way for way in _WAYS if "B" in batch and recipe.translator(way) is not None]
    if min(_DIVERSE, len(batch["A"])) < 4 or not (sampler or ways):
        return {}
    with fabric.autocast():
        if sampler:
            real = batch["A"][:_DIVERSE]
            classes = batch["class_A"][: len(real)] if sampler.num_classes else None
            fake = sampler(sampler.latents(len(real)).to(real.device), classes)
        else:
            network = recipe.translator(ways[0])
            assert network is not None
            fake, real = network(batch[ways[0][0]][:_DIVERSE]), batch[ways[0][1]][:_DIVERSE]
    return {"watch/diversity": (diversity(fake) / diversity(real).clamp(min=1e-6)).item()}
