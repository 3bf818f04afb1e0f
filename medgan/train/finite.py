"""The first step after which something is not finite, found without asking the device at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medgan.recipes import Recipe
from medgan.train.ranks import Ranks


class Fault(NamedTuple):
    """What was not finite: after which step, on which rank, and the loss ("G/cycle_A") or "weights"."""

    step: int
    rank: int
    term: str


class NotFiniteError(ArithmeticError):
    """A training has met a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.term} not finite at step {fault.step}")
        self.fault = fault


class FiniteCheck:
    """Notes of every step what is finite, on the device, and reads the notes when the loop has to wait anyway."""

    def __init__(self, ranks: Ranks, recipe: Recipe) -> None:
        self.ranks, self._parameters = ranks, list(recipe.parameters())
        self._notes: list[tuple[int, list[str], Tensor]] = []

    def note(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """The losses of a step and the weights after it."""
        terms = [loss.detach().float() for loss in losses.values()]
        norm = nn.utils.get_total_norm([p.detach() for p in self._parameters])
        self._notes.append((step, [*losses, "weights"], torch.stack([*terms, norm]).isfinite()))

    def refuse(self) -> None:
        """Look at the notes since the last time; all ranks do so together.

        Raises:
            NotFiniteError: the earliest fault of any rank.
        """
        found = self._first()
        self._notes = []
        faults = [fault for fault in self.ranks.gathered(found) if fault]
        earliest = self.ranks.of_the_first(min(faults, default=None))
        if earliest:
            raise NotFiniteError(Fault(*earliest))

    def _first(self) -> Fault | None:
        if not self._notes:
            return None
        places = [(step, name) for step, names, _ in self._notes for name in names]
        is_finite = torch.cat([flags for _, _, flags in self._notes]).tolist()
        broken = (place for place, is_fine in zip(places, is_finite, strict=True) if not is_fine)
        step, name = next(broken, (0, ""))
        return Fault(step, self.ranks.rank, name) if step else None
