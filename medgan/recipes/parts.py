"""What recipes have in common: networks by name, players, pools, averages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medgan.config import Component, InputError, bind, component
from medgan.networks import CRITICS, DISCRIMINATORS, ENLARGERS, GENERATORS, SEGMENTORS, SYNTHESIZERS, SpatialDims
from medgan.networks.background import KeepBackground
from medgan.networks.built import built
from medgan.recipes.recipe import Sampler

Prior = Literal["normal", "spherical", "uniform"]
Generator = component(GENERATORS, "generator")
Discriminator = component(DISCRIMINATORS, "discriminator")
_Tensors = tuple[Tensor, ...] | list[Tensor]
Segmentor = component(SEGMENTORS, "segmentor")
Enlarger = component(ENLARGERS, "enlarger")
Synthesizer = component(SYNTHESIZERS, "synthesizer")
Critic = component(CRITICS, "critic")
Warmup = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="share of the training in which generators learn to give back what they see, before the game "
        "begins: bright starts as bright (Chen 2018); 0: off",
    ),
]


def refuse_warmup(warmup: float, channels_A: int, channels_B: int) -> None:
    """Raises InputError where generators are to give back what they see and cannot, for want of channels."""
    if warmup and channels_A != channels_B:
        raise InputError(
            f"recipe.warmup: {warmup}, but images of {channels_A} channels cannot be given back with {channels_B}; "
            "set it to 0"
        )


def generator(
    choice: Component, spatial_dims: SpatialDims, in_channels: int, out_channels: int, keep_background: bool = True
) -> nn.Module:
    """The generator that a configuration names, with `KeepBackground` around it unless it is to paint everywhere."""
    target, options = bind(choice, GENERATORS, "generator")
    network = built(target, spatial_dims, in_channels, out_channels, **options)
    return KeepBackground(network) if keep_background else network


def discriminator(choice: Component, spatial_dims: SpatialDims, in_channels: int) -> nn.Module:
    """The discriminator that a configuration names."""
    target, options = bind(choice, DISCRIMINATORS, "discriminator")
    return cast(nn.Module, target(spatial_dims, in_channels, **options))


def segmentor(choice: Component, spatial_dims: SpatialDims, in_channels: int, classes: int) -> nn.Module:
    """The segmentor that a configuration names."""
    target, options = bind(choice, SEGMENTORS, "segmentor")
    return built(target, spatial_dims, in_channels, classes, **options)


def enlarger(choice: Component, spatial_dims: SpatialDims, channels: int, scale: int) -> nn.Module:
    """The network that a configuration names for making images `scale` times as fine."""
    target, options = bind(choice, ENLARGERS, "enlarger")
    return cast(nn.Module, target(spatial_dims, channels, scale, **options))


def synthesizer(choice: Component, image_shape: tuple[int, ...], latent_dim: int, num_classes: int = 0) -> nn.Module:
    """The network from latents to samples that a configuration names."""
    target, options = bind(choice, SYNTHESIZERS, "synthesizer")
    return cast(nn.Module, target(image_shape, latent_dim, num_classes, **options))


def critic(choice: Component, image_shape: tuple[int, ...], num_classes: int = 0) -> nn.Module:
    """The network from whole samples to one logit each that a configuration names."""
    target, options = bind(choice, CRITICS, "critic")
    return cast(nn.Module, target(image_shape, num_classes, **options))


def adam(networks: Iterable[nn.Module], lr: float, beta1: float, beta2: float = 0.999) -> Adam:
    """One player's optimizer over the parameters of its networks."""
    parameters = list(chain.from_iterable(network.parameters() for network in networks))
    optimizer = Adam(parameters, lr=lr, betas=(beta1, beta2), fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return optimizer


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Let gradients flow through these networks, not into them."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def gradients_times(factor: float, *networks: nn.Module) -> Iterator[None]:
    """Multiply what these networks' weights receive from a backward pass within; what flows through is left alone."""
    weights = [p for network in networks for p in network.parameters() if p.requires_grad]
    handles = [w.register_hook(lambda gradient: gradient * factor) for w in weights]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def judged(network: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """A discriminator's logits of real images and of fakes ``(B, C, *S)`` each, from one pass over both."""
    logits_real, logits_fake = network(torch.cat([real, fake])).chunk(2)
    return logits_real, logits_fake


def averaged(network: nn.Module, decay: float, warm_up: float = 0.0) -> AveragedModel:
    """An exponential moving average of a network's weights, buffers included.

    With a warm-up, its half-life is at most this share of the updates so far, so that it soon forgets the start.
    Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", 2019; the warm-up as in Karras et al.,
    "Training Generative Adversarial Networks with Limited Data", 2020.
    """

    def average(averages: _Tensors, currents: _Tensors, updates: Tensor | int) -> None:
        slowest = 0.5 ** (1.0 / max(1e-3, warm_up * int(updates))) if warm_up else 1.0
        get_ema_multi_avg_fn(min(decay, slowest))(averages, currents, updates)  # type: ignore[no-untyped-call]

    averaging = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return averaging.requires_grad_(False)


def ramp(progress: float, start: float, length: float) -> float:
    """0 before `start`, then linear to 1 within `length`; all three as shares of the training."""
    if progress < start:
        return 0.0
    return min(1.0, (progress - start) / length) if length > 0 else 1.0


class ImagePool(nn.Module):
    """Earlier fakes for the discriminator: each image comes back as it is or, half the time, as an older one.

    Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training", 2017,
    section 2.3; size 50 in Zhu et al. 2017, section 4. Size 0 hands every image straight through.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, fakes: Tensor) -> Tensor:
        """`fakes` ``(B, C, *S)``, detached, to images of the same shape."""
        return torch.stack([self._exchange(image) for image in fakes]) if self.size else fakes

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if torch.rand(()) < 0.5:
            return image
        index = int(torch.randint(self.size, ()))
        older, self.images[index] = self.images[index], image.clone()
        return older.to(image.device)  # after a resume the pool lies in main memory

    def get_extra_state(self) -> dict[str, Any]:
        """The images, so that a resumed run meets the same pool."""
        return {"images": self.images}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The reverse of `get_extra_state`."""
        self.images = list(state["images"])


def draw_latents(
    count: int,
    latent_dim: int,
    prior: Prior = "normal",
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Latents ``(count, latent_dim)`` of mean 0: variance 1 (normal, spherical), or uniform in [-1, 1].

    The sphere is where high-dimensional normal draws lie anyway, and where spherical interpolation stays: White,
    "Sampling Generative Networks", 2016.
    """
    if prior == "uniform":
        return torch.rand(count, latent_dim, generator=generator, device=device) * 2 - 1
    latents = torch.randn(count, latent_dim, generator=generator, device=device)
    if prior == "spherical":
        return latents / latents.square().mean(dim=1, keepdim=True).sqrt()
    return latents


class LatentSampler(Sampler):
    """Samples of a network from latents; a `truncation` below 1 shrinks the latents."""

    def __init__(self, network: nn.Module, latent_dim: int, prior: Prior = "normal", num_classes: int = 0) -> None:
        super().__init__()
        self.network = network
        self.latent_dim, self.prior, self.num_classes = latent_dim, prior, num_classes

    def latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the prior, ``(count, latent_dim)``, on the CPU."""
        return draw_latents(count, self.latent_dim, self.prior, generator=generator)

    def forward(self, latents: Tensor, classes: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        self.network.eval()  # batch norm with the averages of the training, whatever the recipe is doing
        device = next(self.network.parameters()).device
        latents = latents.to(device) * truncation
        if not self.num_classes:
            return cast(Tensor, self.network(latents))
        return cast(Tensor, self.network(latents, None if classes is None else classes.to(device)))


def energy_distance(fake: Tensor, real: Tensor) -> Tensor:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` of samples ``(N, ...)`` and ``(M, ...)``, a scalar; 0 for equal sets.

    Lengths are Euclidean, over all numbers of a sample. Szekely and Rizzo, "Energy statistics: A class of statistics
    based on distances", 2013.
    """
    x, y = fake.flatten(1).float(), real.flatten(1).float()
    return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()


def intensity_distance(fake: Tensor, source: Tensor, real: Tensor, bins: int = 128) -> Tensor:
    """Wasserstein-1 distance between the intensities of translations and of real images in [-1, 1]; a scalar.

    Needs no pairs, so unpaired recipes can be judged by it. Background does not count: where `real`, or the `source` of
    `fake`, is -1.
    """

    def cumulative(values: Tensor) -> Tensor:
        return torch.histc(values.float(), bins, -1.0, 1.0).cumsum(0) / max(values.numel(), 1)

    return (cumulative(fake[source > -1]) - cumulative(real[real > -1])).abs().mean() * 2.0
