"""Faults planted in translated synthetic CTs: an organ erased, doubled, shifted or of another tissue's intensity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Fault = Literal["erased", "doubled", "shifted", "contrast"]
Organ = Literal["liver", "lung", "heart", "spine"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
ORGANS: tuple[Organ, ...] = get_args(Organ)
SHIFT_MM = 8.0
CONTRAST_HU = 100.0  # the least difference of the tissue whose intensity an organ takes
_CLASSES: dict[Organ, tuple[int, ...]] = {"liver": (3,), "lung": (6,), "heart": (7,), "spine": (4, 5)}
_TISSUE_HU = {"fat": -100, "muscle": 50, "liver": 110, "cortical bone": 900, "marrow": 220, "gas": -800, "blood": 170}
_EDGE = 0.45  # voxels, the blur of the phantom's own edges
_TRIES = 2000

Mask = NDArray[np.bool_]
Image = NDArray[np.floating[Any]]


def organ_mask(labels: NDArray[Any], organ: Organ, rng: np.random.Generator) -> Mask:
    """Where one organ of a phantom is, (X, Y, Z): the largest piece of its classes, one of both lungs, or the heart's
    blood, which lies before the vessels."""
    pieces, count = ndimage.label(np.isin(labels, _CLASSES[organ]))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = np.argsort(sizes)[::-1]
    if organ == "lung":
        chosen = largest[rng.integers(2)]
    elif organ == "heart":
        seen = [piece for piece in largest[:4] if sizes[piece] > 20]
        front = [np.mean(np.nonzero(pieces == piece)[1]) for piece in seen]
        chosen = seen[int(np.argmax(front))]
    else:
        chosen = largest[0]
    return np.asarray(pieces == chosen)


def plant(
    image: NDArray[np.int16],
    labels: NDArray[Any],
    fault: Fault,
    organ: Organ,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """A translated CT with one fault; edges are blurred as those of the phantoms are.

    Args:
        image: (X, Y, Z), HU.
        labels: of the phantom, where the organ and its surroundings are taken from.
        fault: what is done.
        organ: to which organ.
        spacing_mm: of the grid.
        rng: draws the lung, the place of the copy, the direction of the shift, the tissue, and noise.
    """
    given, mask = image.astype(np.float32), organ_mask(labels, organ, rng)
    if fault == "contrast":
        made = _recoloured(given, mask, rng)
    elif fault == "erased":
        made = _erased(given, mask, labels > 0, rng)
    elif fault == "shifted":
        way = rng.normal(size=3)
        offset = SHIFT_MM * way / np.linalg.norm(way) / np.array(spacing_mm)
        made = _pasted(_erased(given, mask, labels > 0, rng), given, mask, offset)
    else:
        made = _pasted(given, given, mask, _free_offset(mask, labels, rng))
    outside = labels == 0
    made[outside] = given[outside]
    return np.asarray(np.clip(np.rint(made), -1000, 1500), np.int16)


def _erased(image: Image, mask: Mask, body: Mask, rng: np.random.Generator) -> Image:
    """The organ filled with the median of what surrounds it, and noise as it is there."""
    near = ndimage.binary_dilation(mask)
    shell = image[ndimage.binary_dilation(near, iterations=2) & ~near & body]
    middle = float(np.median(shell))
    spread = min(1.4826 * float(np.median(np.abs(shell - middle))), 30.0)
    grain = ndimage.gaussian_filter(rng.standard_normal(image.shape).astype(np.float32), 0.7)
    fill = middle + spread * grain / max(float(grain.std()), 1e-6)
    return _mixed(image, fill, near.astype(np.float32))


def _pasted(image: Image, source: Image, mask: Mask, offset: NDArray[np.float64]) -> Image:
    """`image` with the organ of `source` at its own place plus `offset`, in voxels."""
    deep = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    organ = source[tuple(deep)]  # what is moved along with the organ's edge is the organ, not what lies around it
    moved = ndimage.shift(organ, offset, order=1, mode="nearest")
    share = ndimage.shift(mask.astype(np.float32), offset, order=1, mode="constant", cval=0.0)
    return _mixed(image, moved, share)


def _recoloured(image: Image, mask: Mask, rng: np.random.Generator) -> Image:
    """The organ with its own texture about another tissue's mean."""
    middle = float(np.median(image[mask]))
    others = [hu for hu in _TISSUE_HU.values() if abs(hu - middle) >= CONTRAST_HU]
    return _mixed(image, image - middle + rng.choice(others), mask.astype(np.float32))


def _mixed(image: Image, other: Image, share: Image) -> Image:
    share = np.clip(ndimage.gaussian_filter(share, _EDGE), 0, 1)
    return np.asarray(image * (1 - share) + other * share, dtype=np.float32)


def _free_offset(mask: Mask, labels: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Where a copy fits: in the body and clear of the organ; where nothing fits, where it overlaps the organ least."""
    voxels = np.argwhere(mask)
    low, high = -voxels.min(0), np.array(mask.shape) - voxels.max(0)
    near = ndimage.binary_dilation(mask, iterations=2)
    best, offset = np.inf, np.zeros(3)
    for _ in range(_TRIES):
        drawn = rng.integers(low, high)
        place = tuple((voxels + drawn).T)
        cost = float(np.mean(labels[place] == 0)) + float(np.mean(near[place]))
        if cost < best:
            best, offset = cost, drawn.astype(np.float64)
        if cost < 0.02:
            break
    return offset
