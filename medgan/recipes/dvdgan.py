"""DVD-GAN. Clark et al., "Adversarial Video Generation on Complex Datasets", 2019."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medgan.config import Component, InputError
from medgan.losses import OBJECTIVES
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
from medgan.recipes.sampling import DecayStart, EmaDecay, ImageShape, LatentDim, falling, like, split_batch


class DVDGAN(Recipe):
    """Short films, judged twice: some whole frames, each for itself, and all frames at half the resolution.

    Departures from the paper: the generator's weights are not spectrally normalised; the temporal critic's convolutions
    all see time.
    """

    pairing: ClassVar[Pairing] = "single"

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        num_classes: Annotated[int, Field(ge=0, description="classes to condition on; 0: none")] = 0,
        latent_dim: LatentDim = 64,
        generator_net: Annotated[Synthesizer, Field(description="G")] = Component(name="films"),
        spatial_net: Annotated[Critic, Field(description="critic of frames")] = Component(name="spectral"),
        temporal_net: Annotated[Critic, Field(description="critic of films at half the resolution")] = Component(
            name="spectral"
        ),
        judged_frames: Annotated[int, Field(gt=0, description="frames of a film that the spatial critic sees, k")] = 4,
        critic_steps: Annotated[int, Field(gt=0, description="steps of D for one of G, each on its part")] = 1,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 1e-4,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, critics")] = 5e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.0,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.999,
        ema_warm_up: Annotated[
            float, Field(ge=0, description="the average's half-life is at most this share of the steps so far; 0: off")
        ] = 0.05,
    ) -> None:
        super().__init__()
        if len(image_shape) != 4 or image_shape[1] < 3 or any(n % 2 for n in image_shape[2:]):
            raise InputError(
                f"data: samples of shape {image_shape} are no films (C, T, H, W); give 3 frames or more, H and W even"
            )
        channels, frames, height, width = image_shape
        self.G = synthesizer(generator_net, image_shape, latent_dim, num_classes)
        self.D_S = critic(spatial_net, (channels, height, width), num_classes)
        self.D_T = critic(temporal_net, (channels, frames, height // 2, width // 2), num_classes)
        self.ema = averaged(self.G, ema_decay, ema_warm_up)
        self.game = OBJECTIVES["hinge"]
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.judged_frames, self.critic_steps = min(judged_frames, frames), critic_steps
        self.lr_decay_start = lr_decay_start
        self.optimizers = {
            "G": adam([self.G], lr, beta1),
            "D": adam([self.D_S, self.D_T], lr_discriminator, beta1),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Both critics, `critic_steps` times, then G against both (section 3)."""
        reals = split_batch(batch["A"], self.critic_steps)
        labels = batch["class_A"].chunk(self.critic_steps) if self.num_classes else [None] * len(reals)
        for real, classes in zip(reals, labels, strict=True):
            with torch.no_grad():
                fake = self._films(real, classes)
            losses_D = {
                "D/spatial": self.game.discriminator(self._spatial(real, classes), self._spatial(fake, classes)),
                "D/temporal": self.game.discriminator(self._temporal(real, classes), self._temporal(fake, classes)),
            }
            self.update("D", losses_D)
        with frozen(self.D_S, self.D_T):
            fake = self._films(real, classes)
            losses_G = {
                "G/spatial": self.game.generator(self._spatial(fake, classes)),
                "G/temporal": self.game.generator(self._temporal(fake, classes)),
            }
            self.update("G", losses_G)
        self.ema.update_parameters(self.G)
        return losses_D | losses_G

    def _films(self, real: Tensor, classes: Tensor | None) -> Tensor:
        films: Tensor = self.G(draw_latents(len(real), self.latent_dim, device=real.device), classes)
        return films

    def _spatial(self, films: Tensor, classes: Tensor | None) -> Tensor:
        """The sum of the logits of k frames of each film, drawn without repetition, ``(B, 1)``."""
        order = torch.rand(len(films), films.shape[2], device=films.device).argsort(dim=1)[:, : self.judged_frames]
        frames = films.transpose(1, 2)[torch.arange(len(films), device=films.device)[:, None], order].flatten(0, 1)
        repeated = None if classes is None else classes.repeat_interleave(self.judged_frames)
        logits: Tensor = self.D_S(frames, repeated)
        return logits.view(len(films), self.judged_frames).sum(dim=1, keepdim=True)

    def _temporal(self, films: Tensor, classes: Tensor | None) -> Tensor:
        """The logit of each whole film, its frames averaged over 2 x 2 pixels (phi in the paper), ``(B, 1)``."""
        logits: Tensor = self.D_T(F.avg_pool3d(films, (1, 2, 2)), classes)
        return logits

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """How far samples are from held-out reals, and how much of the reals' change from frame to frame they have."""
        fake, real = like(self.sampler(), batch), batch["A"]
        distance = energy_distance(fake, real)
        change = fake.diff(dim=2).abs().mean() / real.diff(dim=2).abs().mean().clamp(min=1e-6)
        return {"energy_distance": distance, "relative_change": change, "score": -distance}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Frame after frame of a real film, then of a sample."""
        films = {"real": batch["A"], "fake": like(self.sampler(), batch)}
        return {f"{whose}, frame {t + 1}": film[:, :, t] for whose, film in films.items() for t in range(film.shape[2])}

    def sampler(self) -> LatentSampler:
        """The averaged generator; films ``(count, C, T, H, W)``."""
        return LatentSampler(self.ema, self.latent_dim, num_classes=self.num_classes)

    def lr_factor(self, progress: float) -> float:
        """Constant, as in the paper, unless asked to fall."""
        return falling(progress, self.lr_decay_start)
