"""A translation as a derived DICOM series, slice by slice where the slices lie that it was made from.

Every element of the output is listed here: nothing else of the source, no private element above all, comes along.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from medgan.data import series
from medgan.data.geometry import refusal
from medgan.data.pixels import lenient, read_dataset

SOP_CLASSES = {"ct": CTImageStorage, "mr": MRImageStorage}
"""The modalities that can be written."""

_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices")
_SCAN = ("PatientPosition", "BodyPartExamined", "Laterality", "LossyImageCompression")
_PATIENT = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
    *("StudyDescription", "AccessionNumber", "ReferringPhysicianName", "InstitutionName", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified"),
)
_EMPTY = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "PositionReferenceIndicator", "AcquisitionNumber", "SliceThickness", "PatientPosition"),
)  # must be there, may hold nothing
_OF_CT: dict[str, Any] = {"KVP": None, "RescaleType": "HU"}
_OF_MR: dict[str, Any] = {
    **{"ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": None, "MRAcquisitionType": None},
    **{"RepetitionTime": None, "EchoTime": None, "EchoTrainLength": None},
}
_SERIES_NUMBER = 9001  # sorts behind what scanners number
_CT_WINDOW = (40.0, 400.0)
_ENOUGH_STEPS, _MOST_STEPS = 1000, 32000  # of stored values: whole numbers will do; what 16 bits hold


@dataclass(frozen=True)
class SeriesTemplate:
    """The headers of a series, in the order of its volume's slices; made by `read_template`."""

    headers: tuple[Dataset, ...]
    keep_patient: bool

    def write(self, folder: Path, array: npt.NDArray[Any], modality: str, *, force: bool = False) -> None:
        """Write a volume on the grid of the series as a derived series of its own, whole or not at all.

        Series and slices get new UIDs; the frame of reference stays, or viewers would not lay the two on each other.
        Without `keep_patient` the patient is SYNTHETIC, with a number made from the study's UID, and the study is a new
        one, the same for all series of the old one. CT is stored as HU. Another modality is stored as whole numbers
        where its range holds 1000 of them, else with a rescale slope.

        Args:
            folder: of the series; made here.
            array: (X, Y, Z), as `read_volume` gives it for the series.
            modality: a key of `SOP_CLASSES`.
            force: replace the folder if it is there.

        Raises:
            InputError: the folder is there, or cannot be written.
            ValueError: `array` has another shape than the series.
        """
        first = self.headers[0]
        if array.shape != (first.Columns, first.Rows, len(self.headers)):
            raise ValueError(f"array of shape {array.shape} does not fit the series")
        if folder.exists() and not force:
            raise refusal(folder, "stands already", "move it away, or use --force")
        stored, slope, intercept = _stored(array)
        window = _CT_WINDOW if modality == "ct" else _window(array)
        with lenient():
            shared = self._shared(modality, slope, intercept, window)
        partial, old = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "old"))
        try:
            for rest in (partial, old):
                shutil.rmtree(rest, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                for index, header in enumerate(self.headers):
                    with lenient():
                        one = self._slice(shared, header, index + 1, stored[:, :, index])
                        one.save_as(partial / f"{index + 1:05}.dcm", enforce_file_format=True)
                if folder.exists():
                    folder.rename(old)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise refusal(folder, f"cannot be written ({type(error).__name__})", "check its place and space") from None

    def _shared(self, modality: str, slope: str, intercept: str, window: tuple[float, float]) -> Dataset:
        """What all slices have in common."""
        source, new = self.headers[0], Dataset()
        for name in _EMPTY:
            setattr(new, name, None)
        _copy(source, new, _SCAN)
        new.update(self._identity(source))
        new.FrameOfReferenceUID = source.get("FrameOfReferenceUID") or _derived_uid(str(source.SeriesInstanceUID))
        new.SOPClassUID, new.Modality = SOP_CLASSES[modality], modality.upper()
        new.SeriesInstanceUID, new.SeriesNumber = _uid(uuid.uuid4()), _SERIES_NUMBER
        new.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "ct" else "OTHER", "SYNTHETIC"]
        made = f"synthetic {modality.upper()} (medgan), not for diagnosis"
        new.SeriesDescription, new.SyntheticData, new.BurnedInAnnotation = made, "YES", "NO"
        came_from = source.get("Modality") or "another modality"
        new.DerivationDescription = f"{made}; translated from {came_from} by a neural network"
        new.Manufacturer, new.SoftwareVersions = "medgan", version("medgan")
        new.Rows, new.Columns, new.SamplesPerPixel = source.Rows, source.Columns, 1
        new.PhotometricInterpretation, new.PixelRepresentation = "MONOCHROME2", 1
        new.BitsAllocated, new.BitsStored, new.HighBit = 16, 16, 15
        new.RescaleSlope, new.RescaleIntercept = slope, intercept
        new.WindowCenter, new.WindowWidth = (format_number_as_ds(number) for number in window)
        for name, value in (_OF_CT if modality == "ct" else _OF_MR).items():
            setattr(new, name, value)
        return new

    def _identity(self, source: Dataset) -> Dataset:
        """Patient and study: as in the source, or nobody's."""
        new = Dataset()
        if self.keep_patient:
            _copy(source, new, _PATIENT)
            return new
        study = str(source.get("StudyInstanceUID") or source.SeriesInstanceUID)
        new.PatientName, new.PatientID = "SYNTHETIC", f"SYN-{_digest(study)[:12].upper()}"
        new.PatientIdentityRemoved = "YES"
        new.DeidentificationMethod = "medgan: new header; geometry and frame of reference kept"
        new.LongitudinalTemporalInformationModified = "REMOVED"
        new.StudyInstanceUID = _derived_uid(study)
        return new

    def _slice(self, shared: Dataset, header: Dataset, number: int, pixels: npt.NDArray[np.int16]) -> Dataset:
        new = Dataset()
        new.update(shared)
        for name in _PLACE:
            if header.get(name) is not None:
                value = header[name].value
                setattr(new, name, [_decimal(n) for n in value] if header[name].VM > 1 else _decimal(value))
        if self.keep_patient:
            came_from = Dataset()
            came_from.ReferencedSOPClassUID = header.SOPClassUID
            came_from.ReferencedSOPInstanceUID = header.SOPInstanceUID
            new.SourceImageSequence = [came_from]
        new.SOPInstanceUID, new.InstanceNumber = _uid(uuid.uuid4()), number
        new.PixelData = pixels.T.astype("<i2").tobytes()  # rows first
        new["PixelData"].VR = "OW"
        new.file_meta = FileMetaDataset()
        new.file_meta.MediaStorageSOPClassUID = new.SOPClassUID
        new.file_meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
        new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return new


