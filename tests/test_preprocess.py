"""From the case table to the store."""

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medgan.config import InputError
from medgan.data.cases import DataOptions
from medgan.data.intensity import from_dict, to_dict
from medgan.data.phantom import TISSUES, make_phantom, write_phantoms
from medgan.data.store import open_store, read_domains
from medgan.data.volume import read_volume
from medgan.preprocess import PreparedDomain, PreprocessOptions, preparation, prepare_input, preprocess, subject
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, VolumeTranslator

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


def shade(path, factor=1.0):
    """Brighten an MR from left to right, as a coil does."""
    image = nib.load(path)
    array = np.asarray(image.dataobj, dtype=np.float32)
    ramp = np.exp(np.linspace(-0.25, 0.25, array.shape[0]))[:, None, None]
    nib.save(nib.Nifti1Image(factor * array * ramp, image.affine), path)


def test_bias_correction_and_nyul_reach_translation_through_what_is_stored(tmp_path):
    """Landmarks are learnt from corrected training images alone, and a new volume goes the same way."""
    write_phantoms(tmp_path, subjects_per_domain=2, test_subjects=1, shape=SHAPE, seed=5)
    scans = sorted((tmp_path / "images").glob("*_mr.nii.gz"))
    for number, path in enumerate(scans):
        shade(path, 1 + number)
    data = options(B={"name": "mr", "modality": "mr", "intensity": "nyul"})
    harmonised = PreprocessOptions(bias_correction={"iterations": 10, "thinned_mm": 8})
    preprocess(data, harmonised, tmp_path, tmp_path / "store")
    domain = PreparedDomain.model_validate(read_domains(tmp_path / "store")["B"])
    assert domain.preprocess.bias_correction is not None
    assert domain.rule["levels"][0] == -1
    assert domain.intensity["name"] == "piecewise_linear"
    case = next(case for case in open_store(tmp_path / "store") if case.domain == "B" and case.split == "train")
    prepared, intensity = prepare_input(read_volume(tmp_path / "images" / f"{case.subject}_mr.nii.gz"), domain)
    assert np.array_equal(prepared.image.astype(np.float16), case.image)
    assert to_dict(intensity) == to_dict(from_dict(case.meta["intensity"]))
    plain, _ = prepare_input(
        read_volume(tmp_path / "images" / f"{case.subject}_mr.nii.gz"),
        domain.model_copy(update={"preprocess": PreprocessOptions()}),
    )

    def slope(one):
        x = np.broadcast_to(np.arange(one.image.shape[0])[:, None, None], one.image.shape)
        return abs(np.corrcoef(x[one.body], one.image[one.body])[0, 1])

    assert slope(prepared) < slope(plain)
    translator = VolumeTranslator(
        torch.nn.Identity(),
        None,
        source=domain,
        target=domain,
        patch_size=None,
        options=TranslateOptions(precision="float32"),
        device=torch.device("cpu"),
    )
    made = translator.translate(read_volume(tmp_path / "images" / f"{case.subject}_mr.nii.gz")).image
    typical = from_dict(domain.intensity)
    assert made[prepared.undo.to_input(prepared.body, 0, fill=False)].max() <= typical.ends[1]
    expected = typical.denormalize(prepared.undo.to_input(prepared.image, 1, fill=-1.0))
    assert np.allclose(made, expected, atol=1e-2)
    before = domain.rule["levels"]
    for path in scans:
        if "pair" in path.name:
            shade(path, 3.0)
    preprocess(data, harmonised, tmp_path, tmp_path / "store")
    assert PreparedDomain.model_validate(read_domains(tmp_path / "store")["B"]).rule["levels"] == before


def test_nothing_is_computed_twice(tmp_path, monkeypatch):
    """Not in the same run with other times on the files, not after a detour, and not in another run."""
    write_phantoms(tmp_path, subjects_per_domain=1, test_subjects=1, shape=SHAPE)
    calls = []
    make = subject.write_case
    monkeypatch.setattr(subject, "write_case", lambda *a, **k: (calls.append("case"), make(*a, **k)))
    find = preparation.find_bias
    monkeypatch.setattr(preparation, "find_bias", lambda *a: (calls.append("bias"), find(*a))[1])
    harmonised = PreprocessOptions(bias_correction={"iterations": 5, "thinned_mm": 8})
    cache = tmp_path / "cache"
    preprocess(options(), harmonised, tmp_path, tmp_path / "one" / "preprocess", cache=cache)
    stored = open_store(tmp_path / "one" / "preprocess")
    assert calls.count("bias") == sum(case.domain == "B" for case in stored)
    assert calls.count("case") == len(stored)
    calls.clear()
    for path in (tmp_path / "images").iterdir():
        path.touch()
    preprocess(options(), harmonised, tmp_path, tmp_path / "one" / "preprocess", cache=cache)
    preprocess(options(), harmonised, tmp_path, tmp_path / "two" / "preprocess", cache=cache)
    assert calls == []
    for one, two in zip(
        open_store(tmp_path / "one" / "preprocess"), open_store(tmp_path / "two" / "preprocess"), strict=True
    ):
        assert np.array_equal(one.image, two.image)
        assert one.meta == two.meta
    detour = harmonised.model_copy(update={"crop_margin_mm": None})
    preprocess(options(), detour, tmp_path, tmp_path / "one" / "preprocess", cache=cache)
    assert calls == ["case"] * len(stored)  # the fields are known
    calls.clear()
    preprocess(options(), harmonised, tmp_path, tmp_path / "one" / "preprocess", cache=cache)
    assert calls == []


