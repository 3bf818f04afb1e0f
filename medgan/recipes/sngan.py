"""SNGAN. Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.config import Component
from medgan.losses import OBJECTIVES
from medgan.recipes.parts import (
    Critic,
    Synthesizer,
    adam,
    averaged,
    critic,
    draw_latents,
    frozen,
    synthesizer,
)
from medgan.recipes.recipe import Batch, Losses
from medgan.recipes.sampling import (
    DecayStart,
    EmaDecay,
    ImageShape,
    LatentDim,
    LatentPrior,
    Synthesis,
    split_batch,
)
from medgan.recipes.view import Augmentations, InstanceNoise, Packing, View


class SNGAN(Synthesis):
    """Every weight of D is divided by its largest singular value, which bounds D's slope; the hinge game by default.

    A batch is cut into one part per step of D, and each meets fresh noise. Departure from the paper: samples come from
    an average of the trained generators unless ``ema_decay: 0``.
    """

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: LatentDim = 128,
        prior: LatentPrior = "normal",
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="dcgan"),
        discriminator_net: Annotated[Critic, Field(description="D")] = Component(name="dcgan", norm="none"),
        objective: Annotated[
            Literal["hinge", "nonsaturating"], Field(description="the game: Equations 16 and 17, or 14 and 15")
        ] = "hinge",
        critic_steps: Annotated[int, Field(gt=0, description="steps of D for one of G")] = 1,
        instance_noise: InstanceNoise = 0.0,
        augment: Augmentations = (),
        packing: Packing = 1,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 2e-4,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, D")] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        beta2: Annotated[float, Field(ge=0, lt=1, description="Adam's second decay")] = 0.999,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.view = View(image_shape, packing=packing, noise=instance_noise, augment=augment)
        self.latent_dim, self.prior = latent_dim, prior
        self.G = synthesizer(generator_net, image_shape, latent_dim)
        self.D = critic(discriminator_net, self.view.shape)
        for layer in list(self.D.modules()):  # Algorithm 1: one power iteration at every look of training
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
                spectral_norm(layer)
        self.ema = averaged(self.G, ema_decay)
        self.game = OBJECTIVES[objective]
        self.critic_steps, self.lr_decay_start = critic_steps, lr_decay_start
        self.optimizers = {
            "G": adam([self.G], lr, beta1, beta2),
            "D": adam([self.D], lr_discriminator, beta1, beta2),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """The standard alternation; all that is new is in D's weights."""
        for real in split_batch(batch["A"], self.critic_steps, self.view.packing):
            fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device)).detach()
            seen_real, seen_fake = self.view(real, progress), self.view(fake, progress)
            losses_D = {"D/game": self.game.discriminator(self.D(seen_real), self.D(seen_fake))}  # Equation 16
            self.update("D", losses_D)
        fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device))
        with frozen(self.D):
            losses_G = {"G/game": self.game.generator(self.D(self.view(fake, progress)))}  # Equation 17
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G
