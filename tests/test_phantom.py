"""Phantoms: labelled bodies, seen by two scanners."""

import csv

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medgan.config import InputError
from medgan.data.phantom import TISSUES, make_phantom, write_phantoms


def test_equal_seeds_give_equal_bytes_and_others_other_bodies():
    one, two, other = make_phantom(1), make_phantom(1), make_phantom(2)
    for name in ("labels", "ct", "mr", "affine"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert (one.labels != other.labels).mean() > 0.05


@pytest.mark.parametrize("seed", range(6))
def test_every_tissue_is_in_every_body(seed):
    phantom = make_phantom(seed)
    assert (phantom.labels.dtype, phantom.ct.dtype) == (np.uint8, np.int16)
    assert phantom.labels.shape == phantom.ct.shape == phantom.mr.shape == (48, 48, 24)
    counts = np.bincount(phantom.labels.ravel(), minlength=len(TISSUES))
    assert (counts > 100).all()
    edge = np.concatenate([phantom.labels[[0, -1]].ravel(), phantom.labels[:, [0, -1]].ravel()])
    assert (edge == 0).mean() > 0.99


def test_a_finer_grid_shows_the_same_body():
    coarse, fine = make_phantom(4, (32, 32, 16)), make_phantom(4, (96, 96, 48))
    assert (fine.labels[1::3, 1::3, 1::3] == coarse.labels).mean() > 0.99
    assert np.allclose(coarse.affine @ [7, 7, 7, 1], fine.affine @ [22, 22, 22, 1])


def test_tissues_look_as_they_should():
    phantom = make_phantom(0, (96, 96, 48))
    inner = {t: ndimage.binary_erosion(phantom.labels == t, iterations=2) for t in (0, 1, 2, 3, 6)}
    hu = {TISSUES[t]: phantom.ct[mask].mean() for t, mask in inner.items()}
    mr = {TISSUES[t]: phantom.mr[mask].mean() for t, mask in inner.items()}
    expected = {"background": -1000, "fat": -100, "muscle": 50, "liver": 110, "gas": -800}
    assert hu == pytest.approx(expected, abs=25)
    assert mr["fat"] > mr["liver"] > mr["muscle"] > 150 > mr["gas"] > mr["background"]
    for tissue in (4, 6, 7):  # bone, gas and blood are all dark
        assert np.median(phantom.mr[phantom.labels == tissue]) < 150


def test_mr_noise_is_rician():
    phantom = make_phantom(0)
    air = phantom.mr[ndimage.binary_erosion(phantom.labels == 0, iterations=4)]
    assert air.min() >= 0
    rayleigh = np.sqrt(np.pi / (4 - np.pi))  # what is left of Rician noise where there is no signal
    assert air.mean() / air.std() == pytest.approx(rayleigh, rel=0.05)


def test_no_table_from_mr_to_hu_is_right_but_knowing_the_tissue_is():
    phantoms = [make_phantom(seed) for seed in range(4)]
    mr, ct, labels = (np.concatenate([getattr(p, n)[p.labels > 0] for p in phantoms]) for n in ("mr", "ct", "labels"))

    def error(key):
        medians = np.array([np.median(ct[key == k]) if (key == k).any() else 0 for k in range(key.max() + 1)])
        return np.abs(ct - medians[key]).mean()

    assert error(labels) < 0.5 * error(np.minimum(mr // 20, 80))


def test_a_study_is_unpaired_but_for_its_test_subjects(tmp_path):
    table = write_phantoms(tmp_path, subjects_per_domain=2, test_subjects=1, shape=(16, 16, 8), seed=9)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["subject", "domain", "image", "label", "split"]
    domains = {}
    for row in rows:
        domains.setdefault((row["split"], row["subject"]), []).append(row["domain"])
        image, label = (nib.load(tmp_path / row[key]) for key in ("image", "label"))
        assert image.shape == label.shape == (16, 16, 8)
        assert np.array_equal(image.affine, label.affine)
    assert sorted(domains[("test", "pair-01")]) == ["A", "B"]
    alone = [found for (split, _), found in domains.items() if split != "test"]
    assert sorted(map(tuple, alone)) == [("A",)] * 3 + [("B",)] * 3
    assert {split for split, _ in domains} == {"train", "validation", "test"}
    labels = {np.asarray(nib.load(tmp_path / row["label"]).dataobj).tobytes() for row in rows}
    assert len(labels) == 7  # seven bodies


def test_truth_lies_beside_the_table_not_in_it(tmp_path):
    table = write_phantoms(tmp_path, subjects_per_domain=2, test_subjects=0, shape=(16, 16, 8))
    assert sorted(path.name for path in (tmp_path / "truth").iterdir()) == ["mr-01_ct.nii.gz", "mr-02_ct.nii.gz"]
    assert "truth" not in table.read_text()
    ct = nib.load(tmp_path / "truth" / "mr-01_ct.nii.gz").get_fdata()
    label = nib.load(tmp_path / "labels" / "mr-01.nii.gz").get_fdata()
    assert ct[label == 0].mean() < -900
    assert ct[label == 2].mean() > -50


def test_a_study_without_training_subjects_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        write_phantoms(tmp_path, subjects_per_domain=0)
