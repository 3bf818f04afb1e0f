"""Background stays background: what a generator must not paint."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class KeepBackground(nn.Module):
    """A generator that translates the body and leaves the background, exactly -1 in every channel, as it is.

    Preparation sets what lies outside the body to -1 and keeps the body above. Left to the generator, background can
    come out as soft tissue for thousands of steps: discriminators then win by it, and teach nothing about the body.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return background_kept(image, cast(Tensor, self.network(image)))


def background_kept(image: Tensor, fake: Tensor) -> Tensor:
    """`fake` ``(B, C', *S)``, but -1 wherever all channels of `image` ``(B, C, *S)`` are."""
    return torch.where((image > -1).any(dim=1, keepdim=True), fake, -1.0)
