"""Compressed voxels that can be unpacked and are wrong all the same."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medgan.check import run_check
from medgan.config import InputError
from medgan.data.checksum import is_damaged
from medgan.data.detached import find_body
from medgan.data.volume import read_volume

VALUES = np.random.default_rng(0).integers(-500, 500, (64, 64, 32)).astype(np.int16)


def write(path: Path, *, damaged: bool, is_label: bool = False) -> Path:
    """A compressed volume, packed without compression, so that a damaged byte changes one value and nothing else."""
    values = np.abs(VALUES) % 3 if is_label else VALUES
    if path.name.endswith(".gz"):
        image = nib.Nifti1Image(values, np.eye(4))
        packed = bytearray(gzip.compress(image.to_bytes(), 0))
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values.T), str(path), False)
        body = find_body(path)
        head, voxels = path.read_bytes()[: body.start], path.read_bytes()[body.start :]
        if path.suffix == ".nrrd":
            packed = bytearray(head.replace(b"encoding: raw", b"encoding: gzip") + gzip.compress(voxels, 0))
        else:
            squeezed = zlib.compress(voxels, 0)
            size = f"CompressedDataSize = {len(squeezed)}\n".encode()
            head = head.replace(b"CompressedData = False\n", b"CompressedData = True\n" + size)
            packed = bytearray(head + squeezed)
    if damaged:
        packed[-100_000] ^= 1
    path.write_bytes(packed)
    return path


@pytest.mark.parametrize("name", ["x.nii.gz", "x_label.nii.gz"])
def test_a_byte_that_changed_is_an_error_although_it_can_be_read(tmp_path, name):
    sound = write(tmp_path / name, damaged=False, is_label="label" in name)
    expected = read_volume(sound).array
    assert "checksum" not in {one.kind for one in run_check([sound], deep=True).findings}
    damaged = write(tmp_path / name, damaged=True, is_label="label" in name)
    assert (read_volume(damaged).array != expected).sum() == 1
    found = {one.kind: one.severity for one in run_check([damaged], deep=True).findings}
    assert found["checksum"] == "error"


def test_a_packed_metaimage_file_that_is_damaged_is_refused(tmp_path):
    assert np.array_equal(read_volume(write(tmp_path / "x.mha", damaged=False)).array, VALUES)
    with pytest.raises(InputError, match="not as they were packed"):
        read_volume(write(tmp_path / "x.mha", damaged=True))
    found = {one.kind for one in run_check([tmp_path / "x.mha"], deep=True).findings}
    assert found == {"checksum"}


def test_a_packed_nrrd_file_that_is_damaged_or_cut_behind_its_voxels_is_an_error(tmp_path):
    assert run_check([write(tmp_path / "x.nrrd", damaged=True)], deep=True).has_errors
    path = write(tmp_path / "y.nrrd", damaged=False)
    assert not run_check([path], deep=True).has_errors
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    assert run_check([path], deep=True).has_errors


def test_a_plain_file_has_no_checksum_and_a_bomb_is_not_unpacked(tmp_path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "x.nii")
    assert not is_damaged(tmp_path / "x.nii", 2**18)
    raw = nib.Nifti1Image(VALUES, np.eye(4)).to_bytes() + bytes(2**23)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(raw, 1)[:-4])  # cut at its end, far behind the voxels
    assert not is_damaged(tmp_path / "x.nii.gz", 2**18)
    assert is_damaged(tmp_path / "x.nii.gz", 2**24)
