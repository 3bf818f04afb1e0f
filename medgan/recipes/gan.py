"""GAN. Goodfellow et al., "Generative Adversarial Nets", 2014."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medgan.config import Component
from medgan.losses import OBJECTIVES, ObjectiveName, one_sided, r1_penalty
from medgan.recipes.parts import (
    Critic,
    ImagePool,
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
from medgan.recipes.view import InstanceNoise, Packing, View


class GAN(Synthesis):
    """Algorithm 1: `critic_steps` steps of D, then one of G, with any objective; the tricks of the trade are off.

    A batch is cut into one part per step of D, and each meets fresh noise; so does G. Departures from the paper: Adam
    instead of momentum, and samples come from an average of the trained generators unless ``ema_decay: 0``.
    """

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: LatentDim = 64,
        prior: LatentPrior = "normal",
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="mlp"),
        discriminator_net: Annotated[Critic, Field(description="D")] = Component(name="mlp"),
        objective: Annotated[
            ObjectiveName, Field(description="the game; minimax is Equation 1, nonsaturating what section 3 plays")
        ] = "nonsaturating",
        critic_steps: Annotated[int, Field(gt=0, description="steps of D for one of G: k")] = 1,
        label_smoothing: Annotated[
            float, Field(ge=0, lt=0.5, description="D is asked for 1 minus this on reals (Salimans 2016); 0: off")
        ] = 0.0,
        lambda_r1: Annotated[
            float, Field(ge=0, description="weight of D's squared slope on reals (Mescheder 2018); 0: off")
        ] = 0.0,
        lambda_r1_end: Annotated[
            float | None,
            Field(
                gt=0,
                description="that weight at the end, reached by equal ratios; null: constant. D sees nothing finer "
                "than about its root, so a falling weight shows coarse things first",
            ),
        ] = None,
        pool_size: Annotated[int, Field(ge=0, description="earlier fakes kept for D (Shrivastava 2017); 0: off")] = 0,
        instance_noise: InstanceNoise = 0.0,
        packing: Packing = 1,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 2e-4,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, D")] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        beta2: Annotated[float, Field(ge=0, lt=1, description="Adam's second decay")] = 0.999,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.view = View(image_shape, packing=packing, noise=instance_noise)
        self.latent_dim, self.prior = latent_dim, prior
        self.G = synthesizer(generator_net, image_shape, latent_dim)
        self.D = critic(discriminator_net, self.view.shape)
        self.ema = averaged(self.G, ema_decay)
        self.pool = ImagePool(pool_size)
        self.game = one_sided(objective, label_smoothing) if label_smoothing else OBJECTIVES[objective]
        self.critic_steps, self.lr_decay_start = critic_steps, lr_decay_start
        self.lambda_r1 = lambda_r1, lambda_r1 if lambda_r1_end is None else lambda_r1_end
        self.optimizers = {
            "G": adam([self.G], lr, beta1, beta2),
            "D": adam([self.D], lr_discriminator, beta1, beta2),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Algorithm 1, one pass of the outer loop."""
        first, last = self.lambda_r1
        lambda_r1 = first * (last / first) ** progress if first else 0.0
        for real in split_batch(batch["A"], self.critic_steps, self.view.packing):
            fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device)).detach()
            seen_real, seen_fake = self.view(real, progress), self.view(self.pool(fake), progress)
            losses_D = {"D/game": self.game.discriminator(self.D(seen_real), self.D(seen_fake))}
            if lambda_r1:
                losses_D["D/r1"] = lambda_r1 * r1_penalty(self.D, seen_real)
            self.update("D", losses_D)
        fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device))
        with frozen(self.D):
            losses_G = {"G/game": self.game.generator(self.D(self.view(fake, progress)))}
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G
