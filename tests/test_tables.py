"""Tables of tissues and of organ volumes."""

import math
from dataclasses import asdict

import pytest

from medgan.metrics.statistics import bland_altman, summarize
from medgan.metrics.tables import TISSUE_COLUMNS, VOLUME_COLUMNS, tissue_rows, volume_rows


def test_each_tissue_has_its_rows_together_and_figures_of_presets_are_no_tissues() -> None:
    one, two = asdict(summarize([1.0, 2.0])), asdict(summarize([3.0, 4.0]))
    metrics = {"mae": one, "synthrad2023/mae": one, "mae/bone": one, "mae/liver": two, "dice/liver": one}
    rows = list(tissue_rows("AB", {"translation": metrics}))
    assert [(row["tissue"], row["metric"], row["mean"]) for row in rows] == [
        ("bone", "mae", 1.5),
        ("liver", "mae", 3.5),
        ("liver", "dice", 1.5),
    ]
    assert tuple(rows[0]) == TISSUE_COLUMNS


def test_volumes_agree_as_bland_and_altman_say_and_patients_without_the_organ_are_counted() -> None:
    cases = [
        {"volume_ml/liver": 11.0, "reference_volume_ml/liver": 10.0},
        {"volume_ml/liver": 23.0, "reference_volume_ml/liver": 20.0},
        {"volume_ml/liver": None, "reference_volume_ml/liver": math.nan},
        {"mae": 1.0},
    ]
    (row,) = volume_rows("AB", {"translation": cases})
    expected = bland_altman([11, 23], [10, 20])
    assert tuple(row) == VOLUME_COLUMNS
    assert (row["organ"], row["bias"], row["count"], row["without"]) == ("liver", 2, 2, 2)
    assert row["upper"] == pytest.approx(expected.upper)
    assert not list(volume_rows("AB", {"translation": [{"mae": 1.0}]}))
