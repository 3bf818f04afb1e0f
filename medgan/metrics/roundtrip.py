"""The way back from a translation: how far from the source it ends, and whether it lives on signals nobody sees.

CycleGANs have been caught hiding the source in their translations, as faint patterns that the way back reads (Chu,
Zhmoginov and Sandler, "CycleGAN, a Master of Steganography", 2017, https://arxiv.org/abs/1712.02950). Then the way back
breaks down under noise far below what the eye sees, and a small cycle error says little about the translation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WayBack = Callable[[Tensor, Tensor], Tensor]


def cycle_residual(back: WayBack, given: Tensor, made: Tensor, body: Tensor) -> Tensor:
    """``|G_BA(G_AB(x)) - x|`` where the body is, 0 elsewhere; (1, 1, X, Y, Z).

    Args:
        back: the other direction, of image and body.
        given: the source x.
        made: its translation.
        body: boolean.
    """
    return (back(made, body) - given).abs().masked_fill(~body, 0.0)


def errors_under_noise(
    back: WayBack, given: Tensor, made: Tensor, body: Tensor, levels: Sequence[float], seed: int = 0
) -> list[float]:
    """Mean absolute error of the way back in the body, for Gaussian noise of each level added to the translation.

    Args:
        back: the other direction, of image and body.
        given: the source, (1, 1, X, Y, Z) in [-1, 1].
        made: its translation, likewise; with noise it is cut to [-1, 1].
        body: boolean; noise is added here alone.
        levels: standard deviations, in units of [-1, 1]; the noise is the same but for its size.
        seed: of the noise.
    """
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(seed)).to(made).masked_fill(~body, 0.0)
    errors = []
    for level in levels:
        residual = cycle_residual(back, given, (made + level * noise).clamp(-1, 1), body)
        errors.append((residual.sum() / body.sum()).item())
    return errors
