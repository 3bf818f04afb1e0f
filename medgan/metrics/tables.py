"""Tables of an evaluation as plain rows: each tissue or organ by itself, and how well volumes of organs agree.

The rows of single patients are those of ``cases.csv``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from medgan.metrics.presets import PRESETS
from medgan.metrics.statistics import Agreement, Summary, bland_altman

TISSUE_COLUMNS = ("direction", "method", "tissue", "metric", *(field.name for field in fields(Summary)))
VOLUME_COLUMNS = ("direction", "method", "organ", *(field.name for field in fields(Agreement)))

Case = Mapping[str, float | None]


def tissue_rows(direction: str, methods: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """A row with the columns `TISSUE_COLUMNS` for each metric of each tissue, region or organ; tissue by tissue.

    Args:
        direction: what the rows say of it.
        methods: by method and metric the fields of a `Summary`; ``mae/liver`` is a metric of a tissue.
    """
    for method, metrics in methods.items():
        tissues = dict.fromkeys(tissue for name in metrics if (tissue := _tissue(name)))
        for tissue in tissues:
            for name, summary in metrics.items():
                if _tissue(name) == tissue:
                    facts = {"direction": direction, "method": method, "tissue": tissue}
                    yield {**facts, "metric": name.partition("/")[0], **summary}


def volume_rows(direction: str, cases: Mapping[str, Sequence[Case]]) -> Iterator[dict[str, Any]]:
    """A row with the columns `VOLUME_COLUMNS` for each organ: Bland-Altman of its volume in ml.

    Args:
        direction: what the rows say of it.
        cases: by method the scores of each patient, with ``volume_ml/<organ>`` and ``reference_volume_ml/<organ>``;
            None or NaN where a patient has no such organ.
    """
    for method, scores in cases.items():
        organs = dict.fromkeys(
            name.partition("/")[2] for case in scores for name in case if name.startswith("volume_ml/")
        )
        for organ in organs:
            first, second = (
                [_number(case.get(f"{kind}/{organ}")) for case in scores]
                for kind in ("volume_ml", "reference_volume_ml")
            )
            facts = {"direction": direction, "method": method, "organ": organ}
            yield facts | asdict(bland_altman(first, second))


def _tissue(name: str) -> str:
    """What a metric's name says after its stroke, but for figures of presets."""
    kind, _, tissue = name.partition("/")
    return "" if kind in PRESETS else tissue


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
