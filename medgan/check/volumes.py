"""One volume: what its header says, what its voxels look like, and what is wrong with them."""

# mypy: allow-untyped-calls
# (nibabel has types, but most of its functions do not)

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medgan.check.findings import KINDS, Finding, finding
from medgan.config import InputError
from medgan.data import geometry
from medgan.data.cases import Modality
from medgan.data.checksum import is_damaged
from medgan.data.geometry import RefusedError
from medgan.data.volume import VolumeHeader, read_header, read_volume

AIR_HU, LOWEST_HU = -900, -1024
_SHEAR_DEGREES, _OBLIQUE_DEGREES = 0.5, 0.5
_MOST_VALUES = 4096  # of a label map that are counted


@dataclass(frozen=True)
class Facts:
    """What is known of one volume.

    Attributes:
        place: the file, the folder or the series.
        is_label: whether it is a label map.
        modality: what it should be, by the configuration, its DICOM header or its name; None when nothing says.
        shape: (X, Y, Z).
        affine: rows of the 4 x 4 matrix, voxel to RAS mm.
        dtype: of the values, after slope and intercept.
        low: the lowest finite value; None where voxels were not read.
        high: the highest.
        digest: the same for the same values at the same places, in whatever orientation they are stored.
        values: of a label map: each value and its number of voxels.
        series: the UID of a DICOM series.
    """

    place: str
    is_label: bool
    modality: Modality | None
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    digest: str | None = None
    values: tuple[tuple[int, int], ...] = ()
    series: str | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis of the array."""
        return geometry.spacing_mm(np.array(self.affine))

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Length of the volume along the patient's axes: right to left, back to front, feet to head."""
        box = np.abs(np.array(self.affine)[:3, :3]) @ np.array(self.shape)
        return float(box[0]), float(box[1]), float(box[2])

    @property
    def orientation(self) -> str:
        """Where the array's axes point, such as RAS."""
        return "".join(nib.aff2axcodes(np.array(self.affine)))

    def summary(self) -> dict[str, Any]:
        """The facts as JSON has them."""
        return {
            "place": self.place,
            "is_label": self.is_label,
            "modality": self.modality,
            "series": self.series,
            "shape": list(self.shape),
            "spacing_mm": [round(length, 4) for length in self.spacing_mm],
            "orientation": self.orientation,
            "dtype": self.dtype,
            "range": None if self.low is None else [self.low, self.high],
            "labels": dict(self.values),
        }


def examine_image(path: Path, modality: Modality | None, *, deep: bool) -> tuple[Facts | None, list[Finding]]:
    """What is known of an image file, and what is wrong with its header, and with `deep` with its voxels."""
    try:
        header = read_header(path)
        array = read_volume(path).array if deep else None
    except InputError as error:
        return None, [refused(path, error)]
    facts, findings = _facts(header, modality, is_label=False), header_findings(header)
    if array is not None and is_damaged(path, array.nbytes):
        findings.append(finding("checksum", path, "what it unpacks to is not what was packed"))
    if array is not None:
        facts = replace(facts, **value_facts(array, header.affine))
        findings += voxel_findings(str(path), array, facts)
    return facts, findings


def examine_label(path: Path, *, deep: bool) -> tuple[Facts | None, list[Finding]]:
    """What is known of a label map, and what is wrong with its header, and with `deep` with its voxels."""
    try:
        header = read_header(path)
        array = read_volume(path, dtype=np.int32).array if deep else None
    except InputError as error:
        return None, [refused(path, error)]
    facts, findings = _facts(header, None, is_label=True), header_findings(header)
    if header.dtype.kind == "f":
        findings.append(finding("float_labels", path, f"stored as {header.dtype}"))
    if array is not None and is_damaged(path, array.nbytes):
        findings.append(finding("checksum", path, "what it unpacks to is not what was packed"))
    if array is not None:
        values, count = np.unique(array, return_counts=True)
        pairs = zip(values[:_MOST_VALUES].tolist(), count[:_MOST_VALUES].tolist(), strict=True)
        facts = replace(facts, low=float(values[0]), high=float(values[-1]), values=tuple(pairs))
    return facts, findings


def refused(place: Path | str, error: InputError) -> Finding:
    """A refusal as a finding."""
    if isinstance(error, RefusedError):
        kind = error.kind if error.kind in KINDS else "unreadable"
        return Finding(kind, str(error.place), error.reason, error.way_out)
    what, _, way_out = str(error).removeprefix(f"{place}: ").rpartition("; ")
    return Finding("table", str(place), what or way_out, way_out)


def _facts(header: VolumeHeader, modality: Modality | None, *, is_label: bool) -> Facts:
    rows = tuple(tuple(float(number) for number in row) for row in header.affine)
    return Facts(str(header.path), is_label, modality, header.shape, rows, str(header.dtype))


def header_findings(header: VolumeHeader) -> list[Finding]:
    """What is odd about a header that is read."""
    place, findings = header.path, []
    shear = geometry.shear_degrees(header.affine)
    if shear > _SHEAR_DEGREES:
        findings.append(finding("sheared", place, f"axes {shear:.1f} degrees off a right angle"))
    tilt = _oblique_degrees(header)
    if tilt > _OBLIQUE_DEGREES:
        findings.append(finding("oblique", place, f"turned by {tilt:.1f} degrees"))
    if header.disk_shape != header.shape:
        findings.append(finding("trailing_axes", place, f"shape {header.disk_shape} is read as {header.shape}"))
    if header.header is not None:
        findings += _nifti_findings(header.header, header, place)
    return findings


