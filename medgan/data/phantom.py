"""Synthetic bodies with labels, seen by a CT and by an MR scanner: truth for trying, testing and teaching.

Air in the lungs, cortical bone and flowing blood are all dark on the MR and are told apart only by where they are and
how they are shaped. No table from MR intensity to HU can therefore be right; a network that sees the surroundings can.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from medgan.config import InputError

Field = NDArray[np.float32]

TISSUES = {
    0: "background",
    1: "fat",
    2: "muscle",
    3: "liver",
    4: "cortical bone",
    5: "marrow",
    6: "gas",
    7: "blood",
}
_MEAN_HU = np.array([-1000, -100, 50, 110, 900, 220, -800, 170], dtype=np.float32)
_MEAN_MR = np.array([0, 900, 330, 520, 40, 700, 30, 35], dtype=np.float32)  # T1-like, black blood, arbitrary units
_MEAN_T2 = np.array([0, 140, 300, 460, 35, 210, 30, 850], dtype=np.float32)  # T2-like, fat suppressed, bright blood
_TEXTURE_HU = np.array([0, 8, 10, 8, 60, 30, 25, 8], dtype=np.float32)
_TEXTURE_MR = np.array([0, 50, 25, 25, 5, 50, 5, 5], dtype=np.float32)
_TEXTURE_T2 = np.array([0, 15, 25, 25, 5, 20, 5, 40], dtype=np.float32)
_FIELD_OF_VIEW_MM = (192.0, 192.0, 144.0)
_NOISE_HU = 12.0
_NOISE_MR = 18.0


@dataclass(frozen=True)
class Phantom:
    """One body on one grid, axes towards right, anterior and superior.

    Attributes:
        labels: (X, Y, Z) uint8, the keys of `TISSUES`.
        ct: (X, Y, Z) int16, HU.
        mr: (X, Y, Z) int16, arbitrary units from 0, T1-like: fat near 900, blood dark.
        t2: (X, Y, Z) int16, arbitrary units from 0, T2-like: fat suppressed, blood near 850.
        affine: (4, 4) voxel to RAS in mm, the volume's centre at the origin.
    """

    labels: NDArray[np.uint8]
    ct: NDArray[np.int16]
    mr: NDArray[np.int16]
    t2: NDArray[np.int16]
    affine: NDArray[np.float64]


def make_phantom(
    seed: int | Sequence[int],
    shape: tuple[int, int, int] = (48, 48, 24),
    spacing_mm: tuple[float, float, float] | None = None,
) -> Phantom:
    """The body of this seed, sampled on a grid of any size: the anatomy is the same, only the voxels are finer.

    Args:
        seed: of the anatomy, of the noise and of each MR's bias field; equal seeds give equal bytes.
        shape: number of voxels towards right, anterior and superior.
        spacing_mm: written into the affine; by default a field of view of 192 x 192 x 144 mm.
    """
    anatomy, ct_noise, mr_noise, t2_noise = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4))
    spacing = spacing_mm or tuple(extent / n for extent, n in zip(_FIELD_OF_VIEW_MM, shape, strict=True))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    labels = _anatomy(anatomy, shape)
    mr = _render_mr(labels, mr_noise, _MEAN_MR, _TEXTURE_MR)
    t2 = _render_mr(labels, t2_noise, _MEAN_T2, _TEXTURE_T2)
    return Phantom(labels, _render_ct(labels, ct_noise), mr, t2, affine)


def _smooth(rng: np.random.Generator, shape: Sequence[int], waves: int = 4) -> Field:
    """A smooth random field of standard deviation near 1: a cosine series, the same curve on every grid."""
    i, j, k = np.ogrid[:waves, :waves, :waves]
    coefficients = rng.standard_normal((waves, waves, waves)) / (1.0 + i**2 + j**2 + k**2)
    coefficients[0, 0, 0] = 0.0
    coefficients *= np.sqrt(8.0 / np.sum(np.square(coefficients) * 2.0 ** ((i == 0) * 1 + (j == 0) + (k == 0))))
    for n in reversed(shape):  # contracts k, j, i and puts z, y, x behind one another
        basis = np.cos(np.pi * np.arange(waves)[:, None] * (np.arange(n) + 0.5) / n).astype(np.float32)
        coefficients = np.tensordot(basis.T, coefficients, axes=(1, coefficients.ndim - 1))
    return np.ascontiguousarray(coefficients, dtype=np.float32)


def _anatomy(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Labels: every size, place and tilt drawn for this body, then the whole bent by a smooth warp.

    Coordinates run from -1 to 1 towards right, anterior and superior.
    """

    def about(centre: float, spread: float) -> float:
        return float(rng.uniform(centre - spread, centre + spread))

    x, y, z = (
        (axis + 0.035 * _smooth(rng, shape, waves=3)).astype(np.float32)
        for axis in np.ix_(*((2 * np.arange(n, dtype=np.float32) + 1) / n - 1 for n in shape))
    )
    lean, turn = about(0.0, 0.06), about(0.0, 0.12)
    x, y = x - about(0.0, 0.05) - lean * z, y - about(0.0, 0.05) - about(0.0, 0.05) * z
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y

    def radius(centre: Sequence[float | Field], semi_axes: Sequence[float], tilt: float = 0.0) -> Field:
        """Below 1 inside an ellipsoid (three semi-axes) or a tube along z (two); `tilt` leans it sideways."""
        along = (x + tilt * (z - (centre[2] if len(centre) > 2 else 0.0)), y, z)
        squares = [((axis - c) / s) ** 2 for axis, c, s in zip(along, centre, semi_axes, strict=False)]
        return np.asarray(np.sqrt(sum(squares)), dtype=np.float32)

    taper = 1 + about(0.0, 0.07) * z
    width, depth = about(0.80, 0.07), about(0.64, 0.06)
    skin = (np.abs(x / (width * taper)) ** 2.3 + np.abs(y / (depth * taper)) ** 2.3) ** (1 / 2.3)
    fat = about(0.15, 0.05)
    wall = skin / (1 - fat * (1 + 0.4 * y / depth))  # more fat in front; 1 at the surface of the muscles
    inside = wall < 0.77  # of the ribs

    labels = np.zeros(shape, dtype=np.uint8)
    labels[skin < 1] = 1
    labels[wall < 1] = 2
    labels[
        inside & (radius((about(0, 0.1), about(0.12, 0.06), -0.75), (about(0.45, 0.1), about(0.2, 0.06), 0.5)) < 1)
    ] = 1
    top = about(0.55, 0.12)
    for side in (-1, 1):
        lung = radius(
            (side * about(0.36, 0.03), about(0.02, 0.04), top),
            (about(0.23, 0.03), about(0.36, 0.05), about(0.72, 0.12)),
            tilt=-side * about(0.06, 0.06),
        )
        labels[inside & (lung < 1)] = 6
    heart = (-about(0.10, 0.05), about(0.16, 0.05), about(0.35, 0.1))
    size = about(1.0, 0.15)
    labels[inside & (radius(heart, (0.24 * size, 0.23 * size, 0.38 * size), tilt=0.15) < 1)] = 2
    labels[inside & (radius(heart, (0.15 * size, 0.14 * size, 0.26 * size), tilt=0.15) < 1)] = 7
    liver = radius(
        (about(0.30, 0.05), about(0.06, 0.05), about(-0.55, 0.1)),
        (about(0.34, 0.05), about(0.36, 0.05), about(0.55, 0.08)),
        tilt=about(-0.1, 0.1),
    )
    labels[inside & (liver < 1)] = 3
    for _ in range(2):  # gas in stomach and bowel
        gas = radius(
            (about(-0.32, 0.1), about(0.2, 0.08), about(-0.55, 0.3)),
            (about(0.12, 0.04), about(0.10, 0.03), about(0.18, 0.08)),
        )
        labels[inside & (gas < 1)] = 6
    slope, pitch, phase = about(0.5, 0.1), about(2.6, 0.4), about(0.0, 0.5)
    rib = (wall > 0.80) & (wall < 0.93) & (np.cos(2 * np.pi * (pitch * (z + slope * y) + phase)) > 0.1)
    labels[rib & (z > about(-0.35, 0.15)) & (y < about(0.75, 0.1) * depth)] = 4
    spine_y = -about(0.30, 0.03)
    bow = about(0.05, 0.05) * (z**2 - 0.5)
    for side, across, behind in ((-1, 0.17, -0.14), (1, 0.16, -0.20)):  # aorta on the left, vena cava on the right
        middle = (side * about(across, 0.03), spine_y - behind + bow)
        labels[radius(middle, (about(0.09, 0.012), about(0.09, 0.012))) < 1] = 7
    body_radius = about(0.17, 0.015)
    vertebra = radius((0.0, spine_y + bow), (1.15 * body_radius, body_radius))
    labels[vertebra < 1] = 4
    labels[vertebra < 0.68] = 5
    spinous_process = radius((0.0, spine_y - 1.4 * body_radius + bow), (0.045, 0.12))
    labels[(spinous_process < 1) & (wall < 0.97) & (skin < 0.86)] = 4  # skin and fat go on behind it
    return labels


