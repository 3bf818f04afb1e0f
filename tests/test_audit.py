"""What is usual of organs on held-out cases, what is far from it, and the audit of a run from the command line."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from test_translate import SHAPE, TINY_NET, save_run

from medgan.cli import run as command
from medgan.config import Component
from medgan.data.phantom import TISSUES, make_phantom
from medgan.metrics.anatomy import OrganReading
from medgan.metrics.limits import case_score, judge, learn_limits
from medgan.metrics.roundtrip import cycle_residual, errors_under_noise
from medgan.recipes import SegCycleGAN
from medgan.report.quality import quality_html
from medgan.translate.audit_table import Audited, write_audit
from medgan.translate.usual import limits_from_dict, limits_to_dict

USUAL = OrganReading(1, 0.9, 100.0, 0.0, 0.0, 1.0, 0, 0, 20.0, 40.0, 50.0, 60.0, 0.0, 0.0, 0.0, 7)
NAMES = {1: "liver", 2: "bone"}


def held_out(count: int = 20) -> list[list[OrganReading]]:
    rng = np.random.default_rng(0)
    return [[replace(USUAL, dice=0.9 + 0.01 * a, intensity=50 + 4 * b)] for a, b in rng.normal(size=(count, 2))]


def score(**changes: Any) -> float:
    return case_score(judge([replace(USUAL, **changes)], learn_limits(held_out(), 1000.0).usual))


# What is usual


def test_a_case_like_the_others_passes_and_a_lost_organ_fails() -> None:
    limits = learn_limits(held_out(), 1000.0)
    assert limits.cases == 20
    assert limits.look == 4
    assert limits.verdict(case_score(judge([USUAL], limits.usual))) == "pass"
    lost = replace(USUAL, dice=0.0, volume_change_percent=-100.0, shift_mm=math.nan, missing=1)
    (worst,) = judge([lost], limits.usual)
    assert limits.verdict(worst.score) == "fail"
    assert worst.measure == "dice"
    assert [limits.verdict(value) for value in (3.9, 4.0, 7.9, 8.0)] == ["pass", "look", "look", "fail"]


def test_only_the_bad_side_counts() -> None:
    assert score(dice=1.0) < 1
    assert score(dice=0.7) > 4
    assert score(shift_mm=0.0) < 1
    assert score(shift_mm=8.0) > 4
    assert score(intensity=-100.0) > 4
    assert score(intensity=200.0) > 4
    assert score(extra=1) == pytest.approx(1 / (0.25 * 1.1))


def test_a_spread_is_never_below_the_least_and_few_cases_are_trusted_less() -> None:
    one, two = learn_limits([[USUAL]], 1000.0), learn_limits([[USUAL]] * 2, 1000.0)
    assert one.usual[1]["dice"].below == pytest.approx(0.02 * 3)
    assert two.usual[1]["dice"].below == pytest.approx(0.02 * 2)
    assert one.usual[1]["intensity"].above == pytest.approx(2 * 3)  # a fifth of a percent of the range
    with pytest.raises(ValueError, match="limits are learnt on one or more"):
        learn_limits([], 1000.0)


def test_spreads_are_those_of_the_cases() -> None:
    wide = [[replace(USUAL, shift_mm=float(mm))] for mm in range(101)]
    usual = learn_limits(wide, 1000.0).usual[1]["shift_mm"]
    assert usual.middle == 50
    assert usual.above == pytest.approx(1.4826 * 25 * (1 + 2 / 101))


def test_an_organ_that_no_held_out_case_has_is_looked_at() -> None:
    verdicts = judge([USUAL, replace(USUAL, label=2)], learn_limits(held_out(), 1000.0).usual)
    assert [verdict.reading.label for verdict in verdicts] == [2, 1]
    assert verdicts[0].score == 8


def test_limits_come_back_from_json() -> None:
    limits = learn_limits(held_out(), 1000.0)
    assert limits_from_dict(json.loads(json.dumps(limits_to_dict(limits, NAMES)))) == limits


def test_the_worst_case_and_its_worst_organ_stand_first_and_other_rows_are_kept(tmp_path: Path) -> None:
    limits, path = learn_limits(held_out(), 1000.0), tmp_path / "audit.csv"

    def audited(subject: str, *readings: OrganReading) -> Audited:
        return Audited(subject, judge(readings, limits.usual))

    bad = replace(USUAL, dice=0.1, shift_mm=math.nan)
    write_audit(path, [audited("b", USUAL), audited("a", USUAL, bad)], limits, NAMES)
    write_audit(path, [audited("b", bad), audited("c", USUAL)], limits, NAMES)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == ["a", "a", "b", "c"]
    assert [row["verdict"] for row in rows] == ["fail", "fail", "fail", "pass"]
    assert (rows[0]["organ"], rows[0]["worst"], rows[0]["slice"], rows[0]["shift_mm"]) == ("liver", "dice", "7", "")


# The way back


def test_a_way_back_that_reads_a_faint_pattern_breaks_under_noise() -> None:
    given = torch.rand(1, 1, 8, 8, 8) - 0.5
    made, body = 0.01 * given, torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    hidden = errors_under_noise(lambda image, _: 100 * image, given, made, body, [0.0, 0.01, 0.02])
    assert hidden[0] == pytest.approx(0, abs=1e-5)
    assert hidden[1] == pytest.approx(100 * 0.01 * math.sqrt(2 / math.pi), rel=0.1)  # mean of |N(0, 1)|
    assert hidden[2] == pytest.approx(2 * hidden[1], rel=1e-3)
    honest = errors_under_noise(lambda image, _: image, given, given, body, [0.0, 0.01])
    assert honest[1] == pytest.approx(hidden[1] / 100, rel=1e-3)


def test_the_residual_is_that_in_the_body() -> None:
    given, body = torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    body[:, :, 0] = True
    residual = cycle_residual(lambda made, _: made - 0.5, given, given, body)
    assert residual[body].tolist() == [0.5] * 4
    assert residual[~body].tolist() == [0.0] * 4


# From the command line


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A run over two validation and two test bodies of each modality, with weights that nobody trained."""
    torch.manual_seed(0)
    nets = {"discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1}, "generator_net": TINY_NET}
    options = {"num_classes": 8, "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1}, **nets}
    built = {key: Component.model_validate(o) if isinstance(o, dict) else o for key, o in options.items()}
    run = save_run(tmp_path / "run", SegCycleGAN(**built), "seg_cyclegan", options)  # type: ignore[arg-type]
    rows = [["subject", "domain", "image", "label", "split"]]
    for index, split in enumerate(["train", "validation", "validation", "test"]):
        phantom = make_phantom(index, SHAPE)
        for side, array in (("A", phantom.ct), ("B", phantom.mr)):
            name = f"{side}{index}"
            nib.save(nib.Nifti1Image(array, phantom.affine), tmp_path / f"{name}.nii.gz")
            nib.save(nib.Nifti1Image(phantom.labels, phantom.affine), tmp_path / f"{name}_labels.nii.gz")
            rows.append([name, side, f"{name}.nii.gz", f"{name}_labels.nii.gz", split])
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    domains = {"A": {"name": "ct", "modality": "ct"}, "B": {"name": "mr", "modality": "mr"}}
    values = {
        "data": {"table": "../cases.csv", **domains, "classes": TISSUES},
        "recipe": {"name": "seg_cyclegan", **options},
        "train": {"augment": {"flip_axes": [0]}},
        "translate": {"precision": "float32", "features": False},
    }
    run.experiment_yaml.write_text(json.dumps(values))  # JSON is YAML
    return run.path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_audited_and_limits_are_learnt_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["translate", str(study), "--direction", "AB", "--audit", "--device", "cpu"]
    assert command(arguments) == 0, capsys.readouterr().err
    folder = study / "translate" / "AB"
    rows = table(folder / "audit.csv")
    assert {row["subject"] for row in rows} == {"A3"}
    assert {row["organ"] for row in rows} <= set(TISSUES.values())
    assert {row["verdict"] for row in rows} <= {"pass", "look", "fail"}
    limits = json.loads((folder / "audit.json").read_text())
    assert limits["cases"] == 2
    assert limits["hidden"]["cases"] == 2
    assert len(limits["hidden"]["error"]) == len(limits["hidden"]["noise"]) == 6
    assert "Way back under noise, AB" in quality_html(study, None)
    written = (folder / "audit.json").stat().st_mtime_ns
    assert command(arguments) == 0
    assert (folder / "audit.json").stat().st_mtime_ns == written
    assert table(folder / "audit.csv") == rows


def test_files_are_audited_beside_their_translations(study: Path, tmp_path: Path) -> None:
    inputs, output = [str(tmp_path / "A0.nii.gz"), str(tmp_path / "A3.nii.gz")], tmp_path / "out"
    arguments = ["translate", str(study), *inputs, "--output", str(output), "--direction", "AB", "--audit"]
    assert command([*arguments, "--device", "cpu"]) == 0
    assert {row["subject"] for row in table(output / "audit.csv")} == {"A0", "A3"}


def test_what_an_audit_lacks_is_told(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["translate", str(study), "--direction", "AB", "--audit", "--device", "cpu"]
    values = json.loads((study / "experiment.yaml").read_text())
    rows = (study.parent / "cases.csv").read_text()
    (study.parent / "cases.csv").write_text(rows.replace("validation", "train"))
    assert command(arguments) == 1
    assert "no validation case in domain A; raise data.validation_fraction" in capsys.readouterr().err
    (study.parent / "cases.csv").write_text(rows)
    values["data"]["classes"] = {}
    (study / "experiment.yaml").write_text(json.dumps(values))
    assert command(arguments) == 1
    assert "data.classes names no organs" in capsys.readouterr().err
