"""Drawn headers come back from translation as they went in."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from translation_geometry import Header, headers, make_file, round_trip

PLAIN = Header(
    shape=(9, 8, 7),
    trailing=1,
    codes="PIR",
    angles=(0.1, -0.2, 0.3),
    spacing_mm=(1.0, 2.0, 3.0),
    origin_mm=(10.0, -20.0, 700.0),
    dtype=">i2",
    scaling=(0.5, -3.0),
    forms=(2, 4),
    version=2,
    suffix=".nii",
    units="mm",
    working_mm=None,
)


def test_the_drawn_file_is_what_its_header_says(tmp_path: Path) -> None:
    make_file(PLAIN, tmp_path / "drawn.nii")
    image = nib.load(tmp_path / "drawn.nii")
    assert isinstance(image, nib.Nifti2Image)
    assert image.shape == (9, 8, 7, 1)
    assert image.header.endianness == ">"
    assert (image.dataobj.slope, image.dataobj.inter) == (0.5, -3.0)
    assert nib.aff2axcodes(image.affine) == tuple("PIR")
    assert np.allclose(nib.affines.voxel_sizes(image.affine), (1.0, 2.0, 3.0))
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (2, 4)
    assert 55 < image.get_fdata().min() < image.get_fdata().max() < 121


def test_a_grid_that_moved_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import translation_geometry

    read = translation_geometry.read_volume

    def shifted(path: Path) -> object:
        volume = read(path)
        return replace(volume, affine=volume.affine + 1e-3 * np.eye(4)[:, [1, 2, 3, 0]], header=None)

    assert round_trip(PLAIN, tmp_path).affine_mm <= 1e-5
    monkeypatch.setattr(translation_geometry, "read_volume", shifted)
    trip = round_trip(PLAIN, tmp_path)
    assert trip.affine_mm > 1e-4
    assert not trip.is_same_grid


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(headers())
def test_the_grid_that_goes_in_comes_out(header: Header) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trip = round_trip(header, Path(folder))
    assert trip.affine_mm <= 1e-5
    assert trip.forms_mm <= 1e-5
    assert trip.is_same_grid
    assert trip.value_hu is None or trip.value_hu <= 1
