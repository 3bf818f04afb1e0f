"""What SimpleITK reads for us: NRRD and MetaImage files, and DICOM series whose slices form a regular grid.

Arrays leave this module as (X, Y, Z) and affines map voxels to RAS millimetres, whatever the order
in ITK (Z, Y, X; LPS).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medgan.data import geometry
from medgan.data.geometry import Affine, Source, refusal

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
SUFFIXES = tuple(_IMAGE_IO)
"""The files that `file_source` takes, in lower case."""

_DETACHED_SUFFIXES = (".nhdr", ".mhd")  # headers whose voxels lie in another file
_POSITION, _ORIENTATION, _SPACING, _THICKNESS = "0020|0032", "0020|0037", "0028|0030", "0018|0050"
_FRAMES, _SLOPE, _INTERCEPT = "0028|0008", "0028|1053", "0028|1052"
_GAP_TOLERANCE = 0.1  # of the usual slice distance: headers round positions to 0.1 mm


def file_source(path: Path) -> Source:
    """The checked header of an NRRD or MetaImage file.

    Raises:
        InputError: ITK cannot read it, it is no scalar 3D image, cannot be placed, or is larger than its file.
    """
    sitk, image_io = _sitk(), _IMAGE_IO[path.suffix.lower()]
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with _quiet(path):
        reader.ReadImageInformation()
    shape = tuple(int(n) for n in reader.GetSize())
    ndim, spatial = len(shape), min(len(shape), 3)
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    spacing[:spatial], origin[:spatial] = reader.GetSpacing()[:spatial], reader.GetOrigin()[:spatial]
    direction[:spatial, :spatial] = np.reshape(reader.GetDirection(), (ndim, ndim))[:spatial, :spatial]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    affine = LPS_TO_RAS @ affine
    dtype = _dtype(reader, path)
    geometry.check_voxels(shape, dtype, path)
    geometry.check_affine(affine, path)
    held = None if path.suffix.lower() in _DETACHED_SUFFIXES else path.stat().st_size
    geometry.check_size(path, int(np.prod(shape, dtype=object)) * dtype.itemsize, held, packed=True)

    def read() -> npt.NDArray[Any]:
        with _quiet(path):
            return _array(sitk.ReadImage(str(path), imageIO=image_io))

    return Source(shape, affine, dtype, read)


def series_files(folder: Path) -> dict[str, tuple[str, ...]]:
    """The files of each DICOM image series in a folder (not below it), by series UID."""
    reader = _sitk().ImageSeriesReader
    with _quiet(folder):
        return {uid: reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))}


def series_source(folder: Path) -> Source:
    """The checked headers of the one image series in a folder; other objects there (RTSTRUCT) are left alone.

    Raises:
        InputError: none or several series, or slices that form no regular grid: a tilted gantry, missing slices,
            slices of several sizes or directions, several at one place.
    """
    sitk = _sitk()
    slices, affine = _read_stack(folder)
    shape = (*slices[0].size, len(slices))
    is_one_scale = len({(one.rescale, one.dtype) for one in slices}) == 1
    dtype = slices[0].dtype if is_one_scale else np.dtype(np.float32)  # integers would round a scale per slice (PET)
    geometry.check_voxels(shape, dtype, folder)
    geometry.check_affine(affine, folder)
    geometry.check_size(folder, int(np.prod(shape, dtype=object)) * dtype.itemsize, None, packed=True)

    def read() -> npt.NDArray[Any]:
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames([str(one.file) for one in slices])
        if not is_one_scale:
            reader.SetOutputPixelType(sitk.sitkFloat32)
        with _quiet(folder):
            return _array(reader.Execute())

    return Source(shape, affine, dtype, read)


def series_slices(folder: Path) -> list[Path]:
    """The files of the one image series in a folder, in the order of its volume's slices; raises as `series_source`."""
    return [one.file for one in _read_stack(folder)[0]]


@dataclass(frozen=True)
class _Slice:
    """The header of one DICOM slice: size in columns and rows, position of its first pixel and directions in LPS."""

    file: Path
    size: tuple[int, int]
    position: npt.NDArray[np.float64]
    along_row: npt.NDArray[np.float64]
    along_column: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float
    rescale: tuple[str, str]
    dtype: np.dtype[Any]


def _read_stack(folder: Path) -> tuple[list[_Slice], Affine]:
    """The slices of the one series in a folder, in their order, and the affine of their grid to RAS mm."""
    names = series_files(folder)
    if not names:
        raise refusal(folder, "no DICOM image series in this folder", "give the folder that holds the slices")
    if len(names) > 1:
        raise refusal(
            folder, f"{len(names)} DICOM series ({', '.join(sorted(names))})", "put each in a folder of its own"
        )
    slices = [_read_slice(Path(file)) for file in next(iter(names.values()))]
    return _stack(folder, slices)


