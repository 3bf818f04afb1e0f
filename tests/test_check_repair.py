"""Mended copies: only what needs no guess, and never the original."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.check import mend, run_check
from medgan.config import InputError
from medgan.data.volume import read_volume


def save(path: Path, array: np.ndarray, **fields) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def values(dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(dtype)


def mended(root: Path, path: Path) -> tuple[Path, tuple[str, ...]]:
    """The one mended copy of a file, and what was done; the original must be as it was."""
    before = path.read_bytes()
    (one,) = mend(run_check([path], deep=True).findings, root / "mended")
    assert path.read_bytes() == before
    assert one.original == path
    assert not [file for file in (root / "mended").rglob("*") if file.name.startswith(".")]
    return one.copy, one.done


def kinds(path: Path) -> set[str]:
    return {one.kind for one in run_check([path], deep=True).findings}


def test_voxels_that_are_not_finite_get_the_lowest_value_and_all_others_stay(tmp_path):
    array = values()
    array[0, 0] = np.nan, np.inf, -np.inf, 5
    copy, done = mended(tmp_path, save(tmp_path / "x.nii.gz", array))
    assert done == (f"3 of 120 voxels were not finite: now {array[np.isfinite(array)].min():g}",)
    again = read_volume(copy).array
    assert np.array_equal(again[np.isfinite(array)], array[np.isfinite(array)])
    assert (again[0, 0, :3] == again.min()).all()
    assert kinds(copy) == set()


def test_padding_below_air_is_raised_to_it(tmp_path):
    array = values(np.int16)
    array[0] = -3024
    array[1] = -1500
    copy, done = mended(tmp_path, save(tmp_path / "a_ct.nii.gz", array))
    assert done == ("40 of 120 voxels were below -1024 HU: now -1024",)
    again = read_volume(copy).array
    assert again.dtype == np.int16
    assert np.array_equal(again, np.maximum(array, -1024))
    assert "hu_floor" not in kinds(copy)


def test_whole_numbers_stored_as_fractions_become_integers(tmp_path):
    array = (values() > 0).astype(np.float32) * 3
    copy, done = mended(tmp_path, save(tmp_path / "a_label.nii", array))
    assert done == ("stored as uint8",)
    assert copy == tmp_path / "mended" / "a_label.nii.gz"
    assert np.array_equal(read_volume(copy).array, array)
    assert read_volume(copy).array.dtype == np.uint8


def test_a_compressed_file_under_a_plain_name_gets_the_right_one(tmp_path):
    path = save(tmp_path / "x.nii", values())
    path.write_bytes(gzip.compress(path.read_bytes()))
    copy, done = mended(tmp_path, path)
    assert (copy.name, done) == ("x.nii.gz", ("renamed to .nii.gz",))
    assert np.array_equal(read_volume(copy).array, values())


def test_a_qform_that_is_no_rotation_gives_way_to_the_sform(tmp_path):
    path = save(tmp_path / "x.nii", values())
    raw = bytearray(path.read_bytes())
    raw[256:268] = struct.pack("<3f", 2, 2, 2)
    path.write_bytes(raw)
    assert kinds(path) == {"qform"}
    copy, done = mended(tmp_path, path)
    assert done == ("qform code 0: the sform alone holds",)
    assert np.allclose(read_volume(copy).spacing_mm, (1, 2, 3))


def test_voxel_sizes_in_metres_become_millimetres_where_that_is_plausible(tmp_path):
    path = tmp_path / "x.nii"
    image = nib.Nifti1Image(values(), np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, path)
    copy, done = mended(tmp_path, path)
    assert done == ("voxel sizes in mm: 1 x 2 x 3",)
    assert np.allclose(read_volume(copy).spacing_mm, (1, 2, 3))
    assert np.array_equal(read_volume(copy).array, values())
    other = nib.Nifti1Image(values(), np.diag([1.0, 2, 3, 1]))  # or the unit is wrong: 1000 mm is no voxel
    other.header.set_xyzt_units("meter")
    nib.save(other, tmp_path / "y.nii")
    assert mend(run_check([tmp_path / "y.nii"], deep=True).findings, tmp_path / "other") == []
    assert not list((tmp_path / "other").glob("*"))


def test_what_would_need_a_guess_is_left_alone(tmp_path):
    (tmp_path / "bad.nii").write_bytes(b"garbage")
    save(tmp_path / "flat.nii", values() * 0)
    save(tmp_path / "time.nii", np.zeros((3, 3, 3, 2), np.int16))
    assert mend(run_check([tmp_path], deep=True).findings, tmp_path / "mended") == []


def test_a_file_with_another_error_beside_is_left_out(tmp_path):
    array = values()
    array[:] = np.nan
    array[0, 0, 0] = 1
    path = save(tmp_path / "x.nii", array)
    assert "constant" in kinds(path)
    assert mend(run_check([path], deep=True).findings, tmp_path / "mended") == []


def test_folders_stay_and_what_stands_is_not_overwritten(tmp_path):
    for name in ("a/x.nii.gz", "b/x.nii.gz"):
        array = values()
        array[0, 0, 0] = np.nan
        save(tmp_path / "data" / name, array)
    findings = run_check([tmp_path / "data"], deep=True).findings
    copies = [one.copy.relative_to(tmp_path / "mended") for one in mend(findings, tmp_path / "mended")]
    assert sorted(map(str, copies)) == ["a/x.nii.gz", "b/x.nii.gz"]
    with pytest.raises(InputError, match="stands already"):
        mend(findings, tmp_path / "mended")


def test_a_copy_into_the_folder_of_the_original_does_not_replace_it(tmp_path):
    array = values()
    array[0, 0, 0] = np.nan
    path = save(tmp_path / "x.nii.gz", array)
    with pytest.raises(InputError, match="stands already"):
        mend(run_check([path], deep=True).findings, tmp_path)
    assert np.isnan(read_volume(path).array[0, 0, 0])
