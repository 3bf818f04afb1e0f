"""StyleGAN2. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from medgan.config import Component
from medgan.losses import OBJECTIVES, path_lengths, r1_penalty
from medgan.networks import StyleGenerator
from medgan.recipes.adaptive import AdaptiveAugmentation
from medgan.recipes.parts import Critic, adam, averaged, critic, draw_latents, energy_distance, frozen
from medgan.recipes.recipe import Batch, Losses, Pairing, Recipe, Sampler
from medgan.recipes.sampling import DecayStart, EmaDecay, ImageShape, LatentDim, falling, like

_STYLE_MEAN_DECAY, _PATH_MEAN_DECAY = 0.995, 0.99


class StyleGAN2(Recipe):
    """A style for every layer, regularised now and then, with augmentation that adapts to the data at hand.

    Departures from the paper: the fakes of G's step serve D's as well; R1 is taken at reals as D sees them, augmented;
    with classes, D has a logit for each instead of a projection.
    """

    pairing: ClassVar[Pairing] = "single"
    steps: Tensor
    path_mean: Tensor

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        num_classes: Annotated[int, Field(ge=0, description="classes to condition on; 0: none")] = 0,
        latent_dim: LatentDim = 64,
        channels: Annotated[
            int,
            Field(gt=0, description="of G at full resolution; doubled with each halving; multiples of 16 are quick"),
        ] = 16,
        max_channels: Annotated[int, Field(gt=0, description="of G, at most")] = 128,
        mapping_layers: Annotated[int, Field(gt=0, description="from latent to style; the paper has 8")] = 8,
        discriminator_net: Annotated[Critic, Field(description="D")] = Component(name="stylegan2"),
        style_mixing: Annotated[
            float, Field(ge=0, le=1, description="share of fakes whose later layers have another style")
        ] = 0.9,
        lambda_r1: Annotated[
            float, Field(ge=0, description="gamma, weight of D's squared slope on reals; 0: off")
        ] = 0.1,
        r1_every: Annotated[int, Field(gt=0, description="steps from one R1 to the next, weighted as if at each")] = 16,
        lambda_path: Annotated[
            float, Field(ge=0, description="weight of equal path lengths from style to image; 0: off")
        ] = 2.0,
        path_every: Annotated[int, Field(gt=0, description="steps from one path length to the next, likewise")] = 4,
        augment_target: Annotated[
            float,
            Field(ge=0, lt=1, description="mean sign of D on reals that augmentation adapts to; 0: no augmentation"),
        ] = 0.6,
        augment_ramp: Annotated[
            int, Field(gt=0, description="reals seen while augmentation could rise from never to always")
        ] = 500_000,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, G")] = 2e-3,
        lr_discriminator: Annotated[float, Field(gt=0, description="Adam's initial learning rate, D")] = 2e-3,
        lr_decay_start: DecayStart = 1.0,
        ema_decay: EmaDecay = 0.999,
        ema_warm_up: Annotated[
            float, Field(ge=0, description="the average's half-life is at most this share of the steps so far; 0: off")
        ] = 0.05,
    ) -> None:
        super().__init__()
        self.G = StyleGenerator(
            image_shape, latent_dim, num_classes,
            channels=channels, max_channels=max_channels, mapping_layers=mapping_layers,
        )  # fmt: skip
        self.D = critic(discriminator_net, image_shape, num_classes)
        self.ema = averaged(self.G, ema_decay, ema_warm_up)
        self.augment = AdaptiveAugmentation(augment_target, augment_ramp)
        self.latent_dim, self.num_classes, self.style_mixing = latent_dim, num_classes, style_mixing
        self.lambda_r1, self.r1_every = lambda_r1, r1_every
        self.lambda_path, self.path_every = lambda_path, path_every
        self.lr_decay_start = lr_decay_start
        self.game = OBJECTIVES["nonsaturating"]
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("path_mean", torch.zeros(()))
        share_G = path_every / (path_every + 1) if lambda_path else 1.0  # appendix B: k + 1 updates in k steps
        share_D = r1_every / (r1_every + 1) if lambda_r1 else 1.0
        self.optimizers = {
            "G": adam([self.G], lr * share_G, 0.0, 0.99**share_G),
            "D": adam([self.D], lr_discriminator * share_D, 0.0, 0.99**share_D),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """G, now and then its path lengths, D, now and then its slope, the average."""
        real, step = batch["A"], int(self.steps)
        classes = batch["class_A"] if self.num_classes else None
        styles, style_mean = self._styles(len(real), real.device, classes)
        fake = self.G.synthesis(styles)
        with frozen(self.D):
            losses = {"G/game": self.game.generator(self.D(self.augment(fake), classes))}
            self.update("G", losses)
        self.average_gradients([style_mean])
        self.G.style_mean.lerp_(style_mean, 1 - _STYLE_MEAN_DECAY)
        if self.lambda_path and step % self.path_every == 0:
            losses |= self._path_length(max(1, len(real) // 2), real.device, classes)

        seen = self.augment(real)
        real_logits = self.D(seen, classes)
        losses["D/game"] = self.game.discriminator(real_logits, self.D(self.augment(fake.detach()), classes))
        self.update("D", {"D/game": losses["D/game"]})
        if self.lambda_r1 and step % self.r1_every == 0:
            penalty = r1_penalty(lambda images: cast(Tensor, self.D(images, classes)), seen)
            losses["D/r1"] = self.lambda_r1 * self.r1_every * penalty
            self.update("D", {"D/r1": losses["D/r1"]})

        self.augment.see(real_logits)
        self.steps += 1
        if int(self.steps) % self.augment.interval == 0:
            self.average_gradients([self.augment.certainty])
            self.augment.adjust(self.augment.interval * len(real))
        self.ema.update_parameters(self.G)
        return losses

    def _styles(self, count: int, device: torch.device, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Styles ``(B, num_styles, latent_dim)``, some of two latents each, and their mean without a gradient."""
        first, second = (self.G.styles(draw_latents(count, self.latent_dim, device=device), classes) for _ in range(2))
        layers = torch.arange(first.shape[1], device=device)
        cut = torch.randint(1, first.shape[1], (count, 1), device=device)
        mixed = (torch.rand(count, 1, device=device) < self.style_mixing) & (layers >= cut)
        return torch.where(mixed[:, :, None], second, first), first[:, 0].detach().float().mean(dim=0)

    def _path_length(self, count: int, device: torch.device, classes: Tensor | None) -> Losses:
        """Equation 4, on half a batch: second derivatives, therefore in float32."""
        with torch.autocast(device.type, enabled=False):
            styles, _ = self._styles(count, device, None if classes is None else classes[:count])
            lengths = path_lengths(self.G.synthesis(styles), styles)
            mean = lengths.detach().mean()
            self.average_gradients([mean])
            self.path_mean.lerp_(mean, 1 - _PATH_MEAN_DECAY)
            losses = {"G/path": self.lambda_path * self.path_every * (lengths - self.path_mean).square().mean()}
            self.update("G", losses)
        return losses

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """How far samples are from held-out reals; beside it, how much is augmented."""
        distance = energy_distance(like(self.sampler(), batch), batch["A"])
        return {"energy_distance": distance, "augmentation": self.augment.p, "score": -distance}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Reals beside samples from latents that stay the same."""
        return {"real": batch["A"], "fake": like(self.sampler(), batch)}

    def sampler(self) -> Sampler:
        """The averaged generator."""
        return StyleSampler(self.ema, self.latent_dim, self.num_classes)

    def lr_factor(self, progress: float) -> float:
        """Constant, as in the paper, unless asked to fall."""
        return falling(progress, self.lr_decay_start)


class StyleSampler(Sampler):
    """Images in [-1, 1]; `truncation` is psi, and at 0 every latent gives the mean style's image."""

    def __init__(self, network: nn.Module, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.network, self.latent_dim, self.num_classes = network, latent_dim, num_classes

    def latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Normal draws, ``(count, latent_dim)``, on the CPU."""
        return draw_latents(count, self.latent_dim, generator=generator)

    def forward(self, latents: Tensor, classes: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        self.network.eval()  # with noise that is the same for every image
        device = next(self.network.parameters()).device
        classes = None if classes is None else classes.to(device)
        return cast(Tensor, self.network(latents.to(device), classes, truncation)).clamp(-1.0, 1.0)
