"""One DICOM slice: its header, read by pydicom, and which series it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import UID

from medgan.data.geometry import refusal
from medgan.data.pixels import BIG_ENDIAN, Layout, lenient, read_dataset

_PIXEL_TAGS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
_TAGS = (
    *_PIXEL_TAGS,
    *("SeriesInstanceUID", "Modality", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept"),
)
_DICM, _FIRST_GROUPS = b"DICM", (b"\x02\x00", b"\x08\x00")  # with a preamble, or beginning with an element


@dataclass(frozen=True)
class Slice:
    """The header of one DICOM slice.

    Attributes:
        file: where it lies.
        series: the UID of its series.
        modality: as the header has it, such as "CT".
        position: of its first pixel, LPS mm.
        along_row: direction of a row, in which the column index grows.
        along_column: direction of a column.
        spacing_mm: between columns, between rows.
        thickness_mm: of the slice.
        rescale: slope and intercept.
        layout: of its pixels.
    """

    file: Path
    series: str
    modality: str
    position: npt.NDArray[np.float64]
    along_row: npt.NDArray[np.float64]
    along_column: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float
    rescale: tuple[float, float]
    layout: Layout


@lenient()
def series_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each DICOM image series in a folder (not below it), by series UID; objects without pixels, such as
    an RTSTRUCT, are left out.

    Raises:
        InputError: the folder cannot be read, or a file in it that says it is DICOM: it may be a slice.
    """
    found: dict[str, list[Path]] = {}
    try:
        files = sorted(one for one in folder.iterdir() if not one.name.startswith(".") and one.is_file())
    except OSError as error:
        raise refusal(folder, f"cannot be read ({type(error).__name__})", "check that you may read it") from None
    for file in files:
        if may_be_dicom(file):
            header = read_dataset(file, ["SeriesInstanceUID", "SOPClassUID", "Rows"])
            if "Rows" in header:
                found.setdefault(_uid(header), []).append(file)
            elif _should_be_image(header):
                raise refusal(
                    file, "DICOM image without its rows: cut short or damaged", "export it again", "cut_short"
                )
    return {uid: tuple(files) for uid, files in found.items()}


def _should_be_image(header: Dataset) -> bool:
    """Whether an object without rows is a damaged image: it says so, or does not say what it is."""
    said = _text(header, "SOPClassUID") or _text(_meta(header), "MediaStorageSOPClassUID")
    return not said or "Image" in UID(said).name


def may_be_dicom(file: Path) -> bool:
    """Whether a file begins as DICOM does: with its preamble, or, without one, with a first element."""
    try:
        with file.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    is_element = head[:2] in _FIRST_GROUPS and head[4:6].isalpha() and head[4:6].isupper()
    return head[128:] == _DICM or is_element


@lenient()
def read_slice(file: Path) -> Slice:
    """The header of one slice.

    Raises:
        InputError: no DICOM, several frames or colours, or no place.
    """
    header = read_dataset(file, _TAGS)
    if str(header.get("NumberOfFrames") or "1").strip() not in ("0", "1"):
        way_out = "convert it to NIfTI first, for example with dcm2niix"
        raise refusal(file, "multi-frame DICOM", way_out, "series_frames")
    orientation = _numbers(header, "ImageOrientationPatient", 6, file)
    between_rows, between_columns = _numbers(header, "PixelSpacing", 2, file)
    return Slice(
        file=file,
        series=_uid(header),
        modality=_text(header, "Modality")[:16],
        position=_numbers(header, "ImagePositionPatient", 3, file),
        along_row=orientation[:3],
        along_column=orientation[3:],
        spacing_mm=(float(between_columns), float(between_rows)),
        thickness_mm=float(_numbers(header, "SliceThickness", 1, file, absent=1.0)[0]),
        rescale=(
            float(_numbers(header, "RescaleSlope", 1, file, absent=1.0)[0]),
            float(_numbers(header, "RescaleIntercept", 1, file, absent=0.0)[0]),
        ),
        layout=_layout(header, file),
    )


def _layout(header: Dataset, file: Path) -> Layout:
    numbers = {name: int(_numbers(header, name, 1, file)[0]) for name in _PIXEL_TAGS}
    if numbers["SamplesPerPixel"] != 1:
        raise refusal(file, "its voxels are not single numbers (RGB)", "give a scalar image", "not_scalar_3d")
    allocated, stored = numbers["BitsAllocated"], numbers["BitsStored"]
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated or numbers["PixelRepresentation"] not in (0, 1):
        raise refusal(file, f"pixels of {stored} in {allocated} bits", "export the series again")
    syntax = UID(_text(_meta(header), "TransferSyntaxUID"))
    return Layout(
        rows=numbers["Rows"],
        columns=numbers["Columns"],
        allocated=allocated,
        stored=stored,
        is_signed=numbers["PixelRepresentation"] == 1,
        is_packed=syntax.is_transfer_syntax and syntax.is_compressed,
        is_big_endian=syntax == BIG_ENDIAN,
    )


def _numbers(
    header: Dataset, name: str, count: int, file: Path, *, absent: float | None = None
) -> npt.NDArray[np.float64]:
    """The numbers of an element; `absent` where it is missing or empty."""
    try:
        value = header.get(name)
        if value in (None, "") and absent is not None:
            return np.full(count, absent)
        values = np.array([float(part) for part in (value if count > 1 else [value])])
    except Exception:  # pydicom converts values when they are asked for, and raises whatever the garbage leads to
        values = np.array([])
    if values.shape != (count,) or not np.isfinite(values).all():
        raise refusal(
            file, f"DICOM {name} is not {count} number{'s' * (count > 1)}", "export the series again", "series_no_place"
        )
    return values


def _text(header: Dataset, name: str) -> str:
    try:
        return "".join(letter for letter in str(header.get(name) or "") if letter.isprintable()).strip()
    except Exception:  # as above
        return ""


def _meta(header: Dataset) -> Dataset:
    """The elements in front, which tell how the others are stored; none where a file has no preamble."""
    return getattr(header, "file_meta", None) or Dataset()


def _uid(header: Dataset) -> str:
    return _text(header, "SeriesInstanceUID")[:64] or "no UID"
