"""Features of slices for distances between distributions, by a small network trained here on real slices alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, one_hot

from medgan.data.source import Source

Features = Callable[[Tensor], NDArray[np.float64]]
_WIDTHS = (16, 32, 64)


class SliceReader(nn.Module):
    """Which tissues lie where, read off a slice: ``(B, 1, H, W)`` to logits ``(B, classes, H / 4, W / 4)``."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, stride=stride, padding=1), nn.ReLU())
            for before, width, stride in zip((1, *_WIDTHS), _WIDTHS, (1, 2, 2), strict=False)
        )
        self.head = nn.Conv2d(_WIDTHS[-1], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        for level in self.levels:
            image = level(image)
        return torch.as_tensor(self.head(image))

    def features(self, image: Tensor) -> Tensor:
        """How much of each feature of each level is in an image, ``(B, D)``: the fine levels see how sharp it is."""
        found = []
        for level in self.levels:
            image = level(image)
            found.append(image.mean(dim=(2, 3)))
        return torch.cat(found, dim=1)


def slice_features(source: Source, *, classes: int = 8, steps: int = 300, seed: int = 0) -> Features:
    """A reader trained on the source's real training slices and their labels, as a function of images ``(N, 1, H, W)``.

    Features ``(N, D)`` have mean 0 over real slices and variances near 1. It has never seen a generated image.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    reader = SliceReader(classes)
    optimizer = torch.optim.Adam(reader.parameters(), lr=2e-3)
    for _ in range(steps):
        batch = source.draw(rng, 16, "train", "single")
        logits = reader(batch["A"])
        tissue = one_hot(batch["label_A"][:, 0], classes).movedim(-1, 1).float()
        loss = cross_entropy(logits, adaptive_avg_pool2d(tissue, (logits.shape[2], logits.shape[3])))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    reader.eval()

    @torch.no_grad()
    def read(images: Tensor) -> NDArray[np.float64]:
        parts = torch.split(images, 64)
        return torch.cat([reader.features(part) for part in parts]).double().numpy()

    known = read(source.draw(rng, 512, "train", "single")["A"])
    mean, spread = known.mean(axis=0), known.std(axis=0)
    spread += 0.1 * spread.mean()  # else a feature that is hardly ever there would count as much as all others
    return lambda images: np.asarray((read(images) - mean) / spread)