def _oblique_degrees(header: VolumeHeader) -> float:
    """How far the voxel axes are from the patient's, at most."""
    axes = np.abs(header.affine[:3, :3]) / np.array(header.spacing_mm)
    return float(np.degrees(np.arccos(axes.max(axis=0).clip(-1, 1))).max())


def _nifti_findings(nifti: nib.Nifti1Header, header: VolumeHeader, place: Path) -> list[Finding]:
    findings = []
    qform, sform = int(nifti["qform_code"]), int(nifti["sform_code"])
    if qform <= 0 and sform <= 0:
        findings.append(
            finding(
                "no_codes", place, "both codes are 0, so nibabel's default is taken (left and right may be swapped)"
            )
        )
    elif qform <= 0 or sform <= 0:
        findings.append(finding("one_form", place, f"{'sform' if qform <= 0 else 'qform'} only"))
    if nifti.endianness == ">":
        findings.append(finding("big_endian", place, "stored in big-endian order"))
    stored = np.dtype(nifti.get_data_dtype())
    if stored.kind in "iu" and header.dtype.kind == "f":
        findings.append(finding("scaled", place, f"{stored.newbyteorder('=')} with slope and intercept"))
    if nifti.extensions or bytes(nifti["aux_file"]).strip(b"\0 "):
        findings.append(finding("header_text", place, f"{len(nifti.extensions)} header extension(s)"))
    return findings


def value_facts(array: npt.NDArray[Any], affine: geometry.Affine) -> dict[str, Any]:
    """The fields of `Facts` that come from voxels."""
    finite = array if array.dtype.kind in "iub" else array[np.isfinite(array)]
    facts: dict[str, Any] = {"digest": _digest(array, affine)}
    if finite.size:
        facts |= {"low": float(finite.min()), "high": float(finite.max())}
    return facts


def _digest(array: npt.NDArray[Any], affine: geometry.Affine) -> str:
    """Of the values in RAS order, so that copies in other orientations are the same; -0 and 0 are, too."""
    turned = nib.orientations.apply_orientation(array, nib.io_orientation(affine))
    with np.errstate(all="ignore"):  # NaN and what float32 cannot hold are values, too
        values = np.ascontiguousarray(turned, dtype=np.float32) + np.float32(0)
    digest = hashlib.sha256(str(values.shape).encode())
    digest.update(values.data)
    return digest.hexdigest()


def voxel_findings(place: str, array: npt.NDArray[Any], facts: Facts) -> list[Finding]:
    """What is wrong with the values of an image."""
    bad = 0 if array.dtype.kind in "iub" else int(array.size - np.isfinite(array).sum())
    if bad == array.size or facts.low is None or facts.high is None:
        return [finding("not_finite_at_all", place, f"all {array.size} voxels are NaN or infinite")]
    findings = [finding("not_finite", place, f"{bad} of {array.size} voxels are NaN or infinite")] if bad else []
    if facts.low == facts.high:
        return [*findings, finding("constant", place, f"every voxel is {facts.low:g}")]
    findings += _empty_slices(place, array, facts)
    return findings + value_findings(place, array, facts)


def value_findings(place: str, array: npt.NDArray[Any], facts: Facts) -> list[Finding]:
    """What the range of an image's values says about its units and its modality."""
    low, high = facts.low or 0.0, facts.high or 0.0
    span = f"{low:g} to {high:g}"
    if facts.modality == "mr" and low <= AIR_HU:
        return [finding("modality", place, f"named as MR, but its values ({span}) are those of CT")]
    if facts.modality == "ct" and low >= 0:
        if high > 10 and _share(array, 950, 1150) < 0.05:
            return [finding("modality", place, f"named as CT, but its values ({span}) look like MR")]
        unit = "scaled" if high <= 10 else "without its intercept"
        return [finding("no_hu", place, f"no value below 0 HU ({span}): {unit}?")]
    if facts.modality == "ct" and low >= -10 and high <= 10:
        return [finding("no_hu", place, f"values from {span} are no HU: scaled?")]
    if facts.modality != "mr" and low < LOWEST_HU and (facts.modality == "ct" or _share(array, -200, 200) > 0.05):
        share = 100 * float((array < LOWEST_HU).mean())
        return [finding("hu_floor", place, f"down to {low:g}, {share:.2g} % of the voxels below {LOWEST_HU} HU")]
    return []


def _share(array: npt.NDArray[Any], low: float, high: float) -> float:
    return float(((array >= low) & (array <= high)).mean())


def _empty_slices(place: str, array: npt.NDArray[Any], facts: Facts) -> list[Finding]:
    """Slices of one value, along the axis in which slices were made: the one with the largest spacing."""
    spacing = facts.spacing_mm
    axis = int(np.argmax(spacing)) if max(spacing) > 1.2 * sorted(spacing)[1] else 2
    planes = np.moveaxis(array, axis, 0)
    empty = [index for index, plane in enumerate(planes) if _is_constant(plane)]
    if not empty:
        return []
    full = sorted(set(range(len(planes))) - set(empty))
    inside = sum(full[0] < index < full[-1] for index in empty) if full else 0
    which = f"{len(empty)} of {len(planes)} slices along axis {axis} ({ranges(empty)})"
    return [finding("empty_slices", place, which + (f", {inside} of them inside the volume" if inside else ""))]


def _is_constant(plane: npt.NDArray[Any]) -> bool:
    finite = plane[np.isfinite(plane)]
    return finite.size == 0 or bool((finite == finite[0]).all())


def ranges(indices: Sequence[int]) -> str:
    """Sorted indices in short: 0-2, 7."""
    starts = [index for index in indices if index - 1 not in indices]
    ends = [index for index in indices if index + 1 not in indices]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
