"""Derived DICOM series: same grid, right values, nothing of the patient unless asked for."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from medgan.config import InputError
from medgan.data.dicom import SeriesTemplate, read_template
from medgan.data.volume import read_volume

DATA = Path(os.environ.get("MEDGAN_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "sts-dicom").is_dir(), reason="no real cases at $MEDGAN_DATA")
COLUMNS, ROWS, SLICES = 6, 5, 4
OBLIQUE = ["0.8", "0.6", "0", "0", "0", "-1"]  # coronal, turned: slices go along (-0.6, 0.8, 0)
PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711-08",
    "PatientBirthDate": "19600102",
    "PatientSex": "F",
    "PatientAge": "061Y",
    "StudyDate": "20210304",
    "StudyTime": "113355",
    "SeriesDate": "20210305",
    "AcquisitionDateTime": "20210306101112",
    "AccessionNumber": "ACC-99812",
    "InstitutionName": "General Hospital Nowhere",
    "ReferringPhysicianName": "House^Gregory",
    "OperatorsName": "Smith^Op",
    "StationName": "SCANNER-17",
    "DeviceSerialNumber": "SN-55512",
    "StudyID": "STUDY-31",
    "StudyDescription": "thigh of Jane",
    "SeriesDescription": "T1 of Jane",
    "ImageComments": "call 555-0199",
}
UIDS = {"StudyInstanceUID": "1.2.826.77.1", "SeriesInstanceUID": "1.2.826.77.2", "FrameOfReferenceUID": "1.2.826.77.3"}


def write_series(folder: Path, modality: str = "MR", **changes: Any) -> Path:
    """An oblique series whose files are not in the order of its slices, with a private block."""
    folder.mkdir(parents=True)
    step = 2.5 * np.cross([0.8, 0.6, 0], [0, 0, -1])
    for index in range(SLICES):
        one = pydicom.Dataset()
        for name, value in {**PATIENT, **UIDS, **changes}.items():
            setattr(one, name, value)
        one.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
        one.SOPInstanceUID, one.Modality = f"1.2.826.77.9.{index + 1}", modality
        one.ImageOrientationPatient, one.PixelSpacing = OBLIQUE, ["1.25", "0.75"]
        one.ImagePositionPatient = [f"{number:.6f}" for number in [10.1, -20.2, 30.3] + index * step]
        one.SliceThickness, one.PatientPosition, one.BodyPartExamined = "2.5", "FFS", "EXTREMITY"
        one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        pixels = np.arange(ROWS * COLUMNS, dtype="<i2").reshape(ROWS, COLUMNS) + 100 * index
        one.PixelData = pixels.tobytes()
        one["PixelData"].VR = "OW"
        one.private_block(0x0011, "JANES CLINIC", create=True).add_new(1, "LO", "Jane's private note")
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{SLICES - index}.dcm", enforce_file_format=True)
    return folder


def elements(folder: Path) -> Iterator[tuple[str, str]]:
    """Keyword and text of every element of every file of a series, those in sequences and file headers too."""
    for file in sorted(folder.iterdir()):
        one = pydicom.dcmread(file)
        for dataset in (one.file_meta, one):
            for element in dataset.iterall():
                if element.keyword != "PixelData" and element.VR != "SQ":
                    yield element.keyword or str(element.tag), str(element.value)


def with_itk(folder: Path) -> Any:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "mr")


def test_each_slice_lies_where_the_slice_lies_that_it_came_from(series: Path, tmp_path: Path) -> None:
    volume = read_volume(series)
    array = (volume.array * 3 - 500).astype(np.int16)
    read_template(series).write(tmp_path / "out", array, "ct")
    again = read_volume(tmp_path / "out")
    assert np.array_equal(again.affine, volume.affine)
    assert np.array_equal(again.array, array)
    one, other = with_itk(series), with_itk(tmp_path / "out")
    assert one.GetOrigin() == other.GetOrigin()
    assert one.GetSpacing() == other.GetSpacing()
    assert one.GetDirection() == other.GetDirection()
    sources = {str(one.ImagePositionPatient): one for one in map(pydicom.dcmread, series.iterdir())}
    made = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    assert [int(one.InstanceNumber) for one in made] == [1, 2, 3, 4]
    for one in made:
        source = sources[str(one.ImagePositionPatient)]
        for name in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "PatientPosition"):
            assert one[name].value == source[name].value
        assert np.array_equal(one.pixel_array, source.pixel_array * 3 - 500)


def test_the_series_says_what_it_is(series: Path, tmp_path: Path) -> None:
    template = read_template(series)
    template.write(tmp_path / "ct", np.zeros((COLUMNS, ROWS, SLICES), np.int16), "ct")
    template.write(tmp_path / "mr_again", np.zeros((COLUMNS, ROWS, SLICES), np.float32), "mr")
    ct, mr = ([pydicom.dcmread(file) for file in (tmp_path / name).iterdir()] for name in ("ct", "mr_again"))
    for made, modality, sop_class in ((ct, "CT", CTImageStorage), (mr, "MR", MRImageStorage)):
        assert {one.Modality for one in made} == {modality}
        assert {one.SOPClassUID for one in made} == {one.file_meta.MediaStorageSOPClassUID for one in made}
        assert made[0].SOPClassUID == sop_class
        assert made[0].SeriesDescription == f"synthetic {modality} (medgan), not for diagnosis"
        assert list(made[0].ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert made[0].SyntheticData == "YES"
        assert "neural network" in made[0].DerivationDescription
        assert {one.file_meta.MediaStorageSOPInstanceUID for one in made} == {one.SOPInstanceUID for one in made}
        assert len({one.SOPInstanceUID for one in made}) == SLICES
        assert len({one.SeriesInstanceUID for one in made}) == 1
        assert made[0].FrameOfReferenceUID == UIDS["FrameOfReferenceUID"]
        assert all(pydicom.uid.UID(one.SOPInstanceUID).is_valid for one in made)
    assert ct[0].SeriesInstanceUID != mr[0].SeriesInstanceUID
    assert ct[0].StudyInstanceUID == mr[0].StudyInstanceUID
    assert (ct[0].RescaleSlope, ct[0].RescaleIntercept, ct[0].RescaleType) == (1, 0, "HU")


def test_nothing_of_the_patient_is_left(series: Path, tmp_path: Path) -> None:
    read_template(series).write(tmp_path / "out", read_volume(series).array, "ct")
    secrets = {*PATIENT.values(), "Jane", "4711", "555", "JANES"} - {"F"}
    for name, value in elements(tmp_path / "out"):
        if name == "FrameOfReferenceUID":
            continue
        if name.endswith("UID"):  # digits drawn anew for every series: any short number may turn up among them
            assert not value.startswith("1.2.826.77."), name
        else:
            assert not [secret for secret in secrets if secret in value], name
    for file in (tmp_path / "out").iterdir():
        assert b"Jane" not in file.read_bytes()
    one = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert (str(one.PatientName), one.PatientIdentityRemoved, one.PatientSex) == ("SYNTHETIC", "YES", "")
    assert not any(element.tag.is_private for element in one.iterall())
    assert not any(element.VR in ("DA", "TM", "DT") and element.value for element in one.iterall())


def test_patients_of_two_studies_are_two_and_of_one_study_one(series: Path, tmp_path: Path) -> None:
    other = write_series(tmp_path / "other", StudyInstanceUID="1.2.826.78.1")
    sibling = write_series(tmp_path / "sibling", SeriesInstanceUID="1.2.826.77.4")
    made = []
    for number, folder in enumerate((series, other, sibling)):
        read_template(folder).write(tmp_path / str(number), read_volume(folder).array, "ct")
        one = pydicom.dcmread(tmp_path / str(number) / "00001.dcm")
        made.append((one.PatientID, one.StudyInstanceUID))
    assert made[0] == made[2]
    assert made[0][0] != made[1][0]
    assert made[0][1] != made[1][1]


def test_the_patient_stays_if_asked_for_and_the_source_is_named(series: Path, tmp_path: Path) -> None:
    read_template(series, keep_patient=True).write(tmp_path / "out", read_volume(series).array, "ct")
    one = pydicom.dcmread(tmp_path / "out" / "00002.dcm")
    for name in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate"):
        assert str(one[name].value) == PATIENT[name]
    assert one.StudyInstanceUID == UIDS["StudyInstanceUID"]
    assert one.SeriesInstanceUID != UIDS["SeriesInstanceUID"]
    assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.826.77.9.2"
    assert one.SourceImageSequence[0].ReferencedSOPClassUID == MRImageStorage
    assert "PatientIdentityRemoved" not in one
    assert one.SeriesDescription == "synthetic CT (medgan), not for diagnosis"
    assert not any(element.tag.is_private for element in one.iterall())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1400.0), (0.0, 2.5), (-0.125, 90000.0), (7.0, 7.0)])
def test_values_of_mr_come_back(series: Path, tmp_path: Path, low: float, high: float) -> None:
    array = np.linspace(low, high, COLUMNS * ROWS * SLICES, dtype=np.float32).reshape(COLUMNS, ROWS, SLICES)
    read_template(series).write(tmp_path / "out", array, "mr")
    made = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    values = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in made])
    assert np.abs(values.transpose(2, 1, 0) - array).max() <= max((high - low) / 2000, 1e-6)
    assert float(made[0].WindowWidth) > 0
    if 1000 <= high - low < 32000:
        assert (made[0].RescaleSlope, made[0].RescaleIntercept) == (1, 0)


def test_a_series_is_written_whole_or_not_at_all_and_over_nothing(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, array = read_template(series), np.zeros((COLUMNS, ROWS, SLICES), np.int16)
    with pytest.raises(ValueError, match="does not fit"):
        template.write(tmp_path / "out", array[:-1], "ct")
    make, calls = SeriesTemplate._slice, []

    def stop_at_the_third(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return make(*arguments)

    monkeypatch.setattr(SeriesTemplate, "_slice", stop_at_the_third)
    with pytest.raises(InputError, match="cannot be written"):
        template.write(tmp_path / "out", array, "ct")
    assert [path.name for path in tmp_path.iterdir()] == ["mr"]
    template.write(tmp_path / "out", array, "ct")
    with pytest.raises(InputError, match="stands already"):
        template.write(tmp_path / "out", array + 1, "ct")
    assert read_volume(tmp_path / "out").array.max() == 0
    template.write(tmp_path / "out", array + 1, "ct", force=True)
    assert read_volume(tmp_path / "out").array.min() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mr", "out"]


def test_text_in_the_pixels_is_not_passed_on_unawares(tmp_path: Path) -> None:
    labelled = write_series(tmp_path / "labelled", BurnedInAnnotation="YES")
    with pytest.raises(InputError, match="its pixels carry text"):
        read_template(labelled)
    assert len(read_template(labelled, keep_patient=True).headers) == SLICES
    with pytest.raises(InputError, match="no DICOM series to derive one from"):
        read_template(tmp_path / "labelled" / "1.dcm")


def test_positions_of_more_digits_than_the_standard_allows_move_by_nothing_that_counts(
    series: Path, tmp_path: Path
) -> None:
    for file in series.iterdir():
        with pydicom.config.disable_value_validation():
            one = pydicom.dcmread(file)
            one.ImagePositionPatient = [f"{float(number) / 3:.19f}" for number in one.ImagePositionPatient]
            one.save_as(file)
    volume = read_volume(series)
    read_template(series).write(tmp_path / "out", volume.array, "ct")
    assert np.abs(read_volume(tmp_path / "out").affine - volume.affine).max() < 1e-9


@needs_data
@pytest.mark.parametrize(("scan", "modality"), [("CT", "mr"), ("MR_T1", "ct")])
def test_real_series_come_back_on_their_grids_and_name_nobody(tmp_path: Path, scan: str, modality: str) -> None:
    with zipfile.ZipFile(next((DATA / "sts-dicom").glob("*.zip"))) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "STS_025" / scan / "image"
    volume = read_volume(folder)
    read_template(folder).write(tmp_path / "out", volume.array, modality)
    assert np.array_equal(read_volume(tmp_path / "out").array, volume.array)
    one, other = with_itk(folder), with_itk(tmp_path / "out")
    for place in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(one, place)(), getattr(other, place)(), atol=1e-9)
    with pydicom.config.disable_value_validation():
        source = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True)
        secrets = {str(e.value) for e in source.iterall() if e.VR in ("DA", "TM", "DT", "UI", "PN") and e.value}
    secrets |= {"STS_025", "IBSI", "1965292013600439"}
    secrets -= {str(source.FrameOfReferenceUID), str(source.SOPClassUID), str(CTImageStorage), str(MRImageStorage)}
    found = [
        (name, value)
        for name, value in elements(tmp_path / "out")
        for secret in secrets
        if secret in value and not (value.startswith("2.25.") and secret.isdigit())  # digits of a drawn UID are chance
    ]
    assert found == []


def test_a_nifti_beside_the_series_lies_on_the_same_grid(series: Path, tmp_path: Path) -> None:
    from medgan.data.volume import write_volume

    volume = read_volume(series)
    write_volume(tmp_path / "out.nii.gz", volume.array, volume)
    read_template(series).write(tmp_path / "out", volume.array, "ct")
    assert np.allclose(nib.load(tmp_path / "out.nii.gz").affine, read_volume(tmp_path / "out").affine, atol=1e-5)