def _render(labels: NDArray[np.uint8], rng: np.random.Generator, mean: Field, texture: Field) -> Field:
    """Tissue means, this body's own shift of each, fine texture within, and a little partial volume at edges."""
    own = mean + texture * rng.uniform(-0.5, 0.5, size=mean.shape).astype(np.float32)
    grain = ndimage.gaussian_filter(rng.standard_normal(labels.shape, dtype=np.float32), 1.0, mode="nearest")
    grain /= max(float(grain.std()), 1e-6)
    return np.asarray(ndimage.gaussian_filter(own[labels] + texture[labels] * grain, 0.45, mode="nearest"), np.float32)


def _render_ct(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int16]:
    ct = _render(labels, rng, _MEAN_HU, _TEXTURE_HU)
    ct += _NOISE_HU * rng.standard_normal(labels.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(ct), -1024, 3071), np.int16)


def _render_mr(labels: NDArray[np.uint8], rng: np.random.Generator, mean: Field, texture: Field) -> NDArray[np.int16]:
    """Magnitude of a complex signal: its noise is Rician (Gudbjartsson and Patz, 1995), its gain a smooth field."""
    signal = _render(labels, rng, mean, texture) * np.exp(0.12 * _smooth(rng, labels.shape, waves=3))
    real, imaginary = (_NOISE_MR * rng.standard_normal(labels.shape, dtype=np.float32) for _ in range(2))
    return np.asarray(np.clip(np.rint(np.hypot(signal + real, imaginary)), 0, 4095), np.int16)


