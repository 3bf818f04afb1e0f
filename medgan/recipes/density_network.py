"""Density network. MacKay, "Bayesian neural networks and density networks", 1995."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from medgan.config import Component
from medgan.recipes.parts import Synthesizer, adam, averaged, synthesizer
from medgan.recipes.recipe import Batch, Losses, Pairing, Recipe, Sampler
from medgan.recipes.sampling import DecayStart, EmaDecay, ImageShape, LatentDim, falling, like

HELD_OUT_DRAWS = 8  # times the latents of a step, for the likelihood of held-out samples


class DensityNetwork(Recipe):
    """What there was before GANs: latents to a Gaussian each, trained by the likelihood of their mixture.

    The network maps z to mean and variance of every number of x, and ``p(x) = E_z N(x; mean(z), variance(z))`` is
    estimated by the mean over some z, the same for the whole batch (section 3). No adversary, no collapse, a
    likelihood to compare by; but in many dimensions hardly any z explains a given x, which is what GANs got around.
    """

    pairing: ClassVar[Pairing] = "single"

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: LatentDim = 2,
        generator_net: Annotated[Synthesizer, Field(description="the network")] = Component(name="mlp"),
        num_latents: Annotated[int, Field(gt=0, description="draws of z that estimate the likelihood of a step")] = 512,
        std_range: Annotated[
            tuple[float, float], Field(description="least and largest standard deviation of a component, in units of x")
        ] = (0.005, 1.0),
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate")] = 1e-3,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.9,
        lr_decay_start: DecayStart = 0.5,
        ema_decay: EmaDecay = 0.995,
    ) -> None:
        super().__init__()
        self.image_shape, self.latent_dim = image_shape, latent_dim
        self.G = Gaussians(generator_net, image_shape, latent_dim, std_range)
        self.ema = averaged(self.G, ema_decay)
        self.num_latents, self.lr_decay_start = num_latents, lr_decay_start
        self.optimizers = {"G": adam([self.G], lr, beta1)}

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Ascent of the estimated log-likelihood."""
        real = batch["A"]
        latents = torch.randn(self.num_latents, self.latent_dim, device=real.device)
        losses = {"G/likelihood": -log_likelihood(real, *self.G(latents)).mean()}
        self.update("G", losses)
        self.ema.update_parameters(self.G)
        return losses

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The log-likelihood of held-out samples, nats each, from latents that are the same at every call.

        On average it is a lower bound, since the logarithm of an estimated mean is; more latents raise it.
        """
        self.ema.eval()
        rng, shape = torch.Generator().manual_seed(0), (self.num_latents, self.latent_dim)
        draws = [torch.randn(shape, generator=rng).to(batch["A"].device) for _ in range(HELD_OUT_DRAWS)]
        likelihoods = torch.stack([log_likelihood(batch["A"], *self.ema(latents)) for latents in draws])
        likelihood = (likelihoods.logsumexp(dim=0) - math.log(HELD_OUT_DRAWS)).mean()
        return {"log_likelihood": likelihood, "score": likelihood}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Reals beside samples."""
        return {"real": batch["A"], "fake": like(self.sampler(), batch)} if batch["A"].ndim > 2 else {}

    def sampler(self) -> DensitySampler:
        """The averaged network, noise included."""
        return DensitySampler(self.ema, self.image_shape, self.latent_dim)

    def lr_factor(self, progress: float) -> float:
        """Constant, then linear to 0."""
        return falling(progress, self.lr_decay_start)


class Gaussians(nn.Module):
    """Latents ``(K, latent_dim)`` to means and log standard deviations, each ``(K, *image_shape)``."""

    def __init__(
        self, choice: Component, image_shape: tuple[int, ...], latent_dim: int, std_range: tuple[float, float]
    ) -> None:
        super().__init__()
        self.network = synthesizer(choice, (2 * image_shape[0], *image_shape[1:]), latent_dim)
        self.of_points = len(image_shape) == 1
        self.low, self.high = (math.log(std) for std in std_range)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        mean, width = cast(Tensor, self.network(latents)).float().chunk(2, dim=1)
        width = width.tanh() if self.of_points else width  # of images, it is in [-1, 1] already
        return mean, self.low + (self.high - self.low) * (width + 1) / 2


def log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """``log 1/K sum_k N(x_n; mean_k, std_k)`` in nats, ``(N,)``, of x ``(N, ...)`` and K components ``(K, ...)``."""
    x, mean, log_std = x.flatten(1).float(), mean.flatten(1), log_std.flatten(1)
    distance = ((x[:, None] - mean) * (-log_std).exp()).square().sum(dim=2)
    volume = log_std.sum(dim=1) + 0.5 * math.log(2 * math.pi) * x.shape[1]
    return (-0.5 * distance - volume).logsumexp(dim=1) - math.log(len(mean))


class DensitySampler(Sampler):
    """Samples of the mixture: a latent is z and, after it, the noise on every number of x, so it decides the sample."""

    def __init__(self, network: nn.Module, image_shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.network, self.image_shape = network, image_shape
        self.of_component = latent_dim
        self.latent_dim, self.num_classes = latent_dim + math.prod(image_shape), 0

    def latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Normal draws, ``(count, latent_dim)``, on the CPU."""
        return torch.randn(count, self.latent_dim, generator=generator)

    def forward(self, latents: Tensor, classes: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        self.network.eval()
        latents = latents.to(next(self.network.parameters()).device) * truncation
        z, noise = latents[:, : self.of_component], latents[:, self.of_component :]
        mean, log_std = self.network(z)
        samples: Tensor = mean + log_std.exp() * noise.reshape(mean.shape)
        return samples.clamp(-1, 1) if len(self.image_shape) > 1 else samples
