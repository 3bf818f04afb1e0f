"""What the two players of a GAN minimise, as pairs of functions of the discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from medgan.config import InputError


class Objective(NamedTuple):
    """A game. Logits are raw, of any shape; each loss is a scalar, and each player minimises its own."""

    generator: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]


def _cross_entropy_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax() -> Objective:
    """Goodfellow et al., "Generative Adversarial Nets", 2014, Equation 1; its gradient vanishes when D wins."""
    return Objective(lambda fake: -F.softplus(fake).mean(), _cross_entropy_discriminator)


def nonsaturating() -> Objective:
    """Goodfellow et al. 2014, section 3: G maximises log D(G(z)) instead."""
    return Objective(lambda fake: F.softplus(-fake).mean(), _cross_entropy_discriminator)


def lsgan() -> Objective:
    """Mao et al., "Least Squares Generative Adversarial Networks", 2017, Equation 9 (0 for fakes, 1 for reals).

    Both sums are halved, as in Zhu et al. 2017, section 7.1, which slows D against G.
    """
    return Objective(
        lambda fake: (fake - 1).square().mean(),
        lambda real, fake: ((real - 1).square().mean() + fake.square().mean()) / 2,
    )


def hinge() -> Objective:
    """Lim and Ye, "Geometric GAN", 2017; Miyato et al., "Spectral Normalization", 2018, Equations 16 and 17."""
    return Objective(lambda fake: -fake.mean(), lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def wasserstein() -> Objective:
    """Arjovsky et al., "Wasserstein GAN", 2017, Equation 3: the logits are a critic's and need a Lipschitz bound."""
    return Objective(lambda fake: -fake.mean(), lambda real, fake: fake.mean() - real.mean())


def one_sided(objective: ObjectiveName, smoothing: float) -> Objective:
    """A game of cross-entropy whose D is asked for ``1 - smoothing`` on reals and, still, for 0 on fakes.

    Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.4. Cross-entropy towards 1 - s exceeds
    that towards 1 by s times the logit.

    Raises:
        InputError: an objective without probabilities.
    """
    game = OBJECTIVES[objective]
    if objective not in ("minimax", "nonsaturating"):
        raise InputError(f"recipe.label_smoothing: '{objective}' asks for no probability; choose nonsaturating or 0")
    return Objective(game.generator, lambda real, fake: game.discriminator(real, fake) + smoothing * real.mean())


ObjectiveName = Literal["minimax", "nonsaturating", "lsgan", "hinge", "wasserstein"]
OBJECTIVES: dict[ObjectiveName, Objective] = {
    "minimax": minimax(),
    "nonsaturating": nonsaturating(),
    "lsgan": lsgan(),
    "hinge": hinge(),
    "wasserstein": wasserstein(),
}