def write_phantoms(
    folder: Path,
    *,
    subjects_per_domain: int = 12,
    test_subjects: int = 4,
    shape: tuple[int, int, int] = (48, 48, 24),
    seed: int = 0,
) -> Path:
    """A study of phantoms as NIfTI files; returns the case table ``cases.csv``, domain A the CT and B the MR.

    Training and validation subjects have a CT or an MR, never both; test subjects have both. ``truth/`` holds what a
    real study would not have: the CT of each MR training subject, ``truth/<subject>_ct.nii.gz``, on which a lookup
    table can be fitted. The case table does not list it.

    Raises:
        InputError: fewer than one training subject per domain.
    """
    if subjects_per_domain < 1 or test_subjects < 0:
        asked = f"{subjects_per_domain} training and {test_subjects} test subjects"
        raise InputError(f"phantoms: {asked}; ask for at least 1 and 0")
    validation_subjects = max(1, subjects_per_domain // 6)
    splits = list(enumerate(["train"] * subjects_per_domain + ["validation"] * validation_subjects, 1))
    plan = [(f"{modality}-{i:02d}", [modality], split) for modality in ("ct", "mr") for i, split in splits]
    plan += [(f"pair-{i:02d}", ["ct", "mr"], "test") for i in range(1, test_subjects + 1)]
    for part in ("images", "labels", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    for number, (subject, modalities, split) in enumerate(track(plan, description="phantoms", transient=True)):
        phantom = make_phantom((seed, number), shape)
        label = f"labels/{subject}.nii.gz"
        _write(folder / label, phantom.labels, phantom.affine)
        for modality in modalities:
            image = f"images/{subject}_{modality}.nii.gz"
            _write(folder / image, getattr(phantom, modality), phantom.affine)
            rows.append([subject, "A" if modality == "ct" else "B", image, label, split])
        if modalities == ["mr"] and split == "train":
            _write(folder / f"truth/{subject}_ct.nii.gz", phantom.ct, phantom.affine)
    table = folder / "cases.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["subject", "domain", "image", "label", "split"], *rows])
    return table


def _write(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    image = nibabel.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nibabel.save(image, path)
