"""Whether voxels can be placed: checks of shapes, affines and declared sizes, before any voxel is read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medgan.config import InputError

Affine = npt.NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns an affine of ITK or DICOM, into LPS, into one to RAS, and back."""

_FAR_MM = 1e9
_DEFLATE_LIMIT = 1032  # zlib packs no more than this many bytes into one


@dataclass(frozen=True)
class Source:
    """A checked header, and the way to its voxels.

    Attributes:
        shape: as stored, first axis fastest, with trailing axes of length 1.
        affine: (4, 4) float64, voxel to RAS mm.
        dtype: of the values after slope and intercept.
        read: gives the array of that shape and type.
        header: the NIfTI header, or None.
    """

    shape: tuple[int, ...]
    affine: Affine
    dtype: np.dtype[Any]
    read: Callable[[], npt.NDArray[Any]]
    header: Any = None


class RefusedError(InputError):
    """The one line that refuses a file: where, why, and what to do.

    Attributes:
        place: the file or folder.
        reason: what was found there.
        way_out: what to do about it.
        kind: a word for the kind of mistake, the same for all that are mended alike; `medgan check` groups by it.
    """

    def __init__(self, place: Path, reason: str, way_out: str, kind: str) -> None:
        super().__init__(f"{place}: {reason}; {way_out}")
        self.place, self.reason, self.way_out, self.kind = place, reason, way_out, kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.place, self.reason, self.way_out, self.kind)  # workers send it to their parents


def refusal(place: Path, reason: str, way_out: str, kind: str = "unreadable") -> RefusedError:
    """The refusal of a file: one line, see `RefusedError`."""
    return RefusedError(place, " ".join(reason.split()), way_out, kind)


def spacing_mm(affine: npt.NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    """The lengths of the affine's three voxel axes."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def shear_degrees(affine: Affine) -> float:
    """How far the voxel axes are from right angles to each other, at most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes - np.eye(3)).clip(0, 1)
    return float(np.degrees(np.arcsin(cosines.max())))


def largest_displacement_mm(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """How far apart two affines place the same voxel of a grid, at most: the maximum lies at one of its corners."""
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in three(shape)))])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(X, Y, Z) of a stored shape: without trailing axes of length 1, a single slice with Z = 1."""
    x, y, z = (*shape[:3], 1)[:3]
    return int(x), int(y), int(z)


def check_voxels(shape: tuple[int, ...], dtype: np.dtype[Any], place: Path) -> None:
    """Refuse what is no scalar 3D image; trailing axes of length 1 are fine, an axis of time or channels is not.

    Raises:
        InputError: 4D, RGB, complex, or no volume at all.
    """
    if dtype.kind not in "iufb":
        kind = "RGB" if dtype.names else "complex" if dtype.kind == "c" else str(dtype)
        raise refusal(place, f"its voxels are not single numbers ({kind})", "give a scalar image", "not_scalar_3d")
    if len(shape) > 3 and max(shape[3:]) > 1:
        raise refusal(
            place,
            f"{len(shape)}D of shape {shape}, not 3D",
            "split it into one file per volume or channel",
            "not_scalar_3d",
        )
    if len(shape) < 2 or min(shape) < 1:
        raise refusal(place, f"its shape {shape} is not that of a volume", "give a 3D image", "not_scalar_3d")


def check_affine(affine: Affine, place: Path) -> None:
    """Refuse an affine that places nothing.

    Raises:
        InputError: not 4 x 4, not finite, or singular (two axes within 0.06 degrees of each other count as one).
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise refusal(place, "its affine is not 4 x 4 finite numbers", "export it again from its source", "no_place")
    if np.abs(affine).max() > _FAR_MM:
        what = f"its affine places voxels {np.abs(affine).max():.3g} mm away"
        raise refusal(place, what, "export it again from its source", "no_place")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise refusal(
            place,
            "singular affine, so its voxels have no place in the patient",
            "export it again from its source",
            "no_place",
        )


def check_size(place: Path, declared: int, held: int | None, *, packed: bool) -> None:
    """Refuse a header that declares more bytes than its file of `held` bytes can hold, or than this machine's memory.

    Raises:
        InputError: a file cut short, a damaged header, or a volume too large for this machine.
    """
    if held is not None and declared > held * (_DEFLATE_LIMIT if packed else 1):
        raise refusal(
            place,
            f"its header declares {_size(declared)}, but the file has {_size(held)}: cut short or damaged",
            "copy or export it again",
            "cut_short",
        )
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if declared > memory:
            raise refusal(
                place,
                f"its header declares {_size(declared)}, this machine has {_size(memory)} of memory",
                "crop it, or use a larger machine",
                "too_large",
            )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count} bytes"
