"""``audit.csv``: a row for each case and organ, the worst case first and in it the worst organ."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.metrics.anatomy import OrganReading
from medgan.metrics.limits import Limits, OrganVerdict, case_score

COLUMNS = ("subject", "verdict", "score", "organ", "organ_score", "worst", "slice")
MEASURED = tuple(name for name in OrganReading.__dataclass_fields__ if name not in ("label", "slice"))


@dataclass(frozen=True)
class Audited:
    """One case: its organs, the most unusual first.

    Attributes:
        subject: whose translation it is.
        organs: with their scores.
    """

    subject: str
    organs: Sequence[OrganVerdict]

    @property
    def score(self) -> float:
        """That of the worst organ, in usual spreads."""
        return case_score(self.organs)


def write_audit(path: Path, cases: Iterable[Audited], limits: Limits, names: Mapping[int, str]) -> None:
    """Write the table, the worst case and in it the worst organ first; rows of other subjects that stand are kept."""
    rows = []
    for case in cases:
        facts = {"subject": case.subject, "verdict": limits.verdict(case.score), "score": f"{case.score:.2f}"}
        for organ in case.organs:
            values = {name: _text(getattr(organ.reading, name)) for name in MEASURED}
            told = {"organ": names.get(organ.reading.label, str(organ.reading.label)), "worst": organ.measure}
            told |= {"organ_score": f"{organ.score:.2f}", "slice": str(organ.reading.slice)}
            rows.append(facts | told | values)
    own = {row["subject"] for row in rows}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows += [row for row in csv.DictReader(file) if row.get("subject") not in own]
    rows.sort(key=lambda row: (-float(row["score"]), row["subject"], -float(row["organ_score"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*COLUMNS, *MEASURED), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _text(value: float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return str(value)
