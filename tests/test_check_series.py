"""DICOM folders: series by UID, and why slices form no volume."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan.check import run_check

DATA = Path(os.environ.get("MEDGAN_DATA", Path(__file__).parents[2] / "shared/data"))


def write_slice(path: Path, position, pixels=None, uid="2.25.7", **elements) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    one.SeriesInstanceUID, one.Modality, one.PatientName = uid, "CT", "Doe^Jane"
    one.ImagePositionPatient, one.ImageOrientationPatient = list(position), [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness = [1, 1], 3
    one.RescaleSlope, one.RescaleIntercept = 1, 0
    pixels = np.arange(48).reshape(6, 8) * 10 - 300 if pixels is None else pixels
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = *pixels.shape, 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.PixelData = pixels.astype("<i2").tobytes()
    one["PixelData"].VR = "OW"
    for name, value in elements.items():
        setattr(one, name, value)
    one.save_as(path, enforce_file_format=True)


def stack(folder: Path, positions, **elements) -> Path:
    for index, position in enumerate(positions):
        write_slice(folder / f"{index:02}.dcm", position, **elements)
    return folder


def errors(folder: Path) -> list[tuple[str, str]]:
    return [(one.kind, one.what) for one in run_check([folder], deep=True).findings if one.severity != "note"]


EVEN = [(0, 0, 3 * z) for z in range(6)]


def test_a_sound_series_is_listed_by_its_uid_without_the_patient(tmp_path, capsys):
    from medgan.check import print_check, write_check

    checked = run_check([stack(tmp_path / "ct", EVEN)], deep=True)
    assert checked.findings == ()
    (one,) = checked.volumes
    assert (one.series, one.modality, one.shape, one.low, one.high) == ("2.25.7", "ct", (8, 6, 6), -300, 170)
    print_check(checked.findings, checked.volumes)
    write_check(tmp_path / "out.json", checked.findings, checked.volumes)
    shown = capsys.readouterr().out + (tmp_path / "out.json").read_text()
    assert "2.25.7" in shown
    assert "Doe" not in shown


@pytest.mark.parametrize(
    ("positions", "kind", "what"),
    [
        ([(0, z, 3 * z) for z in range(6)], "series_tilted", "gantry tilt of 18.4 degrees"),
        ([*EVEN[:2], *EVEN[3:]], "series_gapped", "uneven slice distances (3.00 to 6.00 mm, mostly 3.00 mm)"),
        ([*EVEN, EVEN[2]], "series_duplicates", "several slices at one place (1 of 7 lie on another"),
    ],
)
def test_slices_that_form_no_grid_are_named(tmp_path, positions, kind, what):
    ((found, told),) = errors(stack(tmp_path, positions))
    assert found == kind
    assert told.startswith(what)


def test_a_tilted_series_with_gaps_and_padding_has_all_three(tmp_path):
    pixels = np.arange(48).reshape(6, 8) * 10 - 300
    pixels[0] = -1500
    folder = stack(tmp_path, [(0, z, 3 * z) for z in (0, 1, 2, 4, 5)], pixels=pixels)
    assert [kind for kind, _ in errors(folder)] == ["series_tilted", "series_gapped", "hu_floor"]


def test_mixed_slices_and_several_series_are_named(tmp_path):
    stack(tmp_path / "mixed", EVEN)
    write_slice(tmp_path / "mixed/scout.dcm", (0, 0, 90), np.zeros((4, 4)))
    assert errors(tmp_path / "mixed")[0][1].startswith("slices of several sizes")
    assert errors(tmp_path / "mixed")[0][0] == "series_mixed"
    stack(tmp_path / "two", EVEN)
    for index, position in enumerate(EVEN):
        write_slice(tmp_path / f"two/b{index}.dcm", position, uid="2.25.8", pixels=np.ones((6, 8)) * index)
    checked = run_check([tmp_path / "two"])
    assert [(one.kind, one.what) for one in checked.findings] == [("several_series", "2 series: 2.25.7, 2.25.8")]
    assert [one.series for one in checked.volumes] == ["2.25.7", "2.25.8"]


def test_a_slice_without_a_place_and_a_multi_frame_object_are_named(tmp_path):
    stack(tmp_path / "a", EVEN)
    write_slice(tmp_path / "a/x.dcm", (0, 0, 18), ImagePositionPatient=None)
    assert errors(tmp_path / "a")[0] == (
        "series_no_place",
        "1 of 7 slices: DICOM ImagePositionPatient is not 3 numbers",
    )
    write_slice(tmp_path / "b/x.dcm", (0, 0, 0), NumberOfFrames=12)
    assert errors(tmp_path / "b") == [("series_frames", "1 of 1 slices: multi-frame DICOM")]


def test_a_header_that_names_another_modality_than_the_folder_is_a_warning(tmp_path):
    assert errors(stack(tmp_path / "MR", EVEN)) == [
        ("modality", "named as MR, its DICOM header says CT"),
    ]


def test_an_object_without_pixels_is_left_alone_and_a_damaged_one_is_not(tmp_path):
    stack(tmp_path, EVEN)
    plan = pydicom.dcmread(tmp_path / "00.dcm")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(plan, name)
    plan.Modality = "RTSTRUCT"
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTStructureSetStorage
    plan.save_as(tmp_path / "plan.dcm")
    assert errors(tmp_path) == []
    (tmp_path / "01.dcm").write_bytes((tmp_path / "01.dcm").read_bytes()[:200])
    ((kind, _),) = errors(tmp_path)
    assert kind == "cut_short"


def test_a_zip_of_a_series_is_looked_into_and_left_no_trace_of(tmp_path):
    stack(tmp_path / "deep/ct", [(0, z, 3 * z) for z in range(6)])
    shutil.make_archive(str(tmp_path / "patient"), "zip", tmp_path / "deep")
    shutil.rmtree(tmp_path / "deep")
    checked = run_check([tmp_path], deep=True)
    found = {one.kind: one for one in checked.findings}
    assert set(found) == {"series_tilted", "archive"}
    assert found["series_tilted"].place == f"{tmp_path}/patient.zip/ct"
    assert list(tmp_path.iterdir()) == [tmp_path / "patient.zip"]
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "no images")
    assert ("nothing", "volumes and DICOM folders in it: 0") in [
        (one.kind, one.what) for one in run_check([tmp_path / "empty.zip"]).findings
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real cases are not here; set MEDGAN_DATA to their folder")
def test_what_is_told_of_the_real_files_is_found():
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
    from check_study import ODDITIES, is_found

    for folder in ("odd", "head-ct-tilt-dicom", "sts-dicom"):
        checked = run_check([DATA / folder], deep=True)
        assert not [one for one in ODDITIES if one.folder == folder and not is_found(one, checked)]