def read_template(folder: Path, *, keep_patient: bool = False) -> SeriesTemplate:
    """The headers of the one series in a folder, to write a derived one; pixels stay on disk.

    Raises:
        InputError: no folder, no series that `read_volume` takes, or text burned into its pixels, which may name the
            patient, unless `keep_patient` says that this is fine.
    """
    if not folder.is_dir():
        raise refusal(folder, "no DICOM series to derive one from", "leave --dicom out, or give the folder of a series")
    with lenient():
        headers = [read_dataset(file) for file in series.series_slices(folder)]
    if not keep_patient and any(str(header.get("BurnedInAnnotation", "")).upper() == "YES" for header in headers):
        raise refusal(
            folder,
            "its pixels carry text, which may name the patient and may come through (BurnedInAnnotation is YES)",
            "leave --dicom out, or add --keep-patient",
        )
    return SeriesTemplate(tuple(headers), keep_patient)


def _copy(source: Dataset, new: Dataset, names: tuple[str, ...]) -> None:
    for name in names:
        if name in source:
            new[name] = source[name]


def _stored(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int16], str, str]:
    """An array as 16 bits, with the slope and intercept that lead back."""
    low, high = float(array.min()), float(array.max())
    limits = np.iinfo(np.int16)
    fits = limits.min <= low and high <= limits.max
    if fits and (array.dtype.kind in "iu" or high - low >= _ENOUGH_STEPS):
        return np.rint(array).astype(np.int16), "1", "0"
    slope = format_number_as_ds((high - low) / _MOST_STEPS) if high > low else "1"
    intercept = format_number_as_ds(low)
    steps = (array.astype(np.float64) - float(intercept)) / float(slope)
    return np.rint(steps).astype(np.int16), slope, intercept


def _window(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Centre and width that show an image of any units: up to what 1 in 200 voxels exceeds."""
    low, high = float(array.min()), float(np.percentile(array, 99.5))
    return (low + high) / 2, max(high - low, 1.0)


def _decimal(number: Any) -> str:
    """A decimal as the source writes it, or the nearest that fits the 16 characters of the standard."""
    text = str(number)
    return text if len(text) <= 16 else format_number_as_ds(float(number))


def _digest(text: str) -> str:
    return hashlib.sha256(f"medgan {text}".encode()).hexdigest()


def _derived_uid(text: str) -> str:
    """The same for the same text; nobody finds the text from it who does not know it already."""
    return _uid(uuid.uuid5(uuid.NAMESPACE_OID, f"medgan {text}"))


def _uid(number: uuid.UUID) -> str:
    """A UID of the root that the standard gives to UUIDs (PS3.5, Annex B.2)."""
    return f"2.25.{number.int}"
