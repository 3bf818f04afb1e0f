"""WGAN. Arjovsky et al., "Wasserstein GAN", 2017."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch.optim import RMSprop

from medgan.config import Component
from medgan.losses import OBJECTIVES
from medgan.recipes.parts import (
    Critic,
    Synthesizer,
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
from medgan.recipes.view import Packing, View


class WGAN(Synthesis):
    """A critic bounded by clipping its weights, several of its steps for one of G, RMSprop: Algorithm 1.

    A batch is cut into one part per critic step, and each meets fresh noise. Departure from the paper: samples come
    from an average of the trained generators unless ``ema_decay: 0``. `wgan_gp` is what followed, and trains faster.
    """

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: LatentDim = 100,
        prior: LatentPrior = "normal",
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="dcgan"),
        discriminator_net: Annotated[Critic, Field(description="the critic")] = Component(name="dcgan"),
        critic_steps: Annotated[int, Field(gt=0, description="of the critic for one of G")] = 5,
        clip: Annotated[float, Field(gt=0, description="largest weight of the critic, either sign")] = 0.01,
        packing: Packing = 1,
        lr: Annotated[float, Field(gt=0, description="RMSprop's initial learning rate, G")] = 5e-5,
        lr_discriminator: Annotated[float, Field(gt=0, description="RMSprop's initial learning rate, critic")] = 5e-5,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.view = View(image_shape, packing=packing)
        self.latent_dim, self.prior = latent_dim, prior
        self.G = synthesizer(generator_net, image_shape, latent_dim)
        self.D = critic(discriminator_net, self.view.shape)
        self.ema = averaged(self.G, ema_decay)
        self.game = OBJECTIVES["wasserstein"]
        self.critic_steps, self.clip, self.lr_decay_start = critic_steps, clip, lr_decay_start
        self.optimizers = {
            "G": RMSprop([{"params": list(self.G.parameters()), "initial_lr": lr}], lr),
            "D": RMSprop([{"params": list(self.D.parameters()), "initial_lr": lr_discriminator}], lr_discriminator),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Algorithm 1, one pass of the outer loop."""
        for real in split_batch(batch["A"], self.critic_steps, self.view.packing):
            fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device)).detach()
            scores = self.D(self.view(real, progress)), self.D(self.view(fake, progress))
            losses_D = {"D/critic": self.game.discriminator(*scores)}  # lines 5 and 6
            self.update("D", losses_D)
            with torch.no_grad():
                for weight in self.D.parameters():
                    weight.clamp_(-self.clip, self.clip)  # line 7
        fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device))
        with frozen(self.D):
            losses_G = {"G/critic": self.game.generator(self.D(self.view(fake, progress)))}  # lines 10 and 11
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G
