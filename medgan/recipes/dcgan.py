"""DCGAN. Radford et al., "Unsupervised Representation Learning with Deep Convolutional GANs", 2016."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medgan.config import Component
from medgan.losses import OBJECTIVES, one_sided
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


class DCGAN(Synthesis):
    """Strided convolutions and batch norm in both players, Adam with a short memory, one step of D for one of G.

    In 2D and 3D, of any size that halves down to 4. Departures from the paper: samples come from an average of the
    trained generators unless ``ema_decay: 0``, and widths stop doubling at eight times the first.
    """

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: LatentDim = 100,
        prior: LatentPrior = "uniform",
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="dcgan"),
        discriminator_net: Annotated[Critic, Field(description="D")] = Component(name="dcgan"),
        label_smoothing: Annotated[
            float, Field(ge=0, lt=0.5, description="D is asked for 1 minus this on reals (Salimans 2016); 0: off")
        ] = 0.0,
        instance_noise: InstanceNoise = 0.0,
        augment: Augmentations = (),
        packing: Packing = 1,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 2e-4,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, D")] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.view = View(image_shape, packing=packing, noise=instance_noise, augment=augment)
        self.latent_dim, self.prior = latent_dim, prior
        self.G = synthesizer(generator_net, image_shape, latent_dim)
        self.D = critic(discriminator_net, self.view.shape)
        self.ema = averaged(self.G, ema_decay)
        self.game = one_sided("nonsaturating", label_smoothing) if label_smoothing else OBJECTIVES["nonsaturating"]
        self.lr_decay_start = lr_decay_start
        self.optimizers = {"G": adam([self.G], lr, beta1), "D": adam([self.D], lr_discriminator, beta1)}

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Section 4: D on a batch of reals and one of fakes, apart because of batch norm; then G through that D."""
        (real,) = split_batch(batch["A"], 1, self.view.packing)
        fake = self.G(draw_latents(len(real), self.latent_dim, self.prior, device=real.device))
        seen_real, seen_fake = self.view(real, progress), self.view(fake.detach(), progress)
        losses_D = {"D/game": self.game.discriminator(self.D(seen_real), self.D(seen_fake))}
        self.update("D", losses_D)
        with frozen(self.D):
            losses_G = {"G/game": self.game.generator(self.D(self.view(fake, progress)))}
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G
