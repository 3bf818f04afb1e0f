"""WGAN-GP. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from medgan.config import Component, InputError
from medgan.losses import OBJECTIVES, gradient_penalty
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
from medgan.recipes.view import Augmentations, Packing, View


class WGANGP(Synthesis):
    """A critic bounded by a penalty on its slope, several of its steps for one of G: Algorithm 1.

    A batch is cut into one part per critic step, and each meets fresh noise. The critic may have no batch norm: the
    penalty is about one sample at a time (section 4). Departure from the paper: samples come from an average of the
    trained generators unless ``ema_decay: 0``.
    """

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: LatentDim = 128,
        prior: LatentPrior = "normal",
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="dcgan"),
        discriminator_net: Annotated[Critic, Field(description="the critic")] = Component(name="dcgan", norm="none"),
        critic_steps: Annotated[int, Field(gt=0, description="of the critic for one of G")] = 5,
        lambda_gp: Annotated[float, Field(gt=0, description="weight of the gradient penalty")] = 10.0,
        one_sided: Annotated[bool, Field(description="only slopes above 1 cost (section 4)")] = False,
        augment: Augmentations = (),
        packing: Packing = 1,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 1e-4,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, critic")] = 1e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.0,
        beta2: Annotated[float, Field(ge=0, lt=1, description="Adam's second decay")] = 0.9,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.view = View(image_shape, packing=packing, augment=augment)
        self.latent_dim, self.prior = latent_dim, prior
        self.G = synthesizer(generator_net, image_shape, latent_dim)
        self.D = critic(discriminator_net, self.view.shape)
        if any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for part in self.D.modules()):
            raise InputError("recipe.discriminator_net.norm: batch norm mixes samples; choose none or instance")
        self.ema = averaged(self.G, ema_decay)
        self.game = OBJECTIVES["wasserstein"]
        self.critic_steps, self.lambda_gp, self.one_sided = critic_steps, lambda_gp, one_sided
        self.lr_decay_start = lr_decay_start
        self.optimizers = {
            "G": adam([self.G], lr, beta1, beta2),
            "D": adam([self.D], lr_discriminator, beta1, beta2),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Algorithm 1, one pass of the outer loop."""
        for real in split_batch(batch["A"], self.critic_steps, self.view.packing):
            fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device)).detach()
            seen_real, seen_fake = self.view(real, progress), self.view(fake, progress)
            penalty = gradient_penalty(self.D, seen_real, seen_fake, one_sided=self.one_sided)
            losses_D = {  # line 7
                "D/critic": self.game.discriminator(self.D(seen_real), self.D(seen_fake)),
                "D/penalty": self.lambda_gp * penalty,
            }
            self.update("D", losses_D)
        fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device))
        with frozen(self.D):
            losses_G = {"G/critic": self.game.generator(self.D(self.view(fake, progress)))}  # line 12
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G
