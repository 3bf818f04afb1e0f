"""Real DICOM series through a trained run: where the derived series lies, what it says, and what is refused."""

# mypy: allow-untyped-calls
# (SimpleITK has no types)

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK

from medgan.config import InputError
from medgan.data.geometry import largest_displacement_mm
from medgan.data.volume import read_volume
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, translate

OPTIONS = TranslateOptions(precision="float32")
_NAMING = ("DA", "TM", "DT", "PN")  # kinds of elements that may tell who it was, beside UIDs


def measure_dicom(run: RunDir, data: Path) -> dict[str, Any]:
    """Both series of the sarcoma patient, translated and reopened, and the words that refuse the tilted head."""
    with _unpacked(data / "sts-dicom") as folder:
        scans: tuple[tuple[str, Direction], ...] = (("MR_T1", "BA"), ("CT", "AB"))
        rows = [_measure_series(run, folder / "STS_025" / scan / "image", scan, way) for scan, way in scans]
    with _unpacked(data / "head-ct-tilt-dicom") as folder:
        series = next(path for path in folder.iterdir() if path.is_dir())
        try:
            translate(run, [series], folder / "out", device="cpu", options=OPTIONS, dicom=True)
            refused = ""
        except InputError as mistake:
            refused = " ".join(str(mistake).replace(f"{folder}/", "").split())
        left = (folder / "out").exists()
    return {"rows": rows, "refused": refused, "left": left}


def _measure_series(run: RunDir, source: Path, scan: str, way: Direction) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        (nifti,) = translate(run, [source], Path(temporary), direction=way, device="cpu", options=OPTIONS, dicom=True)
        made, one = nifti.with_name("image_dicom"), with_itk(source)
        other, headers = with_itk(made), [pydicom.dcmread(file) for file in sorted(made.iterdir())]
        before = {tuple(map(float, header.ImagePositionPatient)) for header in _headers(source)}
        after = {tuple(map(float, header.ImagePositionPatient)) for header in headers}
        pixels = np.stack([header.pixel_array.T for header in headers], axis=2).astype(np.float64)
        values = pixels * float(headers[0].RescaleSlope) + float(headers[0].RescaleIntercept)
        array, volume = read_volume(nifti), read_volume(source)
        return {
            "scan": scan,
            "modality": str(headers[0].Modality),
            "shape": list(volume.array.shape),
            "itk_mm": float(largest_displacement_mm(_affine(one), _affine(other), volume.array.shape)),
            "pydicom_mm": float(np.abs(np.array(sorted(before)) - np.array(sorted(after))).max()),
            "nifti_mm": float(largest_displacement_mm(array.affine, read_volume(made).affine, volume.array.shape)),
            "itk_values": float(np.abs(SimpleITK.GetArrayFromImage(other).T - array.array).max()),
            "pydicom_values": float(np.abs(values - array.array).max()),
            "naming": naming_elements(source, made),
        }


def naming_elements(source: Path, made: Path) -> list[str]:
    """Elements of a derived series that hold a name, number, date or UID of its source, frame of reference apart."""
    secrets: set[str] = set()
    for header in _headers(source):
        secrets |= {str(header[name].value) for name in ("PatientID", "AccessionNumber", "StudyID") if name in header}
        secrets |= {str(element.value) for element in header.iterall() if element.VR in (*_NAMING, "UI")}
        secrets -= {"", str(header.SOPClassUID), str(header.get("FrameOfReferenceUID"))}
    found = {
        element.keyword
        for header in _headers(made)
        for element in header.iterall()
        if element.keyword != "SOPClassUID" and any(secret in str(element.value) for secret in secrets)
    }
    return sorted(found)


def with_itk(folder: Path) -> Any:
    """A series as SimpleITK reads it."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def _affine(image: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    placed = np.eye(4)
    placed[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    placed[:3, 3] = image.GetOrigin()
    return placed


def _headers(folder: Path) -> list[pydicom.Dataset]:
    with pydicom.config.disable_value_validation():
        headers: list[pydicom.Dataset] = []
        headers += (pydicom.dcmread(file, stop_before_pixels=True) for file in sorted(folder.iterdir()))
        for header in headers:
            header.decode()
    return headers


@contextmanager
def _unpacked(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(next(folder.glob("*.zip"))) as archive:
            archive.extractall(temporary)
        yield Path(temporary)
