"""Mended copies of what can be mended without a guess; the originals stay as they are."""

# mypy: allow-untyped-calls
# (nibabel has types, but most of its functions do not)

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medgan.check.findings import KINDS, Finding
from medgan.check.volumes import LOWEST_HU
from medgan.config import InputError
from medgan.data.geometry import refusal
from medgan.data.nifti import image_like, storable
from medgan.data.volume import read_volume

_PLAUSIBLE_MM = (0.01, 50.0)
_UNITS_MM = {1: 1000.0, 3: 0.001}  # NIfTI's codes of metres and micrometres


@dataclass(frozen=True)
class Mended:
    """A copy that was written.

    Attributes:
        original: the file that was copied.
        copy: where the mended copy lies.
        done: what is different in it, one phrase for each change.
    """

    original: Path
    copy: Path
    done: tuple[str, ...]


VALUE_KINDS = ("not_finite", "hu_floor", "float_labels")
HEADER_KINDS = ("misnamed", "qform", "units")
FIXED_KINDS = (*HEADER_KINDS, *VALUE_KINDS)
"""The kinds of findings that `mend` takes away."""


def mend(findings: Iterable[Finding], folder: Path) -> list[Mended]:
    """Write mended copies of NIfTI files into `folder`, with the folders they lie in, for findings of `FIXED_KINDS`.

    A file with another error beside these is left out, and so is one for which the way out would be a guess: voxel
    sizes that are implausible after conversion. Nothing that exists is overwritten.

    Raises:
        InputError: a copy stands already, or cannot be written.
    """
    kinds: dict[Path, set[str]] = {}
    for one in findings:
        kinds.setdefault(Path(one.place), set()).add(one.kind)
    wanted = {path: found for path, found in kinds.items() if _is_wanted(path, found)}
    root = _root(list(wanted))
    mended = []
    for path, found in wanted.items():
        target = folder / path.relative_to(root)
        if target.suffix == ".nii":
            target = target.with_name(target.name + ".gz")
        if target.exists():
            raise refusal(target, "stands already", "name an empty folder for --fix")
        try:
            done = _mend_one(path, target, found)
        except OSError as error:
            raise refusal(target, f"cannot be written ({type(error).__name__})", "check its place and space") from None
        if done:
            mended.append(Mended(path, target, tuple(done)))
    return mended


def _is_wanted(path: Path, kinds: set[str]) -> bool:
    """Whether something can be mended in a file, and nothing else is an error."""
    others = kinds - set(FIXED_KINDS)
    if others == kinds or any(KINDS[kind].severity == "error" for kind in others):
        return False
    return path.name.lower().endswith((".nii", ".nii.gz")) and path.is_file()


def _root(paths: Sequence[Path]) -> Path:
    """The folder that all files have in common."""
    parents = [path.parent for path in paths]
    common = parents[0] if parents else Path()
    while not all(parent.is_relative_to(common) for parent in parents):
        common = common.parent
    return common


def _mend_one(path: Path, target: Path, kinds: set[str]) -> list[str]:
    """Write one copy; what was done to it, nothing where it cannot be mended."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name.removesuffix('.nii.gz')}.part.nii.gz")
    done = []
    try:
        source = path
        if "misnamed" in kinds:
            shutil.copyfile(path, part)
            done.append("renamed to .nii.gz")
            source = part
        image: Any = nib.load(source)
        header = image.header.copy()
        for kind in HEADER_KINDS:
            if kind in kinds and kind in _HEADERS:
                phrase = _HEADERS[kind](header)
                if not phrase:
                    return []
                done.append(phrase)
        if len(done) > ("misnamed" in kinds):
            nib.save(type(image)(np.asanyarray(image.dataobj), None, header), part)
            source = part
        try:
            volume = read_volume(source)
        except InputError:  # it has another fault
            return []
        array = volume.array
        for kind in VALUE_KINDS:
            if kind in kinds:
                array, phrase = _VALUES[kind](array)
                done.append(phrase)
        if array is not volume.array:
            image = image_like(storable(array).reshape(volume.disk_shape), volume.affine, volume.header)
            nib.save(image, part)
        part.replace(target)
        return done
    finally:
        part.unlink(missing_ok=True)


def _without_qform(header: nib.Nifti1Header) -> str:
    header["qform_code"] = 0
    return "qform code 0: the sform alone holds"


def _in_mm(header: nib.Nifti1Header) -> str:
    """The header in millimetres, where that gives plausible voxels; empty where it does not."""
    factor = _UNITS_MM[int(header["xyzt_units"]) & 7]
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64) * factor
    if not ((spacing >= _PLAUSIBLE_MM[0]) & (spacing <= _PLAUSIBLE_MM[1])).all():
        return ""
    header["pixdim"][1:4] = spacing
    for name in ("qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = float(header[name]) * factor
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name] = np.asarray(header[name], dtype=np.float64) * factor
    header.set_xyzt_units("mm")
    return f"voxel sizes in mm: {' x '.join(f'{length:.3g}' for length in spacing)}"


Array = npt.NDArray[Any]


def _finite(array: Array) -> tuple[Array, str]:
    bad = ~np.isfinite(array)
    low = array[~bad].min()
    return np.where(bad, low, array), f"{int(bad.sum())} of {array.size} voxels were not finite: now {low:g}"


def _raised(array: Array) -> tuple[Array, str]:
    below = int((array < LOWEST_HU).sum())
    return np.maximum(
        array, array.dtype.type(LOWEST_HU)
    ), f"{below} of {array.size} voxels were below {LOWEST_HU} HU: now {LOWEST_HU}"


def _whole(array: Array) -> tuple[Array, str]:
    narrow = np.dtype(np.uint8 if array.min() >= 0 and array.max() < 256 else np.int16)
    return array.astype(narrow), f"stored as {narrow}"


_HEADERS: dict[str, Callable[[nib.Nifti1Header], str]] = {"qform": _without_qform, "units": _in_mm}
_VALUES: dict[str, Callable[[Array], tuple[Array, str]]] = {
    "not_finite": _finite,
    "hu_floor": _raised,
    "float_labels": _whole,
}
