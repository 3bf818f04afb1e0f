"""Conditional GAN. Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from medgan.config import Component
from medgan.losses import OBJECTIVES, ObjectiveName, one_sided, r1_penalty
from medgan.recipes.parts import (
    Critic,
    LatentSampler,
    Synthesizer,
    adam,
    averaged,
    critic,
    draw_latents,
    energy_distance,
    frozen,
    synthesizer,
)
from medgan.recipes.recipe import Batch, Losses, Pairing, Recipe
from medgan.recipes.sampling import DecayStart, EmaDecay, ImageShape, LatentDim, LatentPrior, falling, like
from medgan.recipes.view import Augmentations, InstanceNoise, View


class CGAN(Recipe):
    """G makes an image of the class asked for; D is told the class and must not be fooled by a good image of another.

    Fakes are asked for in the classes of the batch. How a class enters is the networks' own: beside the latent in G,
    beside the image or as a product with its features in D. Departures from the paper: samples come from an average of
    the trained generators unless ``ema_decay: 0``, and `lambda_mismatch`.
    """

    pairing: ClassVar[Pairing] = "single"

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        num_classes: Annotated[int, Field(ge=2, description="of the data, which fill it in")],
        latent_dim: LatentDim = 64,
        prior: LatentPrior = "spherical",
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="mlp"),
        discriminator_net: Annotated[Critic, Field(description="D")] = Component(name="mlp"),
        objective: Annotated[
            ObjectiveName, Field(description="the game; nonsaturating is the paper's")
        ] = "nonsaturating",
        label_smoothing: Annotated[
            float, Field(ge=0, lt=0.5, description="D is asked for 1 minus this on reals (Salimans 2016); 0: off")
        ] = 0.1,
        lambda_mismatch: Annotated[
            float,
            Field(ge=0, description="weight of reals beside a wrong class as fakes of D (Reed 2016); 0: off"),
        ] = 0.0,
        lambda_r1: Annotated[
            float, Field(ge=0, description="weight of D's squared slope on reals (Mescheder 2018); 0: off")
        ] = 0.0,
        instance_noise: InstanceNoise = 0.0,
        augment: Augmentations = (),
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 2e-4,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, D")] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.num_classes, self.latent_dim, self.prior = num_classes, latent_dim, prior
        self.view = View(image_shape, packing=1, noise=instance_noise, augment=augment)
        self.G = synthesizer(generator_net, image_shape, latent_dim, num_classes)
        self.D = critic(discriminator_net, image_shape, num_classes)
        self.ema = averaged(self.G, ema_decay)
        self.game = one_sided(objective, label_smoothing) if label_smoothing else OBJECTIVES[objective]
        self.lambda_mismatch, self.lambda_r1 = lambda_mismatch, lambda_r1
        self.lr_decay_start = lr_decay_start
        self.optimizers = {"G": adam([self.G], lr, beta1), "D": adam([self.D], lr_discriminator, beta1)}

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Equation 2: everything given y."""
        real, y = batch["A"], batch["class_A"]
        fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device), y)
        seen = self.view(real, progress)
        judged = self.D(seen, y)
        losses_D = {"D/game": self.game.discriminator(judged, self.D(self.view(fake.detach(), progress), y))}
        if self.lambda_mismatch:
            wrong = self.D(seen, self._other(y))
            losses_D["D/mismatch"] = self.lambda_mismatch * self.game.discriminator(judged, wrong)
        if self.lambda_r1:
            losses_D["D/r1"] = self.lambda_r1 * r1_penalty(lambda images: self.D(images, y), seen)
        self.update("D", losses_D)
        with frozen(self.D):
            losses_G = {"G/game": self.game.generator(self.D(self.view(fake, progress), y))}
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G

    def _other(self, classes: Tensor) -> Tensor:
        """For each class one of the others.

        Reed et al., "Generative Adversarial Text to Image Synthesis", 2016, section 4.2: a pair of a real image and a
        wrong condition is false, and D should say so.
        """
        return (classes + torch.randint(1, self.num_classes, classes.shape, device=classes.device)) % self.num_classes

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """How far samples are from held-out reals of the same classes.

        A sample and its class count as one point, the classes two apart, so that a good image of another class is far.
        """
        classes = torch.nn.functional.one_hot(batch["class_A"], self.num_classes) * 2.0**0.5
        fake = torch.cat([like(self.sampler(), batch).flatten(1), classes], dim=1)
        distance = energy_distance(fake, torch.cat([batch["A"].flatten(1), classes], dim=1))
        return {"energy_distance": distance, "score": -distance}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Reals beside samples of their classes, from latents that stay the same."""
        return {"real": batch["A"], "fake": like(self.sampler(), batch)} if batch["A"].ndim > 2 else {}

    def sampler(self) -> LatentSampler:
        """The averaged generator, which is asked for classes."""
        return LatentSampler(self.ema, self.latent_dim, self.prior, self.num_classes)

    def lr_factor(self, progress: float) -> float:
        """Constant, unless asked to fall."""
        return falling(progress, self.lr_decay_start)
