"""Several sets of translations against each other, and what `medgan evaluate` refuses, through the command."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fake_run import AFFINE, anatomy, make_run, save

from medgan.cli import run
from medgan.config import InputError
from medgan.evaluate import EvaluateOptions, evaluate_several
from medgan.evaluate.comparison import compare, comparison_table

PATIENTS = 8


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight patients; `near` is 5 + i HU too dense, `far` 20 + 2i; `reference` and `mask` beside them."""
    monkeypatch.chdir(tmp_path)
    for i in range(PATIENTS):
        labels, ct, _ = anatomy(i)
        for name, error in (("near", 5 + i), ("far", 20 + 2 * i), ("reference", 0)):
            save(Path(name) / f"p{i}.nii.gz", ct + np.int16(error))
            save(Path(name) / f"p{i}_segmentation.nii.gz", labels)
        save(Path("mask") / f"p{i}.nii.gz", (labels > 0).astype(np.uint8))
    return tmp_path


def summary(values: dict[str, float], **changes: object) -> dict:
    cases = [{"subject": name, "methods": {"translation": {"mae": value}}} for name, value in values.items()]
    part = {"title": "MR to CT", "data_range": None, "cases": cases, "methods": {"translation": {"mae": {"mean": 0}}}}
    return {"options": {"mask": "body"}, "directions": {"BA": part}} | changes


def numbers(*values: float) -> dict[str, float]:
    return {f"p{i}": value for i, value in enumerate(values)}


def test_differences_are_paired_and_tested_by_wilcoxon() -> None:
    compared = compare({"x": summary(numbers(1, 2, 3, 4, 5, 6)), "y": summary(numbers(2, 4, 6, 8, 10, 12))})
    (pair,) = compared["directions"]["BA"]["metrics"]["mae"]["pairs"]
    assert (pair["first"], pair["second"]) == ("x", "y")
    assert pair["difference"]["mean"] == -3.5
    assert pair["difference"]["high"] < 0
    assert pair["p"] == pair["p_holm"] == pytest.approx(2 / 2**6)  # all six signs alike, two-sided


def test_three_sets_make_three_pairs_corrected_together() -> None:
    low, high = numbers(1, 2, 3, 4, 5, 6), numbers(2, 4, 6, 8, 10, 12)
    compared = compare({"x": summary(low), "y": summary(high), "z": summary(low)})
    pairs = compared["directions"]["BA"]["metrics"]["mae"]["pairs"]
    assert [pair["p"] for pair in pairs] == pytest.approx([1 / 32, 1, 1 / 32])
    assert [pair["p_holm"] for pair in pairs] == pytest.approx([3 / 32, 1, 3 / 32])


def test_cases_without_a_value_are_left_out_of_the_pair_and_counted() -> None:
    missing = numbers(1, 2, 3)
    missing["p1"] = None  # type: ignore[assignment]
    compared = compare({"x": summary(missing), "y": summary(numbers(2, 3, 4))})
    (pair,) = compared["directions"]["BA"]["metrics"]["mae"]["pairs"]
    assert (pair["difference"]["count"], pair["difference"]["without"]) == (2, 1)


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (summary({"p0": 1.0}), "y: no case p1, which x has"),
        (summary(numbers(1, 2, 3)), "x: no case p2, which y has"),
        (summary(numbers(1, 2), options={"mask": "none"}), "y: evaluate.mask differs from x's; set one value for all"),
        (summary(numbers(1, 2), directions={}), "y: has translated nothing, x BA"),
    ],
)
def test_sets_that_are_not_alike_are_refused(other: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        compare({"x": summary(numbers(1, 2)), "y": other})


def test_two_folders_are_compared_on_the_terminal_and_in_files(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "near", "far", "--reference", "reference", "--mask", "mask", "--output", "out"]) == 0
    shown = capsys.readouterr().out
    assert "near - far" in shown
    assert "p = 0.0078" in shown  # 2 / 2^8
    with Path("out/comparison.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(rows["mae"]["mean_first"]) == pytest.approx(5 + 3.5)
    assert float(rows["mae"]["difference"]) == pytest.approx(-18.5)
    assert float(rows["mae"]["p_holm"]) == pytest.approx(2 / 2**8)
    assert float(rows["dice"]["p"]) == 1
    compared = json.loads(Path("out/comparison.json").read_text())
    assert compared["names"] == ["near", "far"]
    assert compared["directions"]["prediction"]["metrics"]["mae"]["means"]["far"]["mean"] == pytest.approx(27)
    assert Path("out/near/cases.csv").is_file()
    assert Path("out/far/summary.json").is_file()


def test_a_preset_adds_its_figures_to_folders(folders: Path) -> None:
    arguments = ["evaluate", "near", "--reference", "reference", "--mask", "mask", "--output", "out"]
    assert run([*arguments, "--preset", "synthrad2023"]) == 0
    scores = json.loads(Path("out/summary.json").read_text())["directions"]["prediction"]["methods"]["translation"]
    assert scores["synthrad2023/mae"]["mean"] == pytest.approx(scores["mae"]["mean"])


def test_runs_are_compared_by_their_own_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path / name, error_hu=error) for name, error in (("x", 10), ("y", 30))]
    compared = evaluate_several(runs, tmp_path / "out", options=[EvaluateOptions()] * 2)
    assert compared["names"] == ["x/run", "y/run"]
    (pair,) = compared["directions"]["BA"]["metrics"]["mae"]["pairs"]
    assert pair["difference"]["mean"] == pytest.approx(-20)
    assert (runs[0] / "evaluate" / "summary.json").is_file()
    with pytest.raises(InputError, match=r"y/run: evaluate\.mask differs from x/run's"):
        evaluate_several(runs, tmp_path / "out", options=[EvaluateOptions(), EvaluateOptions(mask="none")])
    with pytest.raises(InputError, match="stands twice"):
        evaluate_several([runs[0], runs[0]], tmp_path / "out")


