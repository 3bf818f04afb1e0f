"""What is usual of organs in translations of held-out cases, and how far from it a case is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from medgan.metrics.anatomy import OrganReading

Verdict = Literal["pass", "look", "fail"]
Readings = Sequence[OrganReading]
_LEAST_LOOK = 4.0  # usual spreads
_NORMAL_95 = 1.645  # standard deviations below which 95 % of a normal distribution lie


class _Measure(NamedTuple):
    """Which side is bad, and the least spread that is taken for real; of intensities in percent of the range."""

    side: Literal["low", "high", "both"]
    least: float
    is_intensity: bool = False


MEASURES: dict[str, _Measure] = {
    "dice": _Measure("low", 0.02),
    "volume_change_percent": _Measure("both", 3.0),
    "shift_mm": _Measure("high", 0.5),
    "missing": _Measure("high", 0.25),
    "extra": _Measure("high", 0.25),
    "spot_percent": _Measure("high", 5.0),
    "displacement_mm": _Measure("high", 0.5),
    "intensity_low": _Measure("both", 0.2, True),
    "intensity": _Measure("both", 0.2, True),
    "intensity_high": _Measure("both", 0.2, True),
    "spot_low": _Measure("low", 0.2, True),
    "spot_high": _Measure("high", 0.2, True),
}


@dataclass(frozen=True)
class Usual:
    """One measure of one organ over held-out cases.

    Attributes:
        middle: the median.
        below, above: usual distance from it on either side.
        count: cases that have a value.
    """

    middle: float
    below: float
    above: float
    count: int


@dataclass(frozen=True)
class Limits:
    """What is usual, and from which distance a case is looked at.

    Attributes:
        usual: by label and measure.
        look: score from which a case is to be looked at.
        fail: score from which it has failed.
        cases: how many they were learnt on.
    """

    usual: Mapping[int, Mapping[str, Usual]]
    look: float
    fail: float
    cases: int

    def verdict(self, score: float) -> Verdict:
        """What a score means."""
        return "fail" if score >= self.fail else "look" if score >= self.look else "pass"


@dataclass(frozen=True)
class OrganVerdict:
    """How unusual one organ of a case is.

    Attributes:
        reading: of the organ.
        score: distance of its worst measure from the median, in usual spreads; 0 or more.
        measure: the worst one; empty where none is on its bad side.
    """

    reading: OrganReading
    score: float
    measure: str


def learn_limits(cases: Sequence[Readings], intensity_range: float) -> Limits:
    """Limits from the readings of held-out cases that nothing is known to be wrong with.

    The usual distance on a side is the largest of: the distance of the 5th or 95th percentile over 1.645, the median
    absolute deviation times 1.4826 (both are the standard deviation of normal values), and a least spread for each
    measure, below which a difference is not worth a look. It is widened by 1 + 2 / n, as few cases know little. A case
    is looked at from a score of 4, or of the 95th percentile of what each held-out case scores by the limits of the
    others; it fails at twice that.

    Args:
        cases: one or more.
        intensity_range: width of the target's typical range, stored units.

    Raises:
        ValueError: no cases.
    """
    if not cases:
        raise ValueError("no cases; limits are learnt on one or more")
    usual = _usual(cases, intensity_range)
    look = _LEAST_LOOK
    if len(cases) > 2:
        others = [_usual([*cases[:index], *cases[index + 1 :]], intensity_range) for index in range(len(cases))]
        scores = [case_score(judge(case, rest)) for case, rest in zip(cases, others, strict=True)]
        look = max(look, float(np.percentile(scores, 95)))
    return Limits(usual, look, 2 * look, len(cases))


def judge(readings: Readings, usual: Mapping[int, Mapping[str, Usual]]) -> list[OrganVerdict]:
    """How unusual each organ is, the worst first. An organ that no held-out case has is unusual by being there."""
    verdicts = []
    for reading in readings:
        distances = {name: _distance(reading, name, found) for name, found in usual.get(reading.label, {}).items()}
        if not distances:
            distances = {"extra": 2 * _LEAST_LOOK}
        worst = max(distances, key=distances.__getitem__)
        verdicts.append(OrganVerdict(reading, distances[worst], worst if distances[worst] > 0 else ""))
    return sorted(verdicts, key=lambda verdict: verdict.score, reverse=True)


def case_score(verdicts: Sequence[OrganVerdict]) -> float:
    """The score of a case: that of its worst organ."""
    return max((verdict.score for verdict in verdicts), default=0.0)


def _usual(cases: Sequence[Readings], intensity_range: float) -> dict[int, dict[str, Usual]]:
    labels = sorted({reading.label for case in cases for reading in case})
    found: dict[int, dict[str, Usual]] = {}
    for label in labels:
        readings = [reading for case in cases for reading in case if reading.label == label]
        for name, measure in MEASURES.items():
            values = [float(getattr(reading, name)) for reading in readings]
            values = [value for value in values if math.isfinite(value)]
            least = measure.least * (intensity_range / 100 if measure.is_intensity else 1)
            if values:
                found.setdefault(label, {})[name] = _spread(values, least)
    return found


def _spread(values: Sequence[float], least: float) -> Usual:
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    typical = 1.4826 * float(np.median(np.abs(np.array(values) - middle)))
    wider = 1 + 2 / len(values)
    below, above = (wider * max(far / _NORMAL_95, typical, least) for far in (middle - low, high - middle))
    return Usual(middle, below, above, len(values))


def _distance(reading: OrganReading, name: str, usual: Usual) -> float:
    """How far on the bad side, in usual spreads; 0 on the good side and where there is nothing to measure."""
    value, side = float(getattr(reading, name)), MEASURES[name].side
    if not math.isfinite(value):
        return 0.0
    below, above = (usual.middle - value) / usual.below, (value - usual.middle) / usual.above
    return max(0.0, below if side != "high" else 0.0, above if side != "low" else 0.0)
