"""DICOM series as volumes: whether their slices form a regular grid, and where it lies.

Arrays are (X, Y, Z), affines map voxels to RAS millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medgan.data import geometry
from medgan.data.geometry import LPS_TO_RAS, Affine, Source, refusal
from medgan.data.pixels import read_pixels
from medgan.data.slices import Slice, read_slice, series_files

_GAP_TOLERANCE = 0.1  # of the usual slice distance: headers round positions to 0.1 mm
_INTEGERS = tuple(np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4"))


@dataclass(frozen=True)
class Fault:
    """Why slices form no regular grid; `kind` as of `geometry.RefusedError`."""

    kind: str
    reason: str
    way_out: str


def series_source(folder: Path) -> Source:
    """The checked headers of the one image series in a folder; other objects there (RTSTRUCT) are left alone.

    Raises:
        InputError: none or several series, or slices that form no regular grid: a tilted gantry, missing slices,
            slices of several sizes or directions, several at one place.
    """
    slices = _read_stack(folder)
    affine = stack_affine(slices)
    layout = slices[0].layout
    shape = (layout.columns, layout.rows, len(slices))
    dtype = values_dtype(slices)
    geometry.check_voxels(shape, dtype, folder)
    geometry.check_affine(affine, folder)
    check_stack_size(folder, slices)

    def read() -> npt.NDArray[Any]:
        array = np.empty(shape, dtype)
        for index, values in enumerate(read_values(slices, dtype)):
            array[:, :, index] = values
        return array

    return Source(shape, affine, dtype, read)


def check_stack_size(place: Path, slices: Sequence[Slice]) -> None:
    """Refuse slices that declare more than their files hold, or that are too large for this machine together.

    Raises:
        InputError: as `geometry.check_size`.
    """
    for one in slices:
        declared = one.layout.rows * one.layout.columns * one.layout.allocated // 8
        geometry.check_size(one.file, declared, one.file.stat().st_size, packed=one.layout.is_packed)
    layout = slices[0].layout
    total = layout.columns * layout.rows * len(slices) * values_dtype(slices).itemsize
    geometry.check_size(place, total, None, packed=True)


def series_slices(folder: Path) -> list[Path]:
    """The files of the one image series in a folder, in the order of its volume's slices; raises as `series_source`."""
    return [one.file for one in _read_stack(folder)]