def test_the_translations_of_a_run_can_be_held_against_a_folder(tmp_path: Path) -> None:
    of_run = make_run(tmp_path)
    for subject in ("one", "two"):
        for kind, name in (("ct", subject), ("labels", f"{subject}_segmentation")):
            image = nib.load(tmp_path / "data" / subject / f"{kind}.nii.gz")
            save(tmp_path / "truth" / f"{name}.nii.gz", np.asarray(image.dataobj))
    out = tmp_path / "out"
    assert run(["evaluate", str(of_run), "--reference", str(tmp_path / "truth"), "--output", str(out)]) == 0
    scores = json.loads((out / "summary.json").read_text())["directions"]["prediction"]["methods"]["translation"]
    assert scores["mae"]["mean"] == 20
    assert run(["evaluate", str(of_run), "--reference", "x", "--output", str(out), "--direction", "AB"]) == 1


def test_every_mistake_of_every_folder_has_one_clear_line_and_nothing_is_written(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing case, another grid, a place 5 mm off, a NaN and an empty mask, spread over two folders."""
    _, ct, _ = anatomy(0)
    Path("near/p1.nii.gz").unlink()
    save(Path("near/p2.nii.gz"), ct[:, :, :6])
    broken = ct.astype(np.float32)
    broken[12, 10, 5] = np.nan
    save(Path("far/p3.nii.gz"), broken)
    save(Path("mask/p4.nii.gz"), np.zeros(ct.shape, dtype=np.uint8))
    shifted = AFFINE.copy()
    shifted[0, 3] = 5
    save(Path("far/p5.nii.gz"), ct, shifted)
    Path("mask/p6.nii.gz").unlink()
    assert run(["evaluate", "near", "far", "--reference", "reference", "--mask", "mask", "--output", "out"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    for expected in (
        "reference/p1.nii.gz: no prediction of that name in near; add it, or take this one away",
        "reference/p2.nii.gz: (24, 20, 12) voxels, its translation has (24, 20, 6); resample it onto that grid",
        "far/p3.nii.gz: prediction holds 1 voxels that are NaN",
        "mask/p4.nii.gz: no voxel above 0; draw the mask, or leave --mask out",
        "reference/p5.nii.gz: lies 5 mm off its translation; resample it onto that grid",
        "near/p6.nii.gz: no mask of that name in mask; add it, or take this one away",
        "far/p6.nii.gz: no mask of that name in mask; add it, or take this one away",
    ):
        assert sum(line.strip().startswith(expected) for line in lines) == 1, expected
    assert not list(Path("out").rglob("*.csv"))
    assert not list(Path("out").rglob("*.json"))


def test_a_folder_without_volumes_and_one_that_is_not_there_are_named(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    for name, words in (("nowhere", "nowhere: no such folder"), ("empty", "no prediction of that name in empty")):
        assert run(["evaluate", name, "--reference", "reference", "--output", "out"]) == 1
        assert words in capsys.readouterr().err


def test_the_short_table_has_a_column_for_each_set_and_each_pair() -> None:
    compared = compare({"x": summary(numbers(1, 2)), "y": summary(numbers(2, 3))})
    for name, mean in (("x", 1.5), ("y", 2.5)):
        entry = {"mean": mean, "low": None, "high": None, "count": 2}
        compared["directions"]["BA"]["metrics"]["mae"]["means"][name] = entry
    heads, rows = comparison_table(compared)
    assert heads == ["direction", "metric", "x", "y", "x - y"]
    assert rows == [["MR to CT", "mae", "1.5 (n=2)", "2.5 (n=2)", "-1 [-1, -1] (n=2), p = 0.5"]]


def test_a_preset_that_is_asked_for_is_told_on_the_terminal(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--reference", "reference", "--mask", "mask", "--output", "out"]
    assert run(["evaluate", "near", *words, "--preset", "synthrad2023"]) == 0
    told = capsys.readouterr().out
    assert "synthrad2023" in told
    assert run(["evaluate", "near", *words[:-1], "plain"]) == 0
    assert "preset" not in capsys.readouterr().out
