"""Whether translations lie where their sources lie: drawn NIfTI files through a network that leaves images as they are.

`headers` draws them, for the study and for the tests; `round_trip` takes one file there and back.
"""

# mypy: allow-untyped-calls
# (nibabel has types, but most of its functions do not)

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from medgan.data.geometry import largest_displacement_mm, three
from medgan.data.volume import read_volume, write_volume
from medgan.preprocess import PreparedDomain, PreprocessOptions
from medgan.translate import TranslateOptions, VolumeTranslator
from medgan.translate.outputs import plan_outputs

OPTIONS = TranslateOptions(precision="float32", seam_check=False)
PATCH = (8, 8, 8)  # what the network is said to have learnt from
_AXES = ("RL", "AP", "SI")


@dataclass(frozen=True)
class Header:
    """A NIfTI file to be made.

    Attributes:
        shape: (X, Y, Z).
        trailing: axes of length 1 that are stored behind it.
        codes: where the axes point, such as PIR.
        angles: of the whole grid about z, y and x, radians.
        spacing_mm: along the axes of the file.
        origin_mm: of the first voxel.
        dtype: of the stored values; "<" or ">" is the byte order of the file.
        scaling: slope and intercept.
        forms: codes of qform and sform; 0 leaves one out.
        version: of NIfTI, 1 or 2.
        suffix: .nii or .nii.gz.
        units: of the voxel sizes, "mm" or "unknown".
        working_mm: spacing of the working grid, or None for the file's own.
    """

    shape: tuple[int, int, int]
    trailing: int
    codes: str
    angles: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    dtype: str
    scaling: tuple[float, float]
    forms: tuple[int, int]
    version: int
    suffix: str
    units: str
    working_mm: float | None

    @property
    def affine(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(4, 4) voxel to RAS mm."""
        turn = nib.eulerangles.euler2mat(*self.angles)
        placed = np.eye(4)
        placed[:3, 3] = self.origin_mm
        for axis, (code, length) in enumerate(zip(self.codes, self.spacing_mm, strict=True)):
            pair = next(index for index, letters in enumerate(_AXES) if code in letters)
            placed[:3, axis] = turn[:, pair] * (length if code in "RAS" else -length)
        return placed

    def traits(self) -> list[str]:
        """What of the variety this header covers, in words."""
        words = [f"stored as {self.dtype[1:]}", f"NIfTI-{self.version}", self.suffix, f"trailing axes: {self.trailing}"]
        words.append("big-endian" if self.dtype[0] == ">" else "little-endian")
        words.append("scaled" if self.scaling != (1.0, 0.0) else "not scaled")
        words.append("oblique" if any(self.angles) else "along the axes")
        words.append({(True, False): "qform only", (False, True): "sform only"}.get(_named(self.forms), "both forms"))
        words.append("RAS" if self.codes == "RAS" else "turned or flipped axes")
        words += ["a single slice"] if self.shape[2] == 1 else []
        words += ["smaller than a patch"] if min(self.shape) < min(PATCH) else ["larger than a patch"]
        words.append("own spacing" if self.working_mm is None else "resampled for the network")
        return words


def headers() -> st.SearchStrategy[Header]:
    """Headers of every kind that `check` accepts."""
    angle = st.floats(-0.7, 0.7).map(lambda value: round(value, 4))
    spacing = st.floats(0.3, 6.0).map(lambda value: round(value, 5))
    place = st.floats(-900.0, 900.0).map(lambda value: round(value, 4))
    orders = [(a, b, c) for a in _AXES for b in _AXES for c in _AXES if len({a, b, c}) == 3]
    codes = st.sampled_from(orders).flatmap(lambda order: st.tuples(*map(st.sampled_from, order)).map("".join))
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]
    return st.builds(
        Header,
        shape=st.tuples(st.integers(3, 14), st.integers(3, 14), st.one_of(st.just(1), st.integers(2, 12))),
        trailing=st.integers(0, 2),
        codes=codes,
        angles=st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(angle, angle, angle)),
        spacing_mm=st.tuples(spacing, spacing, spacing),
        origin_mm=st.tuples(place, place, place),
        dtype=st.sampled_from([order + kind for kind in kinds for order in "<>"]),
        scaling=st.sampled_from([(1.0, 0.0), (1.0, 0.0), (0.5, -3.0), (2.0, 10.0), (-1.0, 40.0)]),
        forms=st.sampled_from([(1, 1), (1, 0), (0, 1), (2, 4), (4, 0), (0, 3)]),
        version=st.sampled_from([1, 2]),
        suffix=st.sampled_from([".nii", ".nii.gz"]),
        units=st.sampled_from(["mm", "mm", "unknown"]),
        working_mm=st.one_of(st.none(), st.sampled_from([2.0, 4.0])),
    )


def make_file(header: Header, path: Path) -> None:
    """A body of 30 to 120 HU, whole as stored, that fills the volume up to its edge."""
    slope, intercept = header.scaling
    values = np.random.default_rng(0).integers(20, 40, header.shape)
    stored = np.rint((values * 3 - intercept) / slope) if header.scaling != (1.0, 0.0) else values * 3
    kind = np.dtype(header.dtype)
    if kind.kind == "u" or kind.itemsize == 1:
        stored = stored.clip(np.iinfo(kind).min, np.iinfo(kind).max)
    image_type, header_type = (
        (nib.Nifti1Image, nib.Nifti1Header) if header.version == 1 else (nib.Nifti2Image, nib.Nifti2Header)
    )
    facts = header_type(endianness=header.dtype[0])
    facts.set_data_dtype(kind)
    facts.set_xyzt_units(header.units)
    shape = (*header.shape, *(1,) * header.trailing)
    image = image_type(stored.astype(kind).reshape(shape), None, facts)
    qform, sform = header.forms
    image.set_qform(header.affine if qform else None, qform)
    image.set_sform(header.affine if sform else None, sform)
    image.header["pixdim"][1:4] = nib.affines.voxel_sizes(header.affine)
    image.header.set_slope_inter(slope, intercept)
    image.to_filename(path)


@dataclass(frozen=True)
class Trip:
    """What came back.

    Attributes:
        affine_mm: largest displacement of a voxel between the source's and the output's grid.
        forms_mm: the same of whatever qform and sform the source has.
        is_same_grid: whether shape on disk, codes and units are equal.
        value_hu: largest difference of values, where the network saw the file's own grid; else None.
    """

    affine_mm: float
    forms_mm: float
    is_same_grid: bool
    value_hu: float | None


def round_trip(header: Header, folder: Path) -> Trip:
    """A drawn file through reading, the network and writing, and what of it is left."""
    path = folder / f"drawn{header.suffix}"
    make_file(header, path)
    (output,) = plan_outputs([path], folder / "out")
    volume = read_volume(path)
    write_volume(output.image, translator(header.working_mm).translate(volume).image, volume)
    one: Any = nib.load(path)
    other: Any = nib.load(output.image)
    forms = [0.0]
    for form in ("get_qform", "get_sform"):
        before, after = (getattr(image.header, form)(coded=True)[0] for image in (one, other))
        if (before is None) != (after is None):
            forms.append(np.inf)
        elif before is not None:
            forms.append(largest_displacement_mm(before, after, three(one.shape)))
    fields = ("qform_code", "sform_code", "xyzt_units")
    is_same = one.shape == other.shape and all(one.header[name] == other.header[name] for name in fields)
    off = np.abs(np.asarray(other.dataobj, np.float64).reshape(volume.array.shape) - np.rint(volume.array)).max()
    return Trip(
        affine_mm=largest_displacement_mm(one.affine, other.affine, three(one.shape)),
        forms_mm=float(max(forms)),
        is_same_grid=is_same,
        value_hu=float(off) if header.working_mm is None else None,
    )


def translator(working_mm: float | None) -> VolumeTranslator:
    """CT to CT by a network that changes nothing."""
    window = {"name": "hounsfield_window", "low_hu": -1000.0, "high_hu": 1000.0}
    spacing = None if working_mm is None else (working_mm,) * 3
    domain = PreparedDomain(
        name="ct",
        modality="ct",
        rule=window,
        intensity=window,
        body_threshold=-300.0,
        preprocess=PreprocessOptions(spacing_mm=spacing),
    )
    return VolumeTranslator(
        nn.Identity(),
        None,
        source=domain,
        target=domain,
        patch_size=PATCH,
        options=OPTIONS,
        device=torch.device("cpu"),
    )


def measure_geometry(count: int) -> dict[str, Any]:
    """Round trips of `count` headers, the same ones each time: how many of each trait, and the largest errors."""
    covered: Counter[str] = Counter()
    trips: list[Trip] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(headers())
    def go(header: Header) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trips.append(round_trip(header, Path(folder)))
        covered.update(header.traits())

    go()
    values = [trip.value_hu for trip in trips if trip.value_hu is not None]
    return {
        "count": len(trips),
        "covered": dict(sorted(covered.items())),
        "affine_mm": max(trip.affine_mm for trip in trips),
        "forms_mm": max(trip.forms_mm for trip in trips),
        "same_grid": sum(trip.is_same_grid for trip in trips),
        "values": {"count": len(values), "largest_hu": max(values)},
    }


def _named(forms: tuple[int, int]) -> tuple[bool, bool]:
    return forms[0] > 0, forms[1] > 0
