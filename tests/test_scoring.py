"""What a run's cases are scored by, as far as its options choose it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fake_run import make_run

from medgan.config import InputError, validate
from medgan.evaluate import evaluate_run
from medgan.evaluate.scoring import EvaluateOptions

CHALLENGES = ["synthrad2023", "synthrad2025_metrics", "synthrad2025_evaluation"]


def test_presets_stand_beside_the_figures_of_medgan(tmp_path: Path) -> None:
    options = EvaluateOptions.model_validate({"presets": ["default", *CHALLENGES]})
    scores = evaluate_run(make_run(tmp_path, error_hu=20), options)["directions"]["BA"]["methods"]["translation"]
    assert scores["mae"]["mean"] == 20
    for name, span in zip(CHALLENGES, (4024, 4024, 4095), strict=True):
        assert scores[f"{name}/mae"]["mean"] == 20
        assert scores[f"{name}/psnr"]["mean"] == pytest.approx(20 * np.log10(span / 20))
    assert 0.5 < scores["synthrad2023/ssim"]["mean"] < 1
    assert 0.5 < scores["synthrad2025_metrics/ms_ssim"]["mean"] < 1


def test_presets_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    scores = evaluate_run(make_run(tmp_path, error_hu=20))["directions"]["BA"]["methods"]["translation"]
    assert not [name for name in scores if name.startswith("synthrad")]


def test_a_preset_that_is_misspelt_names_the_right_ones() -> None:
    with pytest.raises(InputError, match=r"presets.*synthrad2025_metrics"):
        validate(EvaluateOptions, {"presets": ["synthrad2024"]}, "evaluate")


def test_volumes_of_organs_are_kept_for_every_patient(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    evaluate_run(run)
    with (run / "evaluate" / "cases.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "translation"]
    for row in rows:
        assert float(row["volume_ml/bone"]) == float(row["reference_volume_ml/bone"]) > 0
        assert float(row["volume_difference_ml/bone"]) == float(row["volume_difference_percent/bone"]) == 0
        assert float(row["surface_dice/bone"]) == float(row["surface_dice"]) == 1
    with (run / "evaluate" / "volumes.csv").open() as file:
        agreement = {row["organ"]: row for row in csv.DictReader(file) if row["method"] == "translation"}
    assert float(agreement["bone"]["bias"]) == 0
    assert int(agreement["bone"]["count"]) == len(rows)
    with (run / "evaluate" / "tissues.csv").open() as file:
        assert {"bone"} <= {row["tissue"] for row in csv.DictReader(file)}