def test_one_bad_case_is_named_and_the_others_are_done(tmp_path):
    write_phantoms(tmp_path, subjects_per_domain=2, test_subjects=0, shape=SHAPE)
    bad = tmp_path / "images" / "mr-01_mr.nii.gz"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    with pytest.raises(InputError, match=r"^[^\n]*mr-01_mr.nii.gz[^\n]*$"):
        preprocess(options(), PreprocessOptions(), tmp_path, tmp_path / "store")
    done = sorted(path.parent.name for path in (tmp_path / "store").glob("*/*/case.json"))
    assert done == ["ct-01", "ct-02", "ct-03", "mr-02", "mr-03"]
    (tmp_path / "images" / "ct-01_ct.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"2 of 6 could not be prepared, the others are done:\n.*ct-01.*\n.*mr-01"):
        preprocess(options(), PreprocessOptions(), tmp_path, tmp_path / "store")
    assert not (tmp_path / "store" / "cases.json").exists()


def test_a_pair_is_laid_on_one_grid_and_its_unseen_labels_are_unlabelled(tmp_path, monkeypatch):
    write_phantoms(tmp_path, subjects_per_domain=1, test_subjects=1, shape=SHAPE)
    mr = next((tmp_path / "images").glob("pair*_mr.nii.gz"))
    moved = nib.load(mr)
    affine = moved.affine.copy()
    affine[0, 3] += 3 * affine[0, 0]  # three voxels to the right
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), affine), mr)
    for label in (tmp_path / "labels").glob("pair*"):
        shutil.copy(label, tmp_path / "labels" / f"moved_{label.name}")
        nib.save(
            nib.Nifti1Image(np.asarray(nib.load(label).dataobj), affine), tmp_path / "labels" / f"moved_{label.name}"
        )
    table = tmp_path / "cases.csv"
    lines = table.read_text().splitlines()
    lines = [line.replace("labels/pair", "labels/moved_pair") if "_mr.nii.gz" in line else line for line in lines]
    table.write_text("\n".join(lines) + "\n")
    truth = np.eye(4)
    truth[0, 3] = 3 * affine[0, 0]
    monkeypatch.setattr(subject, "register", lambda *_: truth)
    preprocess(options(), PreprocessOptions(registration={}), tmp_path, tmp_path / "store")
    a, b = (case for case in open_store(tmp_path / "store") if case.split == "test")
    assert np.allclose(a.meta["affine"], b.meta["affine"])
    assert np.array_equal(a.body, b.body)
    both = np.asarray(a.body) & (np.asarray(b.label) >= 0)
    assert np.array_equal(np.asarray(a.label)[both], np.asarray(b.label)[both])


def test_a_table_under_a_ct_is_no_body(tmp_path):
    write_phantoms(tmp_path, subjects_per_domain=1, test_subjects=0, shape=(48, 48, 4))
    path = tmp_path / "images" / "ct-01_ct.nii.gz"
    image = nib.load(path)
    array = np.asarray(image.dataobj).copy()
    back = int(np.flatnonzero((array > -300).any(axis=(0, 2)))[0])
    array[2:46, back - 2 : back + 1] = 100  # three voxels of 4 mm
    nib.save(nib.Nifti1Image(array, image.affine), path)
    with_plate, _ = prepare_input(read_volume(path), PreparedDomain.of(options().A, PreprocessOptions()))
    without, _ = prepare_input(read_volume(path), PreparedDomain.of(options().A, PreprocessOptions(table_mm=16)))
    assert with_plate.body.shape[0] == 48
    assert without.body.shape[0] < 48
    assert without.body.sum() > 0.85 * with_plate.body.sum()


def test_every_case_has_a_picture_and_a_page_shows_them(tmp_path):
    write_phantoms(tmp_path, subjects_per_domain=1, test_subjects=0, shape=SHAPE)
    out = tmp_path / "run" / "preprocess"
    preprocess(options(), PreprocessOptions(), tmp_path, out, pictures=True)
    names = {"ct-01_A.png", "ct-02_A.png", "mr-01_B.png", "mr-02_B.png", "index.html"}
    assert {path.name for path in (out / "quality").iterdir()} == names
    page = (out / "quality" / "index.html").read_text()
    assert page.count("<img") == 4
    assert str(tmp_path) not in page
    times = {path: path.stat().st_mtime_ns for path in (out / "quality").glob("*.png")}
    preprocess(options(), PreprocessOptions(), tmp_path, out, pictures=True)
    assert {path: path.stat().st_mtime_ns for path in times} == times
