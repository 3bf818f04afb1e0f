"""Noise as samples of any shape, for trainings in which only the bookkeeping counts: a source by its dotted name."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medgan.data.cases import Split
from medgan.data.source import Pairing, Source


class Noise(Source):
    """Uniform noise with labels and three classes."""

    def __init__(
        self,
        *,
        image_shape: Annotated[tuple[int, ...], Field(description="(C, *S)")] = (1, 8, 8),
        labels: Annotated[bool, Field(description="whether there are labels")] = True,
        twins: Annotated[bool, Field(description="whether a batch is its first half twice")] = False,
    ) -> None:
        self.image_shape = self.image_shape_B = image_shape
        self.labels, self.twins, self.num_classes = labels, twins, 3
        self.pairings = frozenset({"single", "paired", "unpaired"})

    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        shape = (count // 2 if self.twins else count, *self.image_shape)
        domains = "A" if pairing == "single" else "AB"
        drawn = {key: torch.from_numpy(rng.uniform(-0.9, 1, shape).astype(np.float32)) for key in domains}
        for key in domains:
            drawn[f"class_{key}"] = torch.from_numpy(rng.integers(3, size=shape[0]))
            if self.labels:
                drawn[f"label_{key}"] = torch.from_numpy(rng.integers(3, size=(shape[0], 1, *shape[2:])))
        return {key: torch.cat([value, value]) for key, value in drawn.items()} if self.twins else drawn
