"""pix2pix. Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from medgan.config import Component
from medgan.losses import OBJECTIVES, ObjectiveName, gradient_difference
from medgan.networks import SpatialDims
from medgan.recipes.parts import Discriminator, Generator, adam, averaged, discriminator, frozen, generator, judged
from medgan.recipes.recipe import Batch, Direction, Losses, Pairing, Recipe


class Pix2Pix(Recipe):
    """One generator in one direction, learnt from pairs, with a discriminator that sees the source beside the image.

    With ``lambda_adv: 0`` it is plain regression. Departures from the paper: the U-Net of this library instead of
    a U-Net with dropout as noise, an averaged generator after training, and background that passes unchanged (of label
    maps too; ``keep_background: false`` lets the generator paint everywhere, as edge maps need it).
    """

    pairing: ClassVar[Pairing] = "paired"
    first_order: ClassVar[bool] = True

    def __init__(
        self,
        *,
        direction: Annotated[Direction, Field(description="AB: from A to B; BA: from B to A")] = "BA",
        spatial_dims: Annotated[SpatialDims, Field(description="2 for slices, 3 for volumes")] = 3,
        channels_A: Annotated[int, Field(gt=0, description="image channels of domain A")] = 1,
        channels_B: Annotated[int, Field(gt=0, description="image channels of domain B")] = 1,
        generator_net: Annotated[Generator, Field(description="the generator")] = Component(name="unet"),
        discriminator_net: Annotated[Discriminator, Field(description="the discriminator")] = Component(
            name="patchgan"
        ),
        objective: Annotated[
            ObjectiveName, Field(description="the game; the paper plays nonsaturating")
        ] = "nonsaturating",
        keep_background: Annotated[
            bool,
            Field(
                description="-1 in the source is -1 in the translation; false where the source is no image, as edges"
            ),
        ] = True,
        lambda_adv: Annotated[
            float, Field(ge=0, description="weight of the adversarial term of G; 0: no discriminator at all")
        ] = 1.0,
        lambda_l1: Annotated[float, Field(ge=0, description="weight of the mean absolute error in [-1, 1]")] = 100.0,
        lambda_gradient: Annotated[
            float, Field(ge=0, description="weight of equal edge strength of translation and truth; 0: off")
        ] = 0.0,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, generator")] = 2e-4,
        lr_discriminator: Annotated[
            float, Field(gt=0, description="Adam's initial learning rate, discriminator")
        ] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="of the averaged generator, per step")] = 0.995,
    ) -> None:
        super().__init__()
        source, target = (channels_A, channels_B) if direction == "AB" else (channels_B, channels_A)
        self.direction: Direction = direction
        self.G = generator(generator_net, spatial_dims, source, target, keep_background)
        self.ema = averaged(self.G, ema_decay)
        self.game = OBJECTIVES[objective]
        self.lambda_adv, self.lambda_l1, self.lambda_gradient = lambda_adv, lambda_l1, lambda_gradient
        self.optimizers = {"G": adam([self.G], lr, beta1)}
        if lambda_adv:
            self.D = discriminator(discriminator_net, spatial_dims, source + target)
            self.optimizers["D"] = adam([self.D], lr_discriminator, beta1)

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Equation 4: D first, as in the paper's alternation, then G."""
        source, target = batch[self.direction[0]], batch[self.direction[1]]
        fake = self.G(source)
        losses_D: Losses = {}
        if self.lambda_adv:
            seen_real, seen_fake = torch.cat([source, target], 1), torch.cat([source, fake.detach()], 1)
            losses_D["D/pair"] = self.game.discriminator(*judged(self.D, seen_real, seen_fake)) / 2  # section 3.3
            self.update("D", losses_D)
        losses_G = {"G/l1": self.lambda_l1 * l1_loss(fake, target)}  # Equation 3
        if self.lambda_gradient:
            losses_G["G/gradient"] = self.lambda_gradient * gradient_difference(fake, target)
        if self.lambda_adv:
            with frozen(self.D):
                losses_G["G/adv"] = self.lambda_adv * self.game.generator(self.D(torch.cat([source, fake], 1)))
                self.update("G", losses_G)
        else:
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """Pairs are at hand, so the score is the error itself."""
        error = l1_loss(self.ema(batch[self.direction[0]]), batch[self.direction[1]])
        return {"l1": error, "score": -error}

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Source, translation, truth."""
        source = batch[self.direction[0]]
        return {"source": source, "translation": self.ema(source), "truth": batch[self.direction[1]]}

    def translator(self, direction: Direction) -> nn.Module | None:
        """The averaged generator, in the one direction that it learnt."""
        return self.ema if direction == self.direction else None
