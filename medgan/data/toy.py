"""Points in the plane around known centres: what a generator forgets can be counted."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from medgan.data.cases import Split
from medgan.data.source import Pairing, Source

Std = Annotated[float, Field(gt=0, description="standard deviation of each Gaussian along each axis")]


class _Mixture(Source):
    """Equally likely round Gaussians. Every draw is new, so no split shares points with another.

    Attributes:
        centres: (K, 2) means.
        std: of each, along each axis.
    """

    pairings: frozenset[Pairing] = frozenset({"single"})
    image_shape = (2,)
    centres: NDArray[np.float64]
    std: float

    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        """``A`` (count, 2), unbounded."""
        modes = rng.integers(len(self.centres), size=count)
        points = self.centres[modes] + self.std * rng.standard_normal((count, 2))
        return {"A": torch.from_numpy(points.astype(np.float32))}


class Ring(_Mixture):
    """Gaussians on a circle: as 2D-ring in Lin et al., "PacGAN", 2018, section 4.1, after Srivastava et al. 2017."""

    def __init__(
        self,
        *,
        modes: Annotated[int, Field(ge=2, description="Gaussians")] = 8,
        radius: Annotated[float, Field(gt=0, description="of the circle that their centres lie on")] = 1.0,
        std: Std = 0.01,
    ) -> None:
        angles = 2 * math.pi * np.arange(modes) / modes
        self.centres = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self.std = std


class Grid(_Mixture):
    """Gaussians on a square lattice: as 2D-grid in Lin et al., "PacGAN", 2018, section 4.1 (Srivastava et al. 2017)."""

    def __init__(
        self,
        *,
        side: Annotated[int, Field(ge=2, description="Gaussians along each side of the square")] = 5,
        spacing: Annotated[float, Field(gt=0, description="between neighbouring centres")] = 2.0,
        std: Std = 0.05,
    ) -> None:
        ticks = spacing * (np.arange(side) - (side - 1) / 2)
        self.centres = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
        self.std = std
