"""Handwritten digits that come with scikit-learn: 1797 images of ten classes, no download."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from medgan.data.cases import Split
from medgan.data.source import Pairing, Source

SHARES: dict[Split, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}


class Digits(Source):
    """The digits 0 to 9 of scikit-learn, 70 % of each class to learn from, 10 % for validation, 20 % for the test.

    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998: bitmaps of 32 x 32 counted in blocks
    of 4 x 4, so that 8 x 8 is what was measured and a larger `size` is a smooth (bicubic) enlargement of it.
    """

    pairings: frozenset[Pairing] = frozenset({"single"})
    num_classes = 10

    def __init__(
        self,
        *,
        size: Annotated[Literal[8, 16, 32], Field(description="pixels along each side; 8 is the original")] = 8,
        split_seed: Annotated[int, Field(ge=0, description="of who is in which split")] = 0,
    ) -> None:
        from sklearn.datasets import load_digits

        pixels, classes = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels.astype(np.float32).reshape(-1, 1, 8, 8) / 8.0 - 1.0)
        if size > 8:
            images = interpolate(images, size=(size, size), mode="bicubic", align_corners=False).clamp(-1.0, 1.0)
        self.image_shape = (1, size, size)
        self.images, self.classes = images, torch.from_numpy(classes.astype(np.int64))
        self.items = _stratified(classes, split_seed)

    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        """``A`` (count, 1, size, size) in [-1, 1] and ``class_A`` (count,); none comes twice before all came once."""
        items = self.items[split]
        laps = -(-count // len(items))
        drawn = torch.from_numpy(np.concatenate([rng.permutation(items) for _ in range(laps)])[:count])
        return {"A": self.images[drawn], "class_A": self.classes[drawn]}


def _stratified(classes: NDArray[np.int_], seed: int) -> dict[Split, NDArray[np.int64]]:
    """Item numbers by split; every class is cut at the same shares of its own items, shuffled by the seed."""
    parts: dict[Split, list[NDArray[np.int64]]] = {split: [] for split in SHARES}
    cuts = np.cumsum(list(SHARES.values()))[:-1]
    for value in np.unique(classes):
        mine = np.random.default_rng((seed, int(value))).permutation(np.flatnonzero(classes == value))
        for split, part in zip(SHARES, np.split(mine, np.round(cuts * len(mine)).astype(int)), strict=True):
            parts[split].append(part)
    return {split: np.concatenate(found) for split, found in parts.items()}
