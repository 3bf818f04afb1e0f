"""The sarcoma study: what is measured on pencil-and-paper patients, and the whole of it on the public volumes."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MEDGAN_DATA", ROOT.parent / "shared" / "data")) / "sts-half"
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "pipelines")]

import sts_cases  # noqa: E402
import sts_page  # noqa: E402
import sts_pictures  # noqa: E402
import sts_scores  # noqa: E402
import sts_study  # noqa: E402

from medgan.data.volume import read_volume  # noqa: E402
from medgan.rundir import RunDir  # noqa: E402

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no public sarcoma volumes at $MEDGAN_DATA")
FAT, MUSCLE, BONE = -100.0, 50.0, 600.0


def _patient() -> sts_scores.Patient:
    """A square limb in air: fat in the left half, muscle in the right, and a block of bone within the muscle."""
    tissue = np.zeros((24, 24, 12), dtype=np.uint8)
    tissue[2:12, 2:22], tissue[12:22, 2:22] = 1, 2
    tissue[14:20, 8:16] = 3
    ct = np.choose(tissue, [-1000.0, FAT, MUSCLE, BONE]).astype(np.float32)
    mr = np.choose(tissue, [0.0, 1000.0, 350.0, 100.0]).astype(np.float32)
    return sts_scores.Patient("P", mr, ct, tissue, (2.0, 2.0, 3.0), np.diag([2.0, 2.0, 3.0, 1.0]))


def test_the_truth_has_no_error_and_a_constant_has_the_distance_to_each_tissue() -> None:
    patient = _patient()
    perfect = sts_scores.score(sts_scores.truth_method(patient), patient)
    assert all(value == 0 for name, value in perfect.items() if name.startswith("MAE"))
    assert perfect["Dice bone > 180 HU"] == 1
    constant = sts_scores.score(sts_scores.baseline_methods([patient])[sts_scores.CONSTANT](patient), patient)
    median = (FAT + MUSCLE) / 2  # half of the body is fat, the other half muscle and bone
    assert constant["MAE fat"] == pytest.approx(median - FAT)
    assert constant["MAE soft tissue"] == pytest.approx(MUSCLE - median)
    assert constant["MAE bone"] == pytest.approx(BONE - median)
    assert constant["Dice bone > 180 HU"] == 0
    assert math.isnan(constant["Dice S bone"])


def test_the_body_error_weighs_tissues_by_their_voxels() -> None:
    patient = _patient()
    off_in_fat = sts_scores.Prediction(patient.ct_hu + 40 * (patient.tissue == 1))
    scores = sts_scores.score(off_in_fat, patient)
    share = (patient.common & (patient.tissue == 1)).sum() / patient.common.sum()
    assert 0 < share < 1
    assert scores["MAE common body"] == pytest.approx(40 * share)
    assert (scores["MAE fat"], scores["MAE soft tissue"], scores["MAE dense bone"]) == (40, 0, 0)


def test_bone_that_is_made_in_half_the_places_overlaps_by_two_thirds() -> None:
    patient = _patient()
    half = patient.ct_hu.copy()
    half[..., 6:][patient.tissue[..., 6:] == 3] = MUSCLE
    common = patient.common.any((0, 1)).nonzero()[0]
    assert (common < 6).sum() == (common >= 6).sum()  # as many slices with bone as without
    scores = sts_scores.score(sts_scores.Prediction(half), patient)
    assert scores["Dice bone > 180 HU"] == pytest.approx(2 / 3)


def test_the_reader_splits_flat_regions_at_its_thresholds() -> None:
    for hu, tissue in ((-900, 0), (-201, 0), (-199, 1), (-31, 1), (-29, 2), (179, 2), (181, 3), (1500, 3)):
        assert (sts_scores.read_tissue(np.full((5, 5, 2), float(hu)), (2.0, 2.0, 3.0)) == tissue).all()


def test_what_the_segmentor_reads_is_compared_with_the_labels_in_the_common_body() -> None:
    patient = _patient()
    labels = patient.tissue.copy()
    labels[~patient.common] = 3  # outside it nothing counts
    labels[labels == 1] = 2
    scores = sts_scores.score(sts_scores.Prediction(patient.ct_hu, segmentation=labels), patient)
    fat, muscle = ((patient.common & (patient.tissue == value)).sum() for value in (1, 2))
    assert scores["Dice S bone"] == 1
    assert scores["Dice S fat"] == 0
    assert scores["Dice S soft tissue"] == pytest.approx(2 * muscle / (2 * muscle + fat))


def test_the_lookup_table_over_the_mr_body_is_another_one_than_that_of_the_common_body() -> None:
    patient = _patient()
    ct = patient.ct_hu.copy()
    ct[patient.mr_body & ~patient.common] = -1000  # air under the skin, where registration fails
    shifted = sts_scores.Patient("Q", patient.mr, ct, patient.tissue, patient.spacing_mm, patient.affine)
    prediction = sts_scores.lookup_method([shifted], "mean")(shifted)
    assert prediction.over_mr_body is not None
    fat = (patient.tissue == 1) & shifted.common
    assert prediction.ct_hu[fat].mean() == pytest.approx(FAT)
    assert prediction.over_mr_body[fat].mean() < FAT


def test_differences_are_paired_by_patient() -> None:
    entry = {"patients": {"P": 10.0, "Q": 30.0, "R": None}}
    rival = {"patients": {"P": 20.0, "Q": 60.0, "R": 5.0}}
    found = sts_scores.compare({"ours": {"MAE": entry}, "theirs": {"MAE": rival}}, "ours", "theirs", "MAE")
    assert (found["mean"], found["count"], found["patients"]) == (-20, 2, {"P": -10, "Q": -30})
    assert found["share"] == pytest.approx(-0.5)


def test_labels_are_merged_all_at_once() -> None:
    labels = np.array([0, 1, 2, 3, 4], dtype=np.uint8)
    assert sts_cases.relabel(labels, {4: 2}).tolist() == [0, 1, 2, 3, 2]
    assert sts_cases.relabel(labels, {1: 2, 2: 1}).tolist() == [0, 2, 1, 3, 4]
    assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("text", ["4", "4:", "a:2", "4:-1"])
def test_a_merge_that_is_none_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sts_cases.py", str(tmp_path), str(tmp_path / "c.csv"), "--merge", text])
    with pytest.raises(SystemExit):
        sts_cases.main()
    assert not (tmp_path / "c.csv").exists()


def test_the_three_configurations_share_all_but_the_recipe_and_the_table(tmp_path: Path) -> None:
    plain = {name.value: sts_study.plain_config(name, tmp_path) for name in sts_study.Name}
    assert sts_page.unequal(plain) == []
    assert {name: experiment["recipe"]["name"] for name, experiment in plain.items()} == {n: n for n in plain}
    assert plain["pix2pix"]["recipe"]["direction"] == "BA"
    plain["cyclegan"]["train"]["num_steps"] += 1
    (line,) = sts_page.unequal(plain)
    assert line.startswith("cyclegan: train.num_steps: 1500 -> 1501")


def test_a_run_is_finished_when_its_translations_are_newer_than_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path)
    monkeypatch.setattr(sts_study, "read_subjects", lambda data: [{"subject": "P", "role": "test"}])
    run.checkpoint("last").parent.mkdir(parents=True)
    run.translate("BA").mkdir(parents=True)
    run.experiment_yaml.write_text("train: {num_steps: 2}\ntranslate: {checkpoint: best}\n")
    (run.train / "losses.jsonl").write_text('{"step": 2}\n')
    files = [run.checkpoint("last"), run.checkpoint("best"), run.translate("BA") / "P.nii.gz"]
    for time, file in enumerate(files):
        assert not sts_study.is_finished(run, tmp_path)
        file.touch()
        os.utime(file, (time, time))
    assert sts_study.is_finished(run, tmp_path)
    os.utime(run.checkpoint("best"), (9, 9))
    assert not sts_study.is_finished(run, tmp_path)


def test_all_numbers_of_the_page_are_in_the_json(tmp_path: Path) -> None:
    scores = sts_scores.score_methods({"real CT": sts_scores.truth_method}, [_patient()])
    data = {"name": "x", "patients": 1, "validation": [], "roles": {"train_ct": [], "train_mr": [], "test": ["P"]}}
    study = {"data": data, "methods": scores, "comparisons": [], "trainings": {}, "missing": [], "command": ""}
    mae = {"mean": 12.5, "low": 11.5, "high": 13.5, "count": 1}
    summary = {"directions": {"AB": {"title": "CT to MR", "methods": {"translation": {"mae": mae}}}}}
    page = sts_page.write_page(tmp_path, study | {"pictures": []}, {"cyclegan": summary}).read_text()
    assert "| cyclegan | 12.5 [11.5, 13.5] (n=1) |" in page
    assert json.loads((tmp_path / "sts.json").read_text())["ct_to_mr"]["cyclegan"]["translation"]["mae"] == mae


def test_a_picture_of_a_patient_fits_a_page(tmp_path: Path) -> None:
    patient = _patient()
    sts_pictures.draw_patient(tmp_path / "p.png", patient, {"constant": np.zeros_like(patient.ct_hu)})
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width == 1400
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert any(red > 2 * blue + 50 for red, _, blue in colours)  # fat too bright
    assert any(blue > 2 * red + 50 for red, _, blue in colours)  # bone too dark


@needs_data
def test_tumour_counts_as_soft_tissue_in_the_relabelled_maps(tmp_path: Path) -> None:
    rows = sts_cases.write_table(DATA, tmp_path / "cases.csv", paired=False, merge={4: 2})
    assert {row["label"] for row in rows} == {f"labels/{row['subject']}.nii.gz" for row in rows}
    before = read_volume(DATA / "STS_051" / "tissue.nii.gz")
    after = read_volume(tmp_path / "labels" / "STS_051.nii.gz")
    assert (before.array == 4).any()
    assert np.array_equal(after.array, np.where(before.array == 4, 2, before.array))
    assert np.array_equal(after.affine, before.affine)
    stamp = (tmp_path / "labels" / "STS_051.nii.gz").stat().st_mtime_ns
    sts_cases.write_table(DATA, tmp_path / "cases_paired.csv", paired=True, merge={4: 2})
    assert (tmp_path / "labels" / "STS_051.nii.gz").stat().st_mtime_ns == stamp


@needs_data
def test_the_study_ends_in_a_page_of_what_is_finished(tmp_path: Path) -> None:
    tiny = ["generator_net.channels=4", "discriminator_net.channels=4"]
    settings = [f"recipe.{one}" for one in tiny]
    settings += ["train.num_steps=2", "train.patch_size=[24, 24, 24]", "train.log_every=1", "train.validate_every=1"]
    settings += ["train.validation_patches=1", "report.max_cases=0", "report.previews=1"]
    runs, results = tmp_path / "runs", tmp_path / "results"
    results.mkdir()
    (results / "sts_notes.md").write_text("## What was tried\n\nA line by hand.\n")
    sts_study.study(DATA, runs, sts_study.Name.PIX2PIX, results=results, device="cpu", overrides=settings)
    page, study = (results / "sts.md").read_text(), json.loads((results / "sts.json").read_text())

    assert study["missing"] == ["cyclegan", "seg_cyclegan"]
    assert "Not finished yet, so not in the tables: cyclegan, seg_cyclegan" in page
    assert "## What was tried\n\nA line by hand.\n\n" in page
    training = study["trainings"]["pix2pix"]
    assert (training["steps"], training["pieces"]) == (2, 1)
    assert training["seconds"] > 0
    assert any(line.startswith("train.num_steps: ") for line in training["changed"])
    assert training["experiment"]["recipe"]["generator_net"]["channels"] == 4
    assert training["environment"]["threads"] == 1

    ours = study["methods"]
    assert {sts_scores.CONSTANT, *sts_scores.LOOKUPS, "pix2pix", "real CT"} == set(ours)
    for method in sts_scores.LOOKUPS:
        assert all(f"{ours[method][metric]['mean']:.1f} [" in page for metric in sts_scores.MAE_METRICS)
    assert ours["real CT"]["Dice bone > 180 HU"]["mean"] == 1
    assert ours["pix2pix"]["MAE common body"]["count"] == 4

    names = [f"{subject}.png" for subject in ("STS_010", "STS_024", "STS_043", "STS_051")] + ["curves.png"]
    assert sorted(path.name for path in (results / "sts").iterdir()) == names
    assert all((results / "sts" / name).stat().st_size < 300_000 and f"(sts/{name})" in page for name in names)
    assert str(tmp_path) not in page + (results / "sts.json").read_text()

    weights = (runs / "pix2pix" / "train" / "checkpoints" / "last.pt").stat().st_mtime_ns
    report = (runs / "pix2pix" / "report" / "index.html").stat().st_mtime_ns
    sts_study.one_run(DATA, runs, sts_study.Name.PIX2PIX, overrides=settings, device="cpu")
    assert (runs / "pix2pix" / "train" / "checkpoints" / "last.pt").stat().st_mtime_ns == weights
    assert (runs / "pix2pix" / "report" / "index.html").stat().st_mtime_ns == report
