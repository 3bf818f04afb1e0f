"""What keeps a critic's slope in bounds. Second derivatives are taken in float32, whatever autocast says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, *, one_sided: bool = False) -> Tensor:
    """A critic's slope should be 1 between reals and fakes: ``E[(|grad D(x)| - 1)^2]``, a scalar.

    `real` and `fake` are ``(B, C, *S)`` of one shape; x is drawn uniformly on the line between each pair. One-sided,
    only slopes above 1 cost. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, Equation 3 and section 4.
    """
    share = torch.rand(len(real), *(1,) * (real.ndim - 1), device=real.device)
    between = real.detach().float().lerp(fake.detach().float(), share).requires_grad_()
    excess = _slope(critic, between).flatten(1).norm(dim=1) - 1
    penalty: Tensor = (excess.relu() if one_sided else excess).square().mean()
    return penalty


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """Keep a critic flat on reals ``(B, C, *S)``: ``E[|grad D(x)|^2] / 2``, a scalar.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, Equation 9. The same on fakes is
    its R2.
    """
    real = real.detach().float().requires_grad_()
    return _slope(critic, real).flatten(1).square().sum(dim=1).mean() / 2


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """How far images move with their styles: ``|J^T y|`` for a random image y, ``(B,)``.

    `images` ``(B, C, *S)`` come from `styles` ``(B, layers, style_dim)``, which require a gradient; J is the slope of
    the one by the other, y is normal noise over the root of the number of pixels. Where lengths are alike, a step in
    style is a step of one size in the image. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN",
    2020, Equation 4 and appendix B; squared lengths are averaged over the layers.
    """
    noise = torch.randn_like(images) / math.sqrt(math.prod(images.shape[2:]))
    (slope,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return slope.square().sum(dim=2).mean(dim=1).sqrt()


def _slope(critic: Critic, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return slope
