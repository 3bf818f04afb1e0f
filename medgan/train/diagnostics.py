"""What goes wrong in adversarial training, told from numbers that any recipe leaves: one word for each failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

VANISHED = 0.01  # of the generator's early gradient
COLLAPSED = 0.5  # of the real batch's diversity
DIVERGED = 100.0  # times a loss's early size
_EARLY, _LATE = 5, 3  # lines of the log that are compared


def diversity(images: Tensor) -> Tensor:
    """The mean distance between two samples of a batch ``(B, ...)``, B at least 2, root mean square per number."""
    flat = images.detach().flatten(1).float()
    distances = torch.pdist(flat) / math.sqrt(flat.shape[1])
    return distances.mean()


class Watch:
    """Follows a training's log and names what is going wrong, with the step from which it did.

    Compared with the log's first lines: a generator's gradient that has all but vanished (the discriminator wins), and
    a loss that has grown out of all measure (the losses diverge). Compared with real images: samples that are far more
    alike than these are (the samples collapse).
    """

    def __init__(self) -> None:
        self.since: dict[str, int] = {}
        self._lines: dict[str, list[float]] = {}

    def see(self, step: int, line: dict[str, float]) -> None:
        """One line of the log: losses by "player/term", ``watch/gradient_<player>``, ``watch/diversity``."""
        for name, value in line.items():
            self._lines.setdefault(name, []).append(value)
        self._keep("the discriminator wins: the generator's gradient has all but vanished", step, self._is_vanished())
        self._keep("the losses diverge", step, self._is_diverged())
        self._keep("the samples collapse: they are far more alike than real ones", step, self._is_collapsed())

    def verdict(self) -> str:
        """One line: what is wrong at the end and since when, or that nothing is."""
        if not self.since:
            return "no sign of a vanishing generator gradient, of collapse or of divergence"
        return "; ".join(f"{what} (since step {step})" for what, step in self.since.items())

    def _keep(self, what: str, step: int, is_so: bool) -> None:
        if is_so:
            self.since.setdefault(what, step)
        else:
            self.since.pop(what, None)

    def _is_vanished(self) -> bool:
        early, late = _ends(self._lines.get("watch/gradient_G", []))
        return late < VANISHED * early

    def _is_diverged(self) -> bool:
        losses = [values for name, values in self._lines.items() if not name.startswith("watch/")]
        ends = [_ends([abs(value) for value in values]) for values in losses]
        return any(late > DIVERGED * max(early, 0.1) for early, late in ends)

    def _is_collapsed(self) -> bool:
        values = self._lines.get("watch/diversity", [])
        return len(values) >= _LATE and median(values[-_LATE:]) < COLLAPSED


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and of the last lines; the same number twice while there are too few to compare."""
    if len(values) < _EARLY + _LATE:
        return 1.0, 1.0
    return median(values[:_EARLY]), median(values[-_LATE:])
