"""How far from its place an organ looks in a translation, whatever a segmentor makes of it.

A segmentor that has learnt where organs lie reads a liver where the liver should be, even when the image shows it
elsewhere. Here the source's outline of each piece of an organ is tried at places nearby, and the one where the
translation looks most like the organ is told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

REACH_MM = 12.0
_GRID_MM = 4.0  # finer grids are thinned out: displacements of less than this are not looked for
_LARGE = 0.2  # share of the volume from which a piece is no organ that could lie elsewhere
_GAIN = 0.03  # by which another place must be better, as a share of how unlike the organ its own place is


def displacement_mm(
    pieces: Sequence[NDArray[np.bool_]],
    labels: NDArray[Any],
    image: NDArray[Any],
    spacing_mm: Sequence[float],
    tolerance: float,
) -> float:
    """The farthest that a piece of an organ looks displaced; 0 where each looks best at its own place.

    Each label of the source is expected to have its median intensity nearby. A place is the better, the more of its
    voxels are closer to the organ's median than to what is expected there without the organ.

    Args:
        pieces: of one organ in the source, (X, Y, Z) masks.
        labels: (X, Y, Z) of the source.
        image: (X, Y, Z) the translation, stored units.
        spacing_mm: of the grid.
        tolerance: difference of intensity from which a voxel is no worse for differing more, stored units.
    """
    steps = [max(1, round(_GRID_MM / mm)) for mm in spacing_mm]
    coarse_mm = [step * mm for step, mm in zip(steps, spacing_mm, strict=True)]
    places = _places(coarse_mm)
    thin = tuple(slice(step // 2, None, step) for step in steps)
    margins = [math.ceil(REACH_MM / mm) + step for mm, step in zip(spacing_mm, steps, strict=True)]
    farthest = 0.0
    for piece in pieces:
        if piece[thin].mean() > _LARGE:
            continue
        box = _around(piece, margins)
        inside, shown = piece[box][thin], image[box].astype(np.float32)
        shown = ndimage.uniform_filter(shown, steps, mode="nearest")[thin] if max(steps) > 1 else shown
        if inside.any() and not inside.all():
            farthest = max(farthest, _best_place(inside, labels[box][thin], shown, places, coarse_mm, tolerance))
    return farthest


def _best_place(
    piece: NDArray[np.bool_],
    labels: NDArray[Any],
    image: NDArray[np.float32],
    places: NDArray[np.int64],
    spacing_mm: Sequence[float],
    tolerance: float,
) -> float:
    expected = np.zeros(image.shape, dtype=np.float32)
    for label in np.unique(labels[~piece]):
        here = (labels == label) & ~piece
        expected[here] = np.median(image[here])
    nearest = ndimage.distance_transform_edt(piece, spacing_mm, return_distances=False, return_indices=True)
    expected = expected[tuple(nearest)]  # in the piece, what lies beside it
    unlike = np.minimum(np.abs(image - np.median(image[piece])), tolerance)
    gain = np.minimum(np.abs(image - expected), tolerance) - unlike
    reach = np.abs(places).max(axis=0)
    gain = np.pad(gain, [(n, n) for n in reach], constant_values=-tolerance)
    voxels = np.argwhere(piece) + reach
    gains = np.array([gain[tuple((voxels + place).T)].sum() for place in places])
    best = int(np.argmax(gains))  # the nearest of equal ones, as places are sorted
    if gains[best] - gains[0] <= _GAIN * unlike[piece].sum():
        return 0.0
    return float(np.linalg.norm(places[best] * spacing_mm))


def _places(spacing_mm: Sequence[float]) -> NDArray[np.int64]:
    """Displacements in voxels within `REACH_MM`, the nearest first, (N, 3)."""
    sides = [range(-int(REACH_MM // mm), int(REACH_MM // mm) + 1) for mm in spacing_mm]
    places = np.array(list(itertools.product(*sides)), dtype=np.int64)
    distances = np.linalg.norm(places * spacing_mm, axis=1)
    order = np.argsort(distances, kind="stable")
    return np.asarray(places[order][distances[order] <= REACH_MM])


def _around(mask: NDArray[np.bool_], margins: Sequence[int]) -> tuple[slice, ...]:
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(
        slice(max(0, side.start - margin), min(n, side.stop + margin))
        for side, margin, n in zip(box, margins, mask.shape, strict=True)
    )
