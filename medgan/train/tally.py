"""What gathers between two lines of the log: losses, left on the device until somebody asks, and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Tally:
    """The mean of every term over the steps in which it stood; a term may be absent from some of them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """The losses of one step."""
        for name, loss in losses.items():
            value = loss.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """The means so far, scalars; counting starts anew."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """What a resumed training counts on from."""
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "counts": dict(self._counts)}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """The reverse of `state`."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])


class Clock:
    """How long steps take, looks and checkpoints included, and how much of that is waiting for data."""

    def __init__(self, step: int, waited_s: float) -> None:
        self._step, self._waited_s, self._since = step, waited_s, time.perf_counter()

    def lap(self, step: int, waited_s: float) -> dict[str, float]:
        """Since the last lap: ``seconds`` per step, and the share of them that was ``waiting``."""
        now = time.perf_counter()
        took, waited = now - self._since, waited_s - self._waited_s
        facts = {"seconds": took / max(step - self._step, 1), "waiting": waited / took if took else 0.0}
        self._step, self._waited_s, self._since = step, waited_s, now
        return facts