def read_values(slices: Sequence[Slice], dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    """The values of each slice, (columns, rows), after its slope and intercept.

    Raises:
        InputError: as `read_pixels`.
    """
    pixels = read_pixels([one.file for one in slices], [one.layout for one in slices])
    for one, stored in zip(slices, pixels, strict=True):
        slope, intercept = one.rescale
        if (slope, intercept) == (1, 0):
            yield stored.astype(dtype)
        elif dtype.kind in "iu":
            yield (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)
        else:
            yield (stored * slope + intercept).astype(dtype)


def values_dtype(slices: Sequence[Slice]) -> np.dtype[Any]:
    """The type that holds all values: whole numbers where slope and intercept are whole and the same for all slices."""
    if len({(one.rescale, one.layout) for one in slices}) > 1:
        return np.dtype(np.float32)  # integers would round a scale per slice (PET)
    slope, intercept = slices[0].rescale
    if not (slope.is_integer() and intercept.is_integer()):
        return np.dtype(np.float64)
    ends = sorted(end * int(slope) + int(intercept) for end in slices[0].layout.limits)
    for dtype in _INTEGERS:
        if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
            return dtype
    return np.dtype(np.float64)


def _read_stack(folder: Path) -> list[Slice]:
    """The slices of the one series in a folder, in their order."""
    names = series_files(folder)
    if not names:
        raise refusal(
            folder, "no DICOM image series in this folder", "give the folder that holds the slices", "nothing"
        )
    if len(names) > 1:
        raise refusal(
            folder,
            f"{len(names)} DICOM series ({', '.join(sorted(names))})",
            "put each in a folder of its own",
            "several_series",
        )
    slices = [read_slice(file) for file in next(iter(names.values()))]
    faults = stack_faults(slices)
    if faults:
        reasons = " and ".join(fault.reason for fault in faults)
        raise refusal(folder, reasons, faults[0].way_out, faults[0].kind)
    return ordered(slices)


def ordered(slices: Sequence[Slice]) -> list[Slice]:
    """The slices in the order of their positions along the normal of the first."""
    normal = _normal(slices[0])
    return sorted(slices, key=lambda one: float(one.position @ normal))


def stack_affine(slices: Sequence[Slice]) -> Affine:
    """The affine to RAS mm of slices in their order, that have no faults."""
    first, normal = slices[0], _normal(slices[0])
    height = float((slices[-1].position - first.position) @ normal)
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing_mm[0]
    affine[:3, 1] = first.along_column * first.spacing_mm[1]
    affine[:3, 2] = normal * (height / (len(slices) - 1) if len(slices) > 1 else first.thickness_mm)
    affine[:3, 3] = first.position
    return LPS_TO_RAS @ affine


def stack_faults(slices: Sequence[Slice]) -> list[Fault]:
    """Every reason why slices form no regular grid; none for a single slice with a place."""
    first = slices[0]
    unlike = sum(not _is_alike(other, first) for other in slices)
    if unlike:
        few = min(unlike, len(slices) - unlike)
        return [
            Fault(
                "series_mixed",
                f"slices of several sizes, spacings or directions in one series ({few} of {len(slices)} unlike the "
                "others; a scout among them?)",
                "keep the slices of one stack",
            )
        ]
    if not (np.linalg.norm(_cross(first)) > 1e-3 and min(first.spacing_mm) > 0):
        reason = "its image directions or pixel spacing place nothing"
        return [Fault("series_no_place", reason, "export the series again")]
    return _distance_faults(ordered(slices)) if len(slices) > 1 else []


def _cross(one: Slice) -> npt.NDArray[np.float64]:
    return np.cross(one.along_row, one.along_column)


def _normal(one: Slice) -> npt.NDArray[np.float64]:
    normal = _cross(one)
    return np.asarray(normal / np.linalg.norm(normal))


def _is_alike(one: Slice, other: Slice) -> bool:
    return (
        (one.layout.rows, one.layout.columns) == (other.layout.rows, other.layout.columns)
        and np.allclose(one.along_row, other.along_row, atol=1e-3)
        and np.allclose(one.along_column, other.along_column, atol=1e-3)
        and np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-3)
    )


def _distance_faults(slices: Sequence[Slice]) -> list[Fault]:
    """Tilt, gaps and slices at one place, of two slices or more in their order."""
    normal = _normal(slices[0])
    positions = np.stack([one.position for one in slices])
    distances = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(distances))
    repeats = int((distances < 1e-3).sum())
    if repeats:
        reason = f"several slices at one place ({repeats} of {len(slices)} lie on another; echoes or repeats?)"
        return [Fault("series_duplicates", reason, "keep one stack per folder")]
    way_out = "find missing slices, or convert it to NIfTI with a tool that corrects this, for example dcm2niix"
    faults = []
    way = positions[-1] - positions[0]
    height = float(way @ normal)
    drift = float(np.linalg.norm(way - height * normal))
    if drift > min(slices[0].spacing_mm) / 2:
        tilt = np.degrees(np.arctan2(drift, height))
        faults.append(Fault("series_tilted", f"gantry tilt of {tilt:.1f} degrees", way_out))
    if np.abs(distances - usual).max() > _GAP_TOLERANCE * usual:
        span = f"{distances.min():.2f} to {distances.max():.2f} mm, mostly {usual:.2f} mm"
        faults.append(Fault("series_gapped", f"uneven slice distances ({span})", way_out))
    return faults
