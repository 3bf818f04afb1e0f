"""SRGAN. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from medgan.config import Component, InputError, bind
from medgan.losses import OBJECTIVES, ObjectiveName
from medgan.networks import Scale
from medgan.networks.dcgan import spatial_dims_of
from medgan.networks.resize import enlarged, reduced
from medgan.recipes.parts import Critic, Enlarger, adam, averaged, critic, enlarger, frozen
from medgan.recipes.recipe import Batch, Losses, Pairing, Recipe
from medgan.recipes.sampling import ImageShape

PixelLoss = Literal["mse", "l1"]
PIXEL_LOSSES: dict[PixelLoss, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse_loss, "l1": l1_loss}
Stage = Literal["srresnet", "srgan"]


class SRGAN(Recipe):
    """One generator that enlarges, learnt from images alone: the recipe makes the small image from the large one.

    Until `warmup` only the content term counts, which gives SRResNet; then a critic joins. Both are kept, as averages
    of the trained weights: `srresnet` as it was at the end of the warm-up, `generator` as it is at the end. The small
    image is a cubic reduction with antialiasing, in 2D and in 3D (`medgan.networks.resize`).

    Departure from the paper: the weights are averaged.
    """

    pairing: ClassVar[Pairing] = "single"

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        scale: Annotated[Scale, Field(description="how many times finer the result is along each axis")] = 4,
        enlarger_net: Annotated[Enlarger, Field(description="the generator")] = Component(name="srresnet"),
        critic_net: Annotated[Critic, Field(description="the discriminator")] = Component(name="srgan"),
        objective: Annotated[
            ObjectiveName, Field(description="the game; the paper plays nonsaturating")
        ] = "nonsaturating",
        warmup: Annotated[
            float, Field(ge=0, le=1, description="share of the training without a discriminator; 1: SRResNet alone")
        ] = 0.6,
        content: Annotated[PixelLoss, Field(description="error that counts, of pixels or of features")] = "mse",
        features_net: Annotated[
            Component | None,
            Field(
                description="dotted name of a callable that gives a feature extractor; after the warm-up the "
                "content term compares its features of images (B, C, *S); null: pixels"
            ),
        ] = None,
        lambda_content: Annotated[float, Field(gt=0, description="weight of the content term")] = 1.0,
        lambda_adv: Annotated[float, Field(ge=0, description="weight of the adversarial term of G")] = 1e-3,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, generator")] = 1e-4,
        lr_discriminator: Annotated[
            float, Field(gt=0, description="Adam's initial learning rate, discriminator")
        ] = 1e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.9,
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="of the averaged generators, per step")] = 0.99,
    ) -> None:
        super().__init__()
        if any(length % scale for length in image_shape[1:]):
            raise InputError(f"recipe.scale: {scale} does not divide images of {image_shape[1:]}; choose another size")
        self.scale, self.warmup = scale, warmup
        self.G = enlarger(enlarger_net, spatial_dims_of(image_shape), image_shape[0], scale)
        self.D = critic(critic_net, image_shape, 0)
        self.srresnet, self.generator = averaged(self.G, ema_decay), averaged(self.G, ema_decay)
        self.game, self.error = OBJECTIVES[objective], PIXEL_LOSSES[content]
        self.lambda_content, self.lambda_adv = lambda_content, lambda_adv
        self.features = None if features_net is None else _extractor(features_net)
        self.optimizers = {"G": adam([self.G], lr, beta1), "D": adam([self.D], lr_discriminator, beta1)}

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Section 3.2: SRResNet first; then Equation 2 for D and Equation 3 for G."""
        high = batch["A"]
        fake = self.G(self.low_resolution(high))
        if progress < self.warmup:
            losses = {"G/content": self.lambda_content * self.error(fake, high)}  # Equation 4
            self.update("G", losses)
            self.srresnet.update_parameters(self.G)
            self.generator.update_parameters(self.G)
            return losses
        losses_D = {"D/adv": self.game.discriminator(self.D(high), self.D(fake.detach()))}
        self.update("D", losses_D)
        with frozen(self.D):
            losses_G = {
                "G/content": self.lambda_content * self._content(fake, high),
                "G/adv": self.lambda_adv * self.game.generator(self.D(fake)),  # Equation 6
            }
            self.update("G", losses_G)
        self.generator.update_parameters(self.G)
        return losses_D | losses_G

    def _content(self, fake: Tensor, high: Tensor) -> Tensor:
        """Equation 4, or Equation 5 where there is an extractor."""
        if self.features is None:
            return self.error(fake, high)
        return self.error(self.features(fake), self.features(high))

    def low_resolution(self, high: Tensor) -> Tensor:
        """What the generator gets to see of images ``(B, C, *S)``: ``(B, C, *(S / scale))``."""
        return reduced(high, self.scale).clamp(-1.0, 1.0)

    @torch.no_grad()
    def super_resolve(self, low: Tensor, stage: Stage = "srgan") -> Tensor:
        """Images ``(B, C, *S)`` in [-1, 1] on a finer grid, ``(B, C, *(scale * S))`` in [-1, 1].

        `stage` chooses between the network after the warm-up and after the whole training.
        """
        network = self.srresnet if stage == "srresnet" else self.generator
        return cast(Tensor, network(low)).clamp(-1.0, 1.0)

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The score asks for the true intensities and for edges as strong as true ones.

        Error alone would always choose the end of the warm-up, edges alone any noise. PSNRs are in dB for a range of 2.
        """
        high = batch["A"]
        low = self.low_resolution(high)
        cubic, fine = enlarged(low, self.scale).clamp(-1.0, 1.0), self.super_resolve(low)
        error, edges = l1_loss(fine, high), _edge_distance(fine, high)
        return {
            "psnr": _psnr(fine, high), "psnr_cubic": _psnr(cubic, high),
            "l1": error, "edge_distance": edges, "score": -error - edges,
        }  # fmt: skip

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """The small image in large voxels, its cubic enlargement, the network's, the truth."""
        high = batch["A"]
        low = self.low_resolution(high)
        coarse = low
        for axis in range(2, low.ndim):
            coarse = coarse.repeat_interleave(self.scale, axis)
        cubic = enlarged(low, self.scale).clamp(-1.0, 1.0)
        return {"low": coarse, "cubic": cubic, "super_resolved": self.super_resolve(low), "truth": high}

    def lr_factor(self, progress: float) -> float:
        """Section 3.2: a tenth in the second half of the adversarial part."""
        return 0.1 if self.warmup < 1 and progress >= (1 + self.warmup) / 2 else 1.0


def _extractor(choice: Component) -> nn.Module:
    """The extractor that a configuration names, fixed.

    Raises:
        InputError: no such callable.
    """
    target, options = bind(choice, {}, "feature extractor")
    return _Fixed(cast(nn.Module, target(**options)))


class _Fixed(nn.Module):
    """A network that is no longer trained: its weights stay, and so do the statistics of its norms."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images))

    def train(self, mode: bool = True) -> _Fixed:
        return self


def _psnr(image: Tensor, truth: Tensor) -> Tensor:
    return 10.0 * torch.log10(4.0 / mse_loss(image, truth).clamp(min=1e-10))


def _edge_distance(image: Tensor, truth: Tensor) -> Tensor:
    """Wasserstein-1 distance between the strengths of the differences of neighbours, over both images as a whole."""
    gaps = [
        l1_loss(image.diff(dim=axis).abs().flatten().sort().values, truth.diff(dim=axis).abs().flatten().sort().values)
        for axis in range(2, image.ndim)
    ]
    return torch.stack(gaps).mean()