def _read_slice(file: Path) -> _Slice:
    reader = _sitk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    with _quiet(file):
        reader.ReadImageInformation()

    def text(tag: str) -> str:
        return str(reader.GetMetaData(tag)).strip() if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str, count: int) -> npt.NDArray[np.float64]:
        try:
            values = np.array([float(part) for part in text(tag).split("\\")])
        except ValueError:
            values = np.array([])
        if values.shape != (count,) or not np.isfinite(values).all():
            name = tag.replace("|", ",")
            raise refusal(file, f"DICOM ({name}) is not {count} numbers: no place", "export the series again")
        return values

    if text(_FRAMES) not in ("", "0", "1"):
        raise refusal(file, "multi-frame DICOM", "convert it to NIfTI first, for example with dcm2niix")
    orientation = numbers(_ORIENTATION, 6)
    between_rows, between_columns = numbers(_SPACING, 2)
    width, height = reader.GetSize()[:2]
    return _Slice(
        file=file,
        size=(int(width), int(height)),
        position=numbers(_POSITION, 3),
        along_row=orientation[:3],
        along_column=orientation[3:],
        spacing_mm=(float(between_columns), float(between_rows)),
        thickness_mm=float(numbers(_THICKNESS, 1)[0]) if text(_THICKNESS) else 1.0,
        rescale=(text(_SLOPE), text(_INTERCEPT)),
        dtype=_dtype(reader, file),
    )


def _stack(folder: Path, slices: list[_Slice]) -> tuple[list[_Slice], Affine]:
    """The slices in the order of their positions, and the affine of their grid to RAS mm."""
    first = slices[0]
    unlike = sum(not _is_alike(other, first) for other in slices)
    if unlike:
        raise refusal(
            folder,
            f"slices of several sizes, spacings or directions in one series ({min(unlike, len(slices) - unlike)} of "
            f"{len(slices)} unlike the others; a scout among them?)",
            "keep the slices of one stack",
        )
    normal = np.cross(first.along_row, first.along_column)
    if not (np.linalg.norm(normal) > 1e-3 and min(first.spacing_mm) > 0):
        raise refusal(folder, "its image directions or pixel spacing place nothing", "export the series again")
    normal /= np.linalg.norm(normal)
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing_mm[0]
    affine[:3, 1] = first.along_column * first.spacing_mm[1]
    affine[:3, 2] = normal * (_slice_distance_mm(folder, slices, normal) if len(slices) > 1 else first.thickness_mm)
    affine[:3, 3] = slices[0].position
    return slices, LPS_TO_RAS @ affine


def _is_alike(one: _Slice, other: _Slice) -> bool:
    return (
        one.size == other.size
        and np.allclose(one.along_row, other.along_row, atol=1e-3)
        and np.allclose(one.along_column, other.along_column, atol=1e-3)
        and np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-3)
    )


def _slice_distance_mm(folder: Path, slices: list[_Slice], normal: npt.NDArray[np.float64]) -> float:
    """The common distance of neighbouring slices; a tilted or gapped stack is refused."""
    positions = np.stack([one.position for one in slices])
    distances = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(distances))
    repeats = int((distances < 1e-3).sum())
    if repeats:
        raise refusal(
            folder,
            f"several slices at one place ({repeats} of {len(slices)} lie on another; echoes or repeats?)",
            "keep one stack per folder",
        )
    reasons = []
    way = positions[-1] - positions[0]
    height = float(way @ normal)
    drift = float(np.linalg.norm(way - height * normal))
    if drift > min(slices[0].spacing_mm) / 2:
        reasons.append(f"gantry tilt of {np.degrees(np.arctan2(drift, height)):.1f} degrees")
    if np.abs(distances - usual).max() > _GAP_TOLERANCE * usual:
        reasons.append(
            f"uneven slice distances ({distances.min():.2f} to {distances.max():.2f} mm, mostly {usual:.2f} mm)"
        )
    if reasons:
        raise refusal(
            folder,
            f"{' and '.join(reasons)}, so its slices form no regular grid",
            "find missing slices, or convert it to NIfTI with a tool that corrects this, for example dcm2niix",
        )
    return height / (len(slices) - 1)


def _array(image: Any) -> npt.NDArray[Any]:
    return np.array(_sitk().GetArrayViewFromImage(image).T, order="C")


def _dtype(reader: Any, place: Path) -> np.dtype[Any]:
    """The numpy type of a reader's pixels, from ITK's words for it: "16-bit signed integer"."""
    words = str(_sitk().GetPixelIDValueAsString(reader.GetPixelIDValue()))
    bits, _, kind = words.partition("-bit ")
    letter = {"unsigned integer": "u", "signed integer": "i", "float": "f"}.get(kind)
    if letter is None or reader.GetNumberOfComponents() > 1:
        raise refusal(place, f"its voxels are not single numbers ({words})", "give a scalar image")
    return np.dtype(f"{letter}{int(bits) // 8}")


def _sitk() -> Any:
    """SimpleITK, loaded where it is first used."""
    import SimpleITK

    return SimpleITK


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """ITK without its own printing; what it cannot read becomes one line about `path`."""
    process = _sitk().ProcessObject
    is_shown = process.GetGlobalWarningDisplay()
    process.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError:
        raise refusal(
            path, "ITK cannot read it", "check that the file is whole and of the kind that its name says"
        ) from None
    finally:
        process.SetGlobalWarningDisplay(is_shown)
