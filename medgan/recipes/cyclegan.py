"""CycleGAN. Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from medgan.config import Component
from medgan.losses import OBJECTIVES, ObjectiveName, gradient_difference, mind_difference
from medgan.networks import SpatialDims
from medgan.recipes.augmentation import augmented
from medgan.recipes.parts import (
    Discriminator,
    Generator,
    ImagePool,
    Warmup,
    adam,
    averaged,
    discriminator,
    frozen,
    generator,
    intensity_distance,
    judged,
    refuse_warmup,
)
from medgan.recipes.recipe import Batch, Direction, Losses, Pairing, Recipe
from medgan.recipes.view import Augmentations, InstanceNoise, Tones, TonesFrom, noisy, toned, tones_weight


class CycleGAN(Recipe):
    """Two generators that undo each other, two discriminators, no pairs and no labels.

    Departures from the paper: the generators that translate after training are averages of the trained ones, and
    background, exactly -1, passes them unchanged.
    """

    pairing: ClassVar[Pairing] = "unpaired"
    at_once: ClassVar[bool] = True
    first_order: ClassVar[bool] = True

    def __init__(
        self,
        *,
        spatial_dims: Annotated[SpatialDims, Field(description="2 for slices, 3 for volumes")] = 3,
        channels_A: Annotated[int, Field(gt=0, description="image channels of domain A")] = 1,
        channels_B: Annotated[int, Field(gt=0, description="image channels of domain B")] = 1,
        generator_net: Annotated[Generator, Field(description="both generators")] = Component(name="unet"),
        discriminator_net: Annotated[Discriminator, Field(description="both discriminators")] = Component(
            name="patchgan"
        ),
        keep_background: Annotated[
            bool, Field(description="-1 in the source is -1 in the translation; false: generators paint everywhere")
        ] = True,
        objective: Annotated[ObjectiveName, Field(description="the game; the paper plays lsgan")] = "lsgan",
        lambda_adv: Annotated[float, Field(ge=0, description="weight of the adversarial terms of G")] = 1.0,
        lambda_cycle: Annotated[
            float, Field(ge=0, description="weight of the cycle terms, mean absolute error in [-1, 1]")
        ] = 10.0,
        lambda_identity: Annotated[
            float, Field(ge=0, description="weight of G_AB(B) = B and G_BA(A) = A; 0: off")
        ] = 0.0,
        lambda_gradient: Annotated[
            float, Field(ge=0, description="weight of equal edge strength of source and translation; 0: off")
        ] = 0.0,
        lambda_mind: Annotated[
            float, Field(ge=0, description="weight of edges in the same places, by MIND (Yang 2018); 0: off")
        ] = 0.0,
        warmup: Warmup = 0.0,
        instance_noise: InstanceNoise = 0.0,
        augment: Augmentations = (),
        tones: Tones = (),
        tones_from: TonesFrom = 0.3,
        pool_size: Annotated[int, Field(ge=0, description="earlier fakes kept for each discriminator, images")] = 50,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, generators")] = 2e-4,
        lr_discriminator: Annotated[
            float, Field(gt=0, description="Adam's initial learning rate, discriminators")
        ] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="of the averaged generators, per step")] = 0.995,
    ) -> None:
        super().__init__()
        refuse_warmup(warmup, channels_A, channels_B)
        self.G_AB = generator(generator_net, spatial_dims, channels_A, channels_B, keep_background)
        self.G_BA = generator(generator_net, spatial_dims, channels_B, channels_A, keep_background)
        self.D_A = discriminator(discriminator_net, spatial_dims, channels_A * (1 + 2 * len(tones)))
        self.D_B = discriminator(discriminator_net, spatial_dims, channels_B * (1 + 2 * len(tones)))
        self.ema_AB, self.ema_BA = averaged(self.G_AB, ema_decay), averaged(self.G_BA, ema_decay)
        self.pool_A, self.pool_B = ImagePool(pool_size), ImagePool(pool_size)
        self.game = OBJECTIVES[objective]
        self.lambda_adv, self.lambda_cycle = lambda_adv, lambda_cycle
        self.lambda_identity, self.lambda_gradient = lambda_identity, lambda_gradient
        self.lambda_mind = lambda_mind
        self.warmup, self.instance_noise, self.augment = warmup, instance_noise, augment
        self.tones, self.tones_from = tones, tones_from
        self.optimizers = {
            "G": adam([self.G_AB, self.G_BA], lr, beta1),
            "D": adam([self.D_A, self.D_B], lr_discriminator, beta1),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Equation 3, its generators' side first."""
        real_A, real_B = batch["A"], batch["B"]
        if progress < self.warmup:
            return self._give_back(real_A, real_B)

        weight = tones_weight(self.tones_from, progress)

        def seen(images: Tensor) -> Tensor:
            return toned(augmented(noisy(images, self.instance_noise, progress), self.augment), self.tones, weight)

        with frozen(self.D_A, self.D_B):
            fake_B, fake_A = self.G_AB(real_A), self.G_BA(real_B)
            losses_G = {
                "G/adv_B": self.lambda_adv * self.game.generator(self.D_B(seen(fake_B))),
                "G/adv_A": self.lambda_adv * self.game.generator(self.D_A(seen(fake_A))),
                "G/cycle_A": self.lambda_cycle * l1_loss(self.G_BA(fake_B), real_A),  # Equation 2
                "G/cycle_B": self.lambda_cycle * l1_loss(self.G_AB(fake_A), real_B),
            }
            if self.lambda_identity:  # section 5.2
                losses_G["G/idt_A"] = self.lambda_identity * l1_loss(self.G_BA(real_A), real_A)
                losses_G["G/idt_B"] = self.lambda_identity * l1_loss(self.G_AB(real_B), real_B)
            if self.lambda_gradient:
                losses_G["G/gradient_A"] = self.lambda_gradient * gradient_difference(fake_B, real_A)
                losses_G["G/gradient_B"] = self.lambda_gradient * gradient_difference(fake_A, real_B)
            if self.lambda_mind:
                losses_G["G/mind_A"] = self.lambda_mind * mind_difference(fake_B, real_A)
                losses_G["G/mind_B"] = self.lambda_mind * mind_difference(fake_A, real_B)
            self.update("G", losses_G)
        past_A, past_B = self.pool_A(fake_A.detach()), self.pool_B(fake_B.detach())
        losses_D = {
            "D/A": self.game.discriminator(*judged(self.D_A, seen(real_A), seen(past_A))),
            "D/B": self.game.discriminator(*judged(self.D_B, seen(real_B), seen(past_B))),
        }
        self.update("D", losses_D)
        self.follow(self.ema_AB, self.G_AB)
        self.follow(self.ema_BA, self.G_BA)
        return losses_G | losses_D

    def _give_back(self, real_A: Tensor, real_B: Tensor) -> Losses:
        """Each generator as the identity: Chen et al., "CartoonGAN", 2018, section 3.3, in their pixels' place."""
        losses = {
            "G/start_A": l1_loss(self.G_AB(real_A), real_A),
            "G/start_B": l1_loss(self.G_BA(real_B), real_B),
        }
        self.update("G", losses)
        self.follow(self.ema_AB, self.G_AB)
        self.follow(self.ema_BA, self.G_BA)
        return losses

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The score asks for the other domain's intensities and for the way back; it needs neither pairs nor labels."""
        real_A, real_B = batch["A"], batch["B"]
        fake_B, fake_A = self.ema_AB(real_A), self.ema_BA(real_B)
        cycle = l1_loss(self.ema_BA(fake_B), real_A) + l1_loss(self.ema_AB(fake_A), real_B)
        distance = intensity_distance(fake_B, real_A, real_B) + intensity_distance(fake_A, real_B, real_A)
        return {"cycle": cycle, "intensity_distance": distance, "score": -cycle - distance}

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """There and back, both ways."""
        real_A, real_B = batch["A"], batch["B"]
        fake_B, fake_A = self.ema_AB(real_A), self.ema_BA(real_B)
        return {
            "real_A": real_A, "fake_B": fake_B, "rec_A": self.ema_BA(fake_B),
            "real_B": real_B, "fake_A": fake_A, "rec_B": self.ema_AB(fake_A),
        }  # fmt: skip

    def translator(self, direction: Direction) -> nn.Module:
        """The averaged generator."""
        return self.ema_AB if direction == "AB" else self.ema_BA
