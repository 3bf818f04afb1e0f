"""From the case table to the store."""

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from medgan.config import InputError
from medgan.data.cases import DataOptions
from medgan.data.intensity import from_dict
from medgan.data.phantom import TISSUES, make_phantom, write_phantoms
from medgan.data.store import open_store, read_domains
from medgan.data.volume import read_volume
from medgan.preprocess import PreparedDomain, PreprocessOptions, prepare_input, preprocess
from medgan.rundir import RunDir

SHAPE = (24, 24, 12)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, subjects_per_domain=2, test_subjects=1, shape=SHAPE, seed=5)
    return folder


def options(**changes):
    values = {
        "table": "cases.csv",
        "A": {"name": "ct", "modality": "ct"},
        "B": {"name": "mr", "modality": "mr"},
        "classes": TISSUES,
    }
    return DataOptions.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def store(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "preprocess"
    preprocess(options(), PreprocessOptions(spacing_mm=(10, 10, 12)), phantoms, out)
    return out


def test_every_case_of_the_table_is_stored_with_its_split(phantoms, store):
    with (phantoms / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    cases = open_store(store)
    assert {(c.subject, c.domain, c.split) for c in cases} == {(r["subject"], r["domain"], r["split"]) for r in rows}
    for case in cases:
        assert case.image.dtype == np.float16
        assert np.abs(case.image).max() <= 1
        assert case.image.shape == case.label.shape == case.body.shape
        assert np.allclose(case.meta["spacing_mm"], (10, 10, 12))
        assert (case.image[~case.body] == -1).all()


def test_domains_tell_all_that_translation_needs(store):
    domains = {side: PreparedDomain.model_validate(values) for side, values in read_domains(store).items()}
    assert domains["A"].intensity == {"name": "hounsfield_window", "low_hu": -1000, "high_hu": 1500}
    assert domains["A"].body_threshold == -300
    train = [c.meta["intensity"] for c in open_store(store) if c.domain == "B" and c.split == "train"]
    typical = from_dict(domains["B"].intensity)
    assert typical.high == pytest.approx(np.median([one["high"] for one in train]))
    assert 700 < typical.high < 1300
    assert domains["B"].rule["name"] == "percentile_range"
    assert domains["B"].spacing_mm == pytest.approx((10, 10, 12))
    assert domains["B"].preprocess.spacing_mm == (10, 10, 12)


def test_both_images_of_a_test_subject_stay_a_pair(store):
    a, b = (case for case in open_store(store) if case.split == "test")
    assert a.shape == b.shape
    assert np.allclose(a.meta["affine"], b.meta["affine"])
    assert np.array_equal(a.label, b.label)


def test_training_and_translation_see_the_same(phantoms, store):
    case = next(case for case in open_store(store) if case.domain == "B" and case.split == "train")
    domain = PreparedDomain.model_validate(read_domains(store)["B"])
    prepared, intensity = prepare_input(read_volume(phantoms / "images" / f"{case.subject}_mr.nii.gz"), domain)
    assert np.array_equal(prepared.image.astype(np.float16), case.image)
    assert prepared.undo.to_dict() == case.meta["undo"]
    assert np.allclose(intensity.ends, from_dict(case.meta["intensity"]).ends)


def test_the_stored_units_come_back(phantoms):
    volume = read_volume(phantoms / "images" / "ct-01_ct.nii.gz")
    domain = PreparedDomain.of(options().A, PreprocessOptions())
    prepared, intensity = prepare_input(volume, domain)
    back = prepared.undo.to_input(intensity.denormalize(prepared.image), 1, fill=-1000)
    body = prepared.undo.to_input(prepared.body, 0, fill=False)
    assert body.mean() > 0.2
    assert np.abs(back - np.clip(volume.array, -1000, 1500))[body].max() < 1
    assert (back[~body] == -1000).all()


def test_unchanged_cases_are_left_alone_and_changed_ones_are_made_anew(tmp_path):
    write_phantoms(tmp_path, subjects_per_domain=1, test_subjects=0, shape=SHAPE)
    out = tmp_path / "store"

    def times():
        return {case.subject: (case.folder / "image.npy").stat().st_mtime_ns for case in open_store(out)}

    preprocess(options(), PreprocessOptions(), tmp_path, out)
    first = times()
    preprocess(options(), PreprocessOptions(), tmp_path, out)
    assert times() == first
    image = nib.load(tmp_path / "images" / "mr-01_mr.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 7, image.affine), tmp_path / "images" / "mr-01_mr.nii.gz")
    preprocess(options(), PreprocessOptions(), tmp_path, out)
    assert {subject for subject, time in times().items() if time != first[subject]} == {"mr-01"}
    preprocess(options(), PreprocessOptions(mask_background=False), tmp_path, out)
    assert all(time != first[subject] for subject, time in times().items())
    assert any((case.image[~case.body] > -1).any() for case in open_store(out))


def test_a_split_that_moves_is_noticed_though_the_case_is_left_alone(tmp_path):
    table = write_phantoms(tmp_path, subjects_per_domain=2, test_subjects=0, shape=SHAPE)
    preprocess(options(), PreprocessOptions(), tmp_path, tmp_path / "store")
    table.write_text(table.read_text().replace("labels/ct-02.nii.gz,train", "labels/ct-02.nii.gz,test"))
    preprocess(options(), PreprocessOptions(), tmp_path, tmp_path / "store")
    assert next(c for c in open_store(tmp_path / "store") if c.subject == "ct-02").split == "test"


def test_a_trained_run_keeps_its_training_cases_and_its_splits(tmp_path):
    table = write_phantoms(tmp_path, subjects_per_domain=2, test_subjects=1, shape=SHAPE)
    out = tmp_path / "run" / "preprocess"
    preprocess(options(), PreprocessOptions(), tmp_path, out)
    checkpoint = RunDir(tmp_path / "run").checkpoint("last")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    rows, stored = table.read_text(), (out / "cases.json").read_text()
    for path in tmp_path.glob("*/ct-02*"):
        shutil.copy(path, path.with_name(path.name.replace("ct-02", "ct-09")))
    (line,) = (row for row in rows.splitlines() if row.startswith("ct-02"))
    for changed, told in (
        (rows.replace(line, line.replace(",train", ",test")), r"ct-02 \(domain A\) was train .*, is test; give"),
        (rows.replace(line + "\n", ""), r"ct-02 \(domain A\) was train .*, is absent"),
        (rows + line.replace("ct-02", "ct-09") + "\n", r"ct-09 \(domain A\) was absent .*, is train"),
    ):
        assert changed != rows
        table.write_text(changed)
        with pytest.raises(InputError, match=told):
            preprocess(options(), PreprocessOptions(), tmp_path, out)
        assert (out / "cases.json").read_text() == stored
    table.write_text(rows)
    preprocess(options(), PreprocessOptions(), tmp_path, out)


def test_the_store_tells_its_original_images_from_where_it_lies(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "data", subjects_per_domain=1, test_subjects=0, shape=SHAPE)
    monkeypatch.chdir(tmp_path / "data")
    preprocess(options(), PreprocessOptions(), Path(), Path("../run/preprocess"))
    monkeypatch.chdir("/")
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "run").rglob("*.json"))
    for case in open_store(tmp_path / "run" / "preprocess"):
        name = f"{case.subject}_{'ct' if case.domain == 'A' else 'mr'}.nii.gz"
        assert case.original.resolve() == tmp_path / "data" / "images" / name
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npy")}
    preprocess(options(), PreprocessOptions(), tmp_path / "data", tmp_path / "run" / "preprocess")
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_several_processes_give_the_same_store(phantoms, store, tmp_path):
    preprocess(options(), PreprocessOptions(spacing_mm=(10, 10, 12)), phantoms, tmp_path, workers=2)
    for one, two in zip(open_store(store), open_store(tmp_path), strict=True):
        assert one.subject == two.subject
        assert np.array_equal(one.image, two.image)


def test_without_classes_labels_are_left_out(phantoms, tmp_path):
    preprocess(options(classes={}), PreprocessOptions(), phantoms, tmp_path)
    assert not any(case.labelled for case in open_store(tmp_path))


def test_a_label_value_that_is_no_class_is_refused(phantoms, tmp_path):
    with pytest.raises(InputError, match=r"labels/.*label values 2, 3, .*data.classes"):
        preprocess(options(classes={0: "air", 1: "fat"}), PreprocessOptions(), phantoms, tmp_path)


def test_slices_without_a_body_are_background(tmp_path):
    phantom = make_phantom(0, SHAPE)
    mr = phantom.mr.copy()
    mr[:, :, 8:] = 0
    nib.save(nib.Nifti1Image(mr, phantom.affine), tmp_path / "mr.nii.gz")
    domain = PreparedDomain.of(options().B, PreprocessOptions(crop_margin_mm=None))
    prepared, _ = prepare_input(read_volume(tmp_path / "mr.nii.gz"), domain)
    assert (prepared.image[:, :, 8:] == -1).all()
    assert prepared.body[:, :, :7].any(axis=(0, 1)).all()


def test_an_empty_volume_is_named(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match=r"empty.nii.gz: .*body"):
        prepare_input(read_volume(tmp_path / "empty.nii.gz"), PreparedDomain.of(options().B, PreprocessOptions()))


@pytest.mark.parametrize("orientation", ["RA", "RAT", "RLS", "RASS"])
def test_an_orientation_that_names_no_three_axes_is_refused(orientation):
    with pytest.raises(ValidationError, match="names no three axes"):
        PreprocessOptions(orientation=orientation)
    assert PreprocessOptions(orientation="SPL").orientation == "SPL"


def test_what_an_image_does_not_show_is_unlabelled(phantoms, tmp_path):
    """The labels of a sarcoma's MR come from its CT: on empty MR slices they name tissue that nobody can see."""
    folder = tmp_path / "study"
    write_phantoms(folder, subjects_per_domain=1, test_subjects=0, shape=SHAPE, seed=5)
    mr = nib.load(folder / "images" / "mr-01_mr.nii.gz")
    blank = np.asanyarray(mr.dataobj).copy()
    blank[:, :, 6:] = 0
    nib.save(nib.Nifti1Image(blank, mr.affine), folder / "images" / "mr-01_mr.nii.gz")
    preprocess(options(), PreprocessOptions(), folder, tmp_path / "store")
    (case,) = [case for case in open_store(tmp_path / "store") if case.subject == "mr-01"]
    label, body = np.asarray(case.label), np.asarray(case.body)
    assert (label[~body] <= 0).all()
    assert (label[~body] == -1).any()
    assert (label[body] >= 0).all()


def test_a_training_pair_is_masked_where_both_images_show_the_body(store):
    a, b = (case for case in open_store(store) if case.split == "test")
    assert np.array_equal(a.body, b.body)
    assert np.array_equal(np.asarray(a.image)[~a.body], np.asarray(b.image)[~b.body])
