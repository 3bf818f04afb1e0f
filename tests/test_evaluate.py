"""Evaluation of runs made by hand, whose errors are known beforehand."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fake_run import AFFINE, SHAPE, anatomy, make_run, save

from medgan.config import InputError
from medgan.evaluate import EvaluateOptions, evaluate_folders, evaluate_run, summary_table

CT_BONE = {"dense": {"domain": "CT", "low": 180.0}}


def options(**values: object) -> EvaluateOptions:
    return EvaluateOptions.model_validate(values)


def test_a_translation_that_is_too_dense_by_20_hu_is_20_hu_off(tmp_path: Path) -> None:
    summary = evaluate_run(make_run(tmp_path, error_hu=20), options(regions=CT_BONE))
    part = summary["directions"]["BA"]
    scores = part["methods"]["translation"]
    assert part["title"] == "MR to CT"
    assert part["data_range"] == [-1000, 1500]
    assert scores["mae"] == {"mean": 20, "sd": 0, "low": 20, "high": 20, "count": 2, "without": 0}
    assert scores["bias"]["mean"] == scores["mae/muscle"]["mean"] == scores["mae/dense"]["mean"] == 20
    assert scores["psnr"]["mean"] == pytest.approx(20 * np.log10(2500 / 20))
    assert scores["dice"]["mean"] == scores["dice/bone"]["mean"] == 1
    assert scores["missed"]["mean"] == scores["hd95_mm"]["mean"] == 0


def test_the_files_hold_every_case_and_what_is_returned(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    summary = evaluate_run(run)
    assert json.loads((run / "evaluate" / "summary.json").read_text()) == summary
    with (run / "evaluate" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["subject"], row["direction"], row["method"]) for row in rows] == [
        ("one", "BA", "translation"),
        ("two", "BA", "translation"),
    ]
    assert float(rows[0]["mae"]) == 20
    assert rows[0]["labels_of"] == "source"
    mask = nib.load(run / "evaluate" / "BA" / "one_mask.nii.gz")
    assert int(np.asarray(mask.dataobj).sum()) == int(rows[0]["voxels"])


def test_paths_in_the_summary_start_at_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for case in evaluate_run(run)["directions"]["BA"]["cases"]:
        assert all(not Path(path).is_absolute() and (run / path).is_file() for path in case["files"].values())


def test_without_truth_only_the_anatomy_is_compared(tmp_path: Path) -> None:
    scores = evaluate_run(make_run(tmp_path, paired=False))["directions"]["BA"]["methods"]["translation"]
    assert "mae" not in scores
    assert scores["dice"]["mean"] == 1


def test_references_that_are_not_registered_can_be_left_out(tmp_path: Path) -> None:
    scores = evaluate_run(make_run(tmp_path), options(references=False))["directions"]["BA"]["methods"]["translation"]
    assert "mae" not in scores
    assert "dice" in scores


def test_the_common_mask_loses_its_rim_and_what_ct_does_not_show(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    ct = tmp_path / "data" / "one" / "ct.nii.gz"
    image = np.asarray(nib.load(ct).dataobj).copy()
    image[:, 10:] = -1000
    save(ct, image)
    body = evaluate_run(run)["directions"]["BA"]["cases"][0]
    common = evaluate_run(run, options(mask="common"))["directions"]["BA"]["cases"][0]
    eroded = evaluate_run(run, options(mask="common", erosion_mm=2.0))["directions"]["BA"]["cases"][0]
    everywhere = evaluate_run(run, options(mask="none"))["directions"]["BA"]["cases"][0]
    assert everywhere["voxels"] == np.prod(SHAPE)
    assert everywhere["voxels"] > body["voxels"] > common["voxels"] > eroded["voxels"] > 0
    assert common["methods"]["translation"]["mae"] < body["methods"]["translation"]["mae"]


def test_lookup_tables_stand_beside_where_there_are_training_pairs(tmp_path: Path) -> None:
    methods = evaluate_run(make_run(tmp_path, train_pairs=True))["directions"]["BA"]["methods"]
    assert set(methods) == {"translation", "lookup table (mean)", "lookup table (median)", "one value everywhere"}
    assert methods["lookup table (median)"]["mae"]["mean"] < 10
    assert methods["one value everywhere"]["mae/muscle"]["mean"] == pytest.approx(4, abs=1)  # most voxels are muscle
    assert methods["one value everywhere"]["mae/bone"]["mean"] == pytest.approx(750, abs=5)
    assert "dice" not in methods["lookup table (mean)"]
    off = evaluate_run(tmp_path / "run", options(lookup=False))["directions"]["BA"]["methods"]
    assert set(off) == {"translation"}


def test_training_pairs_are_found_from_any_folder_and_missed_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, train_pairs=True)
    monkeypatch.chdir(tmp_path)
    assert "lookup table (mean)" in evaluate_run(Path("run"))["directions"]["BA"]["methods"]
    assert "training pair" not in capsys.readouterr().err
    (tmp_path / "data" / "three" / "A.nii.gz").unlink()
    assert set(evaluate_run(Path("run"))["directions"]["BA"]["methods"]) == {"translation"}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "training pair" in line]
    assert line.endswith("A.nii.gz: image of a training pair, gone (1 in all); no lookup table is fitted on it")


def test_pairs_from_elsewhere_serve_for_the_lookup_table(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    _, ct, mr = anatomy(5)
    pair = save(tmp_path / "x" / "ct.nii.gz", ct), save(tmp_path / "x" / "mr.nii.gz", mr)
    methods = evaluate_run(run, pairs=[pair])["directions"]["BA"]["methods"]
    assert methods["lookup table (mean)"]["mae"]["mean"] < 10
    save(pair[0], ct[1:])
    with pytest.raises(InputError, match=r"ct\.nii\.gz: .*evaluate\.lookup to false"):
        evaluate_run(run, pairs=[pair])


def test_a_missed_organ_is_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    labels, _, _ = anatomy(0)
    save(run / "translate" / "BA" / "one_segmentation.nii.gz", np.where(labels == 2, 1, labels).astype(np.uint8))
    scores = evaluate_run(run)["directions"]["BA"]["methods"]["translation"]
    assert scores["missed"]["mean"] == 0.5
    assert scores["dice/bone"]["mean"] == 0.5
    assert scores["hd95_mm"]["mean"] > 10 > scores["hd95_found_mm"]["mean"]


def test_label_maps_can_be_compared_inside_the_mask_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    labels, _, _ = anatomy(0)
    labels[:2, :2] = 2  # far from the body
    save(run / "translate" / "BA" / "one_segmentation.nii.gz", labels)
    everywhere = evaluate_run(run)["directions"]["BA"]["methods"]["translation"]["dice/bone"]["mean"]
    inside = evaluate_run(run, options(segmentation_in_mask=True))["directions"]["BA"]["methods"]["translation"]
    assert everywhere < 1
    assert inside["dice/bone"]["mean"] == 1


def test_every_mistake_is_listed_and_no_table_written(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "translate" / "BA" / "one.nii.gz").unlink()
    save(tmp_path / "data" / "two" / "ct.nii.gz", np.zeros((4, 4, 4), dtype=np.int16))
    with pytest.raises(InputError) as error:
        evaluate_run(run)
    lines = str(error.value).splitlines()
    assert lines[0] == "2 mistakes:"
    assert "one.nii.gz: no such file" in lines[1]
    assert "(4, 4, 4) voxels, its translation has (24, 20, 12); resample" in lines[2]
    assert "evaluate.references" in lines[2]
    assert not (run / "evaluate" / "cases.csv").exists()


def test_a_held_out_case_without_a_translation_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    index = run / "translate" / "BA" / "cases.json"
    index.write_text(json.dumps(json.loads(index.read_text())[:1]))
    with pytest.raises(InputError, match=r"two\.nii\.gz: test case without a translation; run `medgan translate`"):
        evaluate_run(run)


def test_a_shifted_grid_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    _, ct, _ = anatomy(0)
    shifted = AFFINE.copy()
    shifted[0, 3] = 5
    save(tmp_path / "data" / "one" / "ct.nii.gz", ct, shifted)
    with pytest.raises(InputError, match=r"ct\.nii\.gz: lies 5 mm off its translation; resample"):
        evaluate_run(run)


def test_nan_inside_the_mask_and_an_empty_mask_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    _, ct, _ = anatomy(0)
    broken = ct.astype(np.float32)
    broken[12, 10, 5] = np.nan
    save(run / "translate" / "BA" / "one.nii.gz", broken)
    with pytest.raises(InputError, match=r"one\.nii\.gz: prediction holds 1 voxels that are NaN"):
        evaluate_run(run)
    save(tmp_path / "data" / "one" / "mr.nii.gz", np.zeros(SHAPE, dtype=np.float32))
    with pytest.raises(InputError, match=r"mr\.nii\.gz: the mask to score in is empty; check body_threshold"):
        evaluate_run(run)


def test_a_run_without_translations_says_what_to_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shutil.rmtree(run / "translate")
    with pytest.raises(InputError, match="holds no translations; run `medgan translate"):
        evaluate_run(run)


def test_a_region_of_an_unknown_domain_names_the_known_ones(tmp_path: Path) -> None:
    region = {"bone": {"domain": "ct", "low": 180.0}}
    with pytest.raises(InputError, match=r"evaluate\.regions\.bone\.domain: no domain named 'ct'; known: CT, MR"):
        evaluate_run(make_run(tmp_path), options(regions=region))
    with pytest.raises(ValueError, match="neither low nor high"):
        options(regions={"bone": {"domain": "CT"}})


def test_a_region_with_the_name_of_a_class_is_refused(tmp_path: Path) -> None:
    region = {"muscle": {"domain": "CT", "low": 0.0}}
    with pytest.raises(InputError, match=r"evaluate\.regions\.muscle: is also the name of a class; rename"):
        evaluate_run(make_run(tmp_path), options(regions=region))


def test_the_reference_s_labels_go_before_the_source_s_for_errors_and_overlap(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    index, rows = run / "translate" / "BA" / "cases.json", []
    for row in json.loads((run / "translate" / "BA" / "cases.json").read_text()):
        labels = np.asarray(nib.load(index.parent / row["label"]).dataobj)
        truth = save(index.parent / f"{row['subject']}_truth.nii.gz", np.where(labels == 2, 1, labels).astype(np.uint8))
        rows.append(row | {"reference_label": truth.name})
    index.write_text(json.dumps(rows))
    scores = evaluate_run(run)["directions"]["BA"]["methods"]["translation"]
    assert scores.get("mae/bone", {"count": 0})["count"] == 0
    assert scores["spurious"]["mean"] == 1
    assert scores["mae/muscle"]["mean"] == 20


def test_slices_are_axial_however_a_volume_is_stored(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    settings = options(mask="common", erosion_mm=4.0, regions={"dense": {"domain": "CT", "low": 180.0}})
    axial = evaluate_run(run, settings)["directions"]["BA"]["methods"]
    for path in tmp_path.rglob("*.nii.gz"):
        if "_mask" not in path.name:
            image = nib.load(path)
            save(path, np.asarray(image.dataobj).transpose(1, 2, 0), image.affine[:, [1, 2, 0, 3]])
    sagittal = evaluate_run(run, settings)["directions"]["BA"]
    assert sagittal["methods"]["translation"]["mae/dense"] == axial["translation"]["mae/dense"]
    assert sagittal["methods"]["translation"]["mae"] == axial["translation"]["mae"]
    mask = nib.load(run / "evaluate" / "BA" / "one_mask.nii.gz")
    assert mask.shape == (SHAPE[1], SHAPE[2], SHAPE[0])
    slices = np.asarray(mask.dataobj).any(axis=(0, 2)).nonzero()[0]
    assert slices.tolist() == list(range(2, 10))  # opening and closing took the ends, no rim was taken along the axis


def test_processes_give_the_same_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert evaluate_run(run, workers=2) == evaluate_run(run)


def test_the_short_table_shows_the_main_numbers(tmp_path: Path) -> None:
    heads, rows = summary_table(evaluate_run(make_run(tmp_path, paired=False)))
    assert heads == ["direction", "method", "dice", "hd95_mm", "missed", "spurious"]
    assert rows == [["MR to CT", "translation", "1 [1, 1] (n=2)", *["0 [0, 0] (n=2)"] * 3]]


def test_a_perfect_translation_has_infinite_psnr_in_the_short_table(tmp_path: Path) -> None:
    heads, rows = summary_table(evaluate_run(make_run(tmp_path, error_hu=0)))
    assert rows[0][heads.index("psnr")] == "inf (n=2)"
    assert rows[0][heads.index("mae")] == "0 [0, 0] (n=2)"


def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    prediction, reference, mask = (tmp_path / name for name in ("prediction", "reference", "mask"))
    for seed in range(2):
        labels, ct, _ = anatomy(seed)
        save(prediction / f"{seed}.nii.gz", ct + np.int16(7))
        save(reference / f"{seed}.nii.gz", ct)
        save(prediction / f"{seed}_segmentation.nii.gz", labels)
        save(reference / f"{seed}_segmentation.nii.gz", labels)
        save(mask / f"{seed}.nii.gz", (labels > 0).astype(np.uint8))
    return prediction, reference, mask


def test_two_folders_are_compared_by_name(tmp_path: Path) -> None:
    prediction, reference, mask = folders(tmp_path)
    summary = evaluate_folders(prediction, reference, tmp_path / "out", mask)
    scores = summary["directions"]["prediction"]["methods"]["translation"]
    assert scores["mae"]["mean"] == 7
    assert scores["dice/2"]["mean"] == 1
    assert (tmp_path / "out" / "cases.csv").is_file()
    assert summary["directions"]["prediction"]["cases"][0]["voxels"] < np.prod(SHAPE)
    whole = evaluate_folders(prediction, reference, tmp_path / "out")
    assert whole["directions"]["prediction"]["cases"][0]["voxels"] == np.prod(SHAPE)


def test_files_without_a_partner_are_all_named(tmp_path: Path) -> None:
    prediction, reference, mask = folders(tmp_path)
    (prediction / "0.nii.gz").unlink()
    (reference / "1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"(?s)2 mistakes:.*0\.nii\.gz: no prediction.*1\.nii\.gz: no reference"):
        evaluate_folders(prediction, reference, tmp_path / "out", mask)
    with pytest.raises(InputError, match="no such folder"):
        evaluate_folders(tmp_path / "nowhere", reference, tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no volumes"):
        evaluate_folders(empty, empty, tmp_path / "out")


def test_label_maps_alone_can_be_compared(tmp_path: Path) -> None:
    prediction, reference, _ = folders(tmp_path)
    for folder in (prediction, reference):
        for seed in range(2):
            (folder / f"{seed}.nii.gz").unlink()
    scores = evaluate_folders(prediction, reference, tmp_path / "out")["directions"]["prediction"]["methods"]
    assert scores["translation"]["dice"]["mean"] == 1
    assert "mae" not in scores["translation"]
