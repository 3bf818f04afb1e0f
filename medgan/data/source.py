"""What a source of samples is: whole samples by number, made up or read from somewhere, without preparation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from medgan.config import InputError
from medgan.data.cases import SPLITS, Split

Pairing = Literal["unpaired", "paired", "single"]


class Source(ABC):
    """Samples to learn from that need no case table.

    Attributes:
        image_shape: (C, *S) of a sample of A, known from the options alone; (2,) for points in the plane.
        image_shape_B: (C, *S) of a sample of B; absent where there is no B.
        num_classes: of ``class_A``, or of ``class_B`` where there is a B; 0 without classes.
        pairings: what it can serve.
    """

    image_shape: tuple[int, ...]
    image_shape_B: tuple[int, ...]  # noqa: N815 (the domain's letter)
    num_classes: int = 0
    pairings: frozenset[Pairing] = frozenset({"single"})

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        """`count` samples of a split: a function of the generator's state and the arguments alone.

        Keys are those of a batch: ``A``, ``B`` (count, C, *S) float32 in [-1, 1] (points: unbounded), ``class_A``,
        ``class_B`` (count,) int64, ``label_A``, ``label_B`` (count, 1, *S) int64. What one split shows, no other does.
        """


class SourceDataset(Dataset[dict[str, Tensor]]):
    """Whole batches of a source, one per training step. Batch n is a function of the seed and n alone.

    Each rank takes its part of the batch that all ranks share. Use it with ``DataLoader(dataset, batch_size=None)``.
    """

    def __init__(
        self,
        source: Source,
        *,
        pairing: Pairing,
        split: Split,
        batch_size: int,
        seed: int,
        num_steps: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            source: what is drawn from.
            pairing: how A and B belong together.
            split: whose samples.
            batch_size: samples of this rank in a step.
            seed: of everything random here.
            num_steps: length of the dataset.
            rank: of this process.
            world_size: number of processes.

        Raises:
            InputError: the source cannot serve this pairing.
        """
        if pairing not in source.pairings:
            able = " or ".join(sorted(source.pairings))
            raise InputError(f"data: these samples are {able}, the recipe learns from {pairing} ones; use another")
        self.source, self.pairing, self.split = source, pairing, split
        self.batch_size, self.seed, self.num_steps = batch_size, seed, num_steps
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of {self.num_steps}")
        rng = np.random.default_rng((self.seed, step, SPLITS.index(self.split)))
        whole = self.source.draw(rng, self.batch_size * self.world_size, self.split, self.pairing)
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return {key: value[mine] for key, value in whole.items()}
