"""What SimpleITK reads for us: NRRD and MetaImage files, and DICOM series whose slices form a regular grid.

Arrays leave this module as (X, Y, Z) and affines map voxels to RAS millimetres, whatever ITK's own order (Z, Y, X; LPS).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medgan.config import InputError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_POSITION, _ORIENTATION, _SPACING, _THICKNESS = "0020|0032", "0020|0037", "0028|0030", "0018|0050"
_FRAMES, _SLOPE, _INTERCEPT = "0028|0008", "0028|1053", "0028|1052"
_GAP_TOLERANCE = 0.1  # of the usual slice distance: headers round positions to 0.1 mm


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie: shape as stored (X first), affine to RAS mm, type of the values."""

    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    dtype: np.dtype[Any]
    kind: str = ""  # "complex" or "several channels" where the voxels are not single numbers


def file_grid(path: Path) -> Grid:
    """The grid of an NRRD or MetaImage file, from its header alone.

    Raises:
        InputError: ITK cannot read the header.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    reader.SetFileName(str(path))
    with _quiet(path):
        reader.ReadImageInformation()
    size = tuple(int(n) for n in reader.GetSize())
    ndim, spatial = len(size), min(len(size), 3)
    spacing, origin = np.ones(3), np.zeros(3)
    spacing[:spatial], origin[:spatial] = reader.GetSpacing()[:spatial], reader.GetOrigin()[:spatial]
    direction = np.eye(3)
    direction[:spatial, :spatial] = np.reshape(reader.GetDirection(), (ndim, ndim))[:spatial, :spatial]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    name = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    kind = "complex" if "complex" in name else "several channels" if reader.GetNumberOfComponents() > 1 else ""
    dtype = np.dtype(np.float64) if kind else _dtype(reader.GetPixelIDValue())
    return Grid(size, LPS_TO_RAS @ affine, dtype, kind)


def read_file(path: Path) -> npt.NDArray[Any]:
    """The voxels of an NRRD or MetaImage file, first axis first, as stored.

    Raises:
        InputError: ITK cannot read the file.
    """
    import SimpleITK as sitk

    with _quiet(path):
        return np.ascontiguousarray(
            sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO=_IMAGE_IO[path.suffix.lower()])).T
        )


@dataclass(frozen=True)
class Series:
    """The files of one DICOM series in the order of their positions, and the grid that they form."""

    folder: Path
    files: tuple[str, ...]
    grid: Grid
    as_float: bool

    def read(self) -> npt.NDArray[Any]:
        """The voxels (X, Y, Z) after rescale slope and intercept (HU for CT).

        Raises:
            InputError: a slice cannot be decoded.
        """
        import SimpleITK as sitk

        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames(self.files)
        if self.as_float:
            reader.SetOutputPixelType(sitk.sitkFloat32)
        with _quiet(self.folder):
            return np.ascontiguousarray(sitk.GetArrayFromImage(reader.Execute()).T)


@dataclass(frozen=True)
class _Slice:
    """The header of one DICOM slice: position of its first pixel in LPS mm, rows then columns as directions."""

    file: str
    size: tuple[int, int]
    position: npt.NDArray[np.float64]
    along_row: npt.NDArray[np.float64]
    along_column: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float
    rescale: tuple[str, str]
    pixel_id: int
    channels: int


def find_series(folder: Path) -> Series:
    """The one image series of a folder; other objects there (RTSTRUCT) are left alone.

    Raises:
        InputError: none or several series, or slices that form no regular grid: a tilted gantry, missing slices,
            slices of several sizes or directions, several at one place.
    """
    import SimpleITK as sitk

    with _quiet(folder):
        found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        names = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in found}
    if not names:
        raise InputError(f"{folder}: no DICOM image series in this folder; give the folder that holds the slices")
    if len(names) > 1:
        listed = ", ".join(sorted(names))
        raise InputError(f"{folder}: {len(names)} DICOM series ({listed}); put each in a folder of its own")
    slices = [_read_slice(folder, file) for file in next(iter(names.values()))]
    return _series(folder, slices)


def _read_slice(folder: Path, file: str) -> _Slice:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    with _quiet(Path(file)):
        reader.ReadImageInformation()

    def text(tag: str) -> str:
        return str(reader.GetMetaData(tag)).strip() if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str, count: int) -> npt.NDArray[np.float64]:
        try:
            values = np.array([float(part) for part in text(tag).split("\\")])
        except ValueError:
            values = np.array([])
        if values.shape != (count,) or not np.isfinite(values).all():
            raise InputError(
                f"{file}: DICOM tag ({tag.replace('|', ',')}) is missing or not {count} numbers, so the slice cannot be "
                "placed; export the series again from its archive"
            )
        return values

    if int(text(_FRAMES) or 1) > 1:
        raise InputError(f"{folder}: multi-frame DICOM; convert it to NIfTI first, for example with dcm2niix")
    orientation = numbers(_ORIENTATION, 6)
    between_rows, between_columns = numbers(_SPACING, 2)
    width, height = reader.GetSize()[:2]
    return _Slice(
        file=file,
        size=(int(width), int(height)),
        position=numbers(_POSITION, 3),
        along_row=orientation[:3],
        along_column=orientation[3:],
        spacing=(float(between_columns), float(between_rows)),
        thickness=float(numbers(_THICKNESS, 1)[0]) if text(_THICKNESS) else 1.0,
        rescale=(text(_SLOPE), text(_INTERCEPT)),
        pixel_id=reader.GetPixelIDValue(),
        channels=reader.GetNumberOfComponents(),
    )


def _series(folder: Path, slices: list[_Slice]) -> Series:
    first = slices[0]
    for other in slices:
        same = (
            other.size == first.size
            and np.allclose(other.along_row, first.along_row, atol=1e-3)
            and np.allclose(other.along_column, first.along_column, atol=1e-3)
            and np.allclose(other.spacing, first.spacing, rtol=1e-3)
        )
        if not same:
            raise InputError(
                f"{folder}: slices of several sizes, spacings or directions in one series (a scout among them?); "
                "keep the slices of one stack"
            )
    normal = np.cross(first.along_row, first.along_column)
    if not (np.linalg.norm(normal) > 1e-3 and min(first.spacing) > 0):
        raise InputError(f"{folder}: image directions or pixel spacing are degenerate; export the series again")
    normal /= np.linalg.norm(normal)
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    step = _slice_distance(folder, slices, normal) if len(slices) > 1 else max(first.thickness, 1e-3)
    affine = np.eye(4)
    affine[:3, 0] = slices[0].along_row * first.spacing[0]
    affine[:3, 1] = slices[0].along_column * first.spacing[1]
    affine[:3, 2], affine[:3, 3] = normal * step, slices[0].position
    as_float = len({(one.rescale, one.pixel_id) for one in slices}) > 1  # a scale per slice (PET): integers would round
    channels = max(one.channels for one in slices)
    dtype = np.dtype(np.float32) if as_float else np.dtype(np.float64) if channels > 1 else _dtype(first.pixel_id)
    grid = Grid((*first.size, len(slices)), LPS_TO_RAS @ affine, dtype, "several channels" if channels > 1 else "")
    return Series(folder, tuple(one.file for one in slices), grid, as_float)


def _slice_distance(folder: Path, slices: list[_Slice], normal: npt.NDArray[np.float64]) -> float:
    """The common distance of neighbouring slices in mm; a tilted or gapped stack is refused."""
    positions = np.stack([one.position for one in slices])
    steps = np.diff(positions, axis=0)
    distances = np.linalg.norm(steps, axis=1)
    usual = float(np.median(distances))
    if distances.min() < 1e-3:
        raise InputError(f"{folder}: several slices at one place (echoes or repeats?); keep one stack per folder")
    reasons = []
    way = positions[-1] - positions[0]
    drift = float(np.linalg.norm(way - (way @ normal) * normal))
    if drift > min(slices[0].spacing) / 2:
        tilt = float(np.degrees(np.arctan2(drift, abs(way @ normal))))
        reasons.append(f"gantry tilt of {tilt:.1f} degrees between the slices and their stack")
    if np.abs(distances - usual).max() > _GAP_TOLERANCE * usual:
        reasons.append(
            f"uneven slice distances ({distances.min():.2f} to {distances.max():.2f} mm, mostly {usual:.2f} mm)"
        )
    if reasons:
        raise InputError(
            f"{folder}: {' and '.join(reasons)}, so the slices form no regular grid; find the missing slices or convert "
            "with a tool that corrects this, for example dcm2niix"
        )
    return float(way @ normal) / (len(slices) - 1)


def _dtype(pixel_id: int) -> np.dtype[Any]:
    """The numpy type of an ITK pixel type of one number, found from ITK's words: "16-bit signed integer"."""
    import SimpleITK as sitk

    bits, kind = str(sitk.GetPixelIDValueAsString(pixel_id)).split("-bit ")
    letter = {"unsigned integer": "u", "signed integer": "i", "float": "f"}[kind]
    return np.dtype(f"{letter}{int(bits) // 8}")


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """ITK without its own printing; what it cannot read becomes one line about `path`."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    except RuntimeError:
        raise InputError(f"{path}: ITK cannot read it; check that the file is whole and of its type") from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
