"""CUT. Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation", 2020."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Protocol, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medgan.config import Component, InputError
from medgan.losses import OBJECTIVES, ObjectiveName, patch_nce
from medgan.networks import SpatialDims
from medgan.networks.background import KeepBackground
from medgan.recipes.parts import (
    Discriminator,
    Generator,
    adam,
    averaged,
    discriminator,
    frozen,
    generator,
    intensity_distance,
    judged,
)
from medgan.recipes.recipe import Batch, Direction, Losses, Pairing, Recipe


class Encodes(Protocol):
    """A generator whose first half can be looked into."""

    encoder_channels: tuple[int, ...]

    def encode(self, image: Tensor) -> list[Tensor]:
        """Maps ``(B, C, *S')`` of the first half, the image itself first, their channels in ``encoder_channels``."""
        ...


class CUT(Recipe):
    """One generator in one direction, without pairs and without a way back: places of an image keep what they show.

    The generator's own encoder says what a place shows; small networks (``heads``) turn its maps into features, and a
    place of the translation has to be nearest to the same place of the source. Departures from the paper: an averaged
    generator after training, background that passes unchanged, and places drawn from the body as long as it has any
    left; D takes its step before G, as in the authors' code.
    """

    pairing: ClassVar[Pairing] = "unpaired"
    first_order: ClassVar[bool] = True

    def __init__(
        self,
        *,
        direction: Annotated[Direction, Field(description="AB: from A to B; BA: from B to A")] = "BA",
        spatial_dims: Annotated[SpatialDims, Field(description="2 for slices, 3 for volumes")] = 3,
        channels_A: Annotated[int, Field(gt=0, description="image channels of domain A")] = 1,
        channels_B: Annotated[int, Field(gt=0, description="image channels of domain B")] = 1,
        generator_net: Annotated[Generator, Field(description="the generator; the paper's is resnet")] = Component(
            name="resnet"
        ),
        discriminator_net: Annotated[Discriminator, Field(description="the discriminator")] = Component(
            name="patchgan"
        ),
        keep_background: Annotated[
            bool, Field(description="-1 in the source is -1 in the translation; false: the generator paints everywhere")
        ] = True,
        objective: Annotated[ObjectiveName, Field(description="the game; the paper plays lsgan")] = "lsgan",
        lambda_adv: Annotated[float, Field(ge=0, description="weight of the adversarial term of G")] = 1.0,
        lambda_nce: Annotated[
            float, Field(ge=0, description="weight of PatchNCE between source and translation (FastCUT: 10)")
        ] = 1.0,
        lambda_identity: Annotated[
            float, Field(ge=0, description="weight of PatchNCE between a target image and its translation (FastCUT: 0)")
        ] = 1.0,
        first_map: Annotated[
            int,
            Field(
                ge=0,
                description="the first of the encoder's maps that is compared; 0: the image itself, as in the paper, "
                "which asks for equal intensities and suits domains that share them",
            ),
        ] = 0,
        places: Annotated[int, Field(ge=2, description="places of each map that are compared, of each image")] = 256,
        features: Annotated[int, Field(ge=1, description="length of a place's feature vector")] = 256,
        temperature: Annotated[float, Field(gt=0, description="of PatchNCE")] = 0.07,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, generator and heads")] = 2e-4,
        lr_discriminator: Annotated[
            float, Field(gt=0, description="Adam's initial learning rate, discriminator")
        ] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="of the averaged generator, per step")] = 0.995,
    ) -> None:
        super().__init__()
        source, target = (channels_A, channels_B) if direction == "AB" else (channels_B, channels_A)
        if source != target:
            raise InputError(
                f"recipe.channels_B: {channels_B}, and channels_A {channels_A}: one encoder reads images of both; "
                "give both as many channels, or train cyclegan"
            )
        self.direction: Direction = direction
        self.G = generator(generator_net, spatial_dims, source, target, keep_background)
        self.D = discriminator(discriminator_net, spatial_dims, target)
        self.ema = averaged(self.G, ema_decay)
        if not hasattr(_encoder(self.G), "encoder_channels"):
            raise InputError(f"recipe.generator_net: '{generator_net.name}' has no method encode; use unet or resnet")
        compared = _encoder(self.G).encoder_channels[first_map:]
        if not compared:
            raise InputError(f"recipe.first_map: {first_map}, but '{generator_net.name}' has no map of that number")
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, features), nn.ReLU(), nn.Linear(features, features))
            for channels in compared
        )
        self.game = OBJECTIVES[objective]
        self.lambda_adv, self.lambda_nce, self.lambda_identity = lambda_adv, lambda_nce, lambda_identity
        self.first_map, self.places, self.temperature = first_map, places, temperature
        self.optimizers = {
            "G": adam([self.G, self.heads], lr, beta1),
            "D": adam([self.D], lr_discriminator, beta1),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Equation 5."""
        source, real = batch[self.direction[0]], batch[self.direction[1]]
        fake = self.G(source)
        losses_D = {"D/real": self.game.discriminator(*judged(self.D, real, fake.detach()))}
        self.update("D", losses_D)
        with frozen(self.D):
            losses_G = {
                "G/adv": self.lambda_adv * self.game.generator(self.D(fake)),  # Equation 1
                "G/nce": self.lambda_nce * self.contrast(source, fake, self.G),  # Equation 4
            }
            if self.lambda_identity:
                losses_G["G/nce_idt"] = self.lambda_identity * self.contrast(real, self.G(real), self.G)
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G

    def contrast(self, source: Tensor, fake: Tensor, network: nn.Module) -> Tensor:
        """PatchNCE between two images ``(B, C, *S)``, the mean over maps of the encoder of `network`; a scalar."""
        encode = _encoder(network).encode
        with torch.no_grad():
            of_source = encode(source)
        body = (of_source[0] > -1).any(dim=1, keepdim=True).float()
        terms = []
        compared = of_source[self.first_map :], encode(fake)[self.first_map :]
        for head, theirs, ours in zip(self.heads, *compared, strict=True):
            where = self._draw(body, theirs)
            terms.append(patch_nce(head(_at(ours, where)), head(_at(theirs, where)), self.temperature))
        return torch.stack(terms).mean()

    def _draw(self, body: Tensor, of_map: Tensor) -> Tensor:
        """Numbers of places ``(B, S)`` on a map, all different, in the body first: all places where they are few."""
        size = of_map.shape[2:]
        count = math.prod(size)
        if count <= self.places:
            return torch.arange(count, device=of_map.device).expand(len(of_map), count)
        pool = F.adaptive_max_pool2d if len(size) == 2 else F.adaptive_max_pool3d
        inside = pool(body, size).flatten(1)
        return torch.multinomial(inside + 1e-6, self.places)

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The score asks for the other domain's intensities and for places that still show what they showed."""
        source, real = batch[self.direction[0]], batch[self.direction[1]]
        fake = self.ema(source)
        nce = self.contrast(source, fake, self.ema.module)
        distance = intensity_distance(fake, source, real)
        return {"nce": nce, "intensity_distance": distance, "score": -nce / math.log(self.places) - distance}

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Source and translation, and a target image that is to stay as it is."""
        source, real = batch[self.direction[0]], batch[self.direction[1]]
        shown = {"source": source, "translation": self.ema(source), "target": real}
        return shown | ({"target translated": self.ema(real)} if self.lambda_identity else {})

    def translator(self, direction: Direction) -> nn.Module | None:
        """The averaged generator, in the one direction that it learnt."""
        return self.ema if direction == self.direction else None


def _encoder(network: nn.Module) -> Encodes:
    return cast(Encodes, network.network if isinstance(network, KeepBackground) else network)


def _at(maps: Tensor, where: Tensor) -> Tensor:
    """The vectors ``(B, S, C)`` of maps ``(B, C, *S')`` at places numbered as in a flattened map."""
    flat = maps.flatten(2).transpose(1, 2)
    return flat.gather(1, where[..., None].expand(-1, -1, flat.shape[2]))
