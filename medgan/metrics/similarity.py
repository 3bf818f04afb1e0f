"""Structural similarity by sums over boxes, tile by tile, so that memory stays small.

A tile and the rim of its windows stay in the processor's cache; tiles that no scored voxel lies in are skipped. Sums
within a tile are float32 around the tile's mean, which keeps what variances are a difference of small; those over
tiles are float64. Beside float64 throughout, the result is off by less than 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]

SIDE = 7  # voxels of the uniform window along each axis
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST = 97  # voxels along an axis: 4 halvings leave 7, which one window fills

_TILE = (8, 24, 256)  # voxels along the last axes: with rims 430 kB
_KEPT = 1 << 24  # bytes: once so many were freed, glibc keeps a tile's arrays for the next one, which saves a third
_ROWS = 4  # of a halved volume that are made together
_K1, _K2 = 0.01, 0.03


def similarity(mean_a: Floats, mean_b: Floats, var: Floats, cov: Floats, data_range: float) -> Floats:
    """Luminance times contrast times structure of each window.

    Args:
        mean_a: mean of one image in the window.
        mean_b: of the other.
        var: sum of their variances there.
        cov: their covariance.
        data_range: highest minus lowest value that the images can take.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, Equation 13, with
    K1 = 0.01 and K2 = 0.03.
    """
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    both, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    both *= 2
    both += c1
    squares += c1
    both *= 2 * cov + c2
    squares *= var + c2
    both /= squares
    return both


def mean_similarity(
    a: Array,
    b: Array,
    data_range: float,
    mask: NDArray[np.bool_] | None = None,
    side: Sequence[int] | None = None,
    exponent: float = 1.0,
) -> float:
    """Mean of ``similarity ** exponent`` over the voxels of `mask` whose uniform window lies within the image.

    Variances are those of a sample: divided by the voxels of the window minus 1.

    Args:
        a: finite image in 1 to 3 dimensions.
        b: finite image of the same shape.
        data_range: highest minus lowest value that the images can take.
        mask: None takes all voxels.
        side: odd widths of the window, one per axis; None is 7 along each.
        exponent: if it is not 1, what is negative counts as 0 first.

    Returns:
        NaN where no window lies within the image, or none of those has its centre in the mask.
    """
    side = (SIDE,) * a.ndim if side is None else side
    samples = math.prod(side)
    unbiased = 1 / (samples * max(1, samples - 1))
    np.empty(_KEPT, np.uint8)  # and freed at once
    total, count = 0.0, 0
    for windows, centres in _tiles(a.shape, side):
        inside = None if mask is None else mask[centres]
        if inside is not None and not inside.any():
            continue
        x, y = a[windows], b[windows]
        centre = float(x.mean(dtype=np.float64))
        x, y = (_around(centre, image) for image in (x, y))
        both, squares = x * y, x * x
        squares += y * y
        x, y, both, squares = (box_sum(image, side) for image in (x, y, both, squares))
        both *= samples
        both -= x * y
        both *= unbiased
        squares *= samples
        squares -= x * x
        squares -= y * y
        squares *= unbiased
        x /= samples
        y /= samples
        x += centre
        y += centre
        found = similarity(x, y, squares, both, data_range)
        values = found.ravel() if inside is None else found[inside]
        if exponent != 1:
            values = np.maximum(values, 0) ** exponent
        total += float(values.sum(dtype=np.float64))
        count += values.size
    return total / count if count else math.nan


def ms_ssim(a: Array, b: Array, data_range: float, mask: NDArray[np.bool_] | None = None) -> float:
    """Structural similarity over five scales, 0 to 1: the product of the masked means of each scale.

    At every scale j the map is (luminance * contrast * structure) ** w_j, negative values counting as 0; the images are
    then halved by the mean of 2 voxels along each axis, and the mask by taking every second voxel. The first mean
    along an axis takes 0 for the voxel before the image. Axes shorter than 97 are widened to 97 on both sides by
    repeating the outermost voxels, of the mask too.

    Wang et al., "Multiscale Structural Similarity for Image Quality Assessment", 2003, Equation 7, with its weights.
    Two departures, both of the SynthRAD2025 challenge: luminance counts at every scale, where the paper has it at the
    last one only, and windows are uniform, 7 voxels wide.

    Args:
        a: finite image in 1 to 3 dimensions, 0 to `data_range`.
        b: the other one, same shape.
        data_range: highest value that the images can take.
        mask: None takes all voxels.

    Returns:
        NaN where the mask is empty at some scale.
    """
    widen = [((missing := max(0, SMALLEST - n)) // 2, missing - missing // 2) for n in a.shape]
    if any(after for _, after in widen):
        a, b = np.pad(a, widen, mode="edge"), np.pad(b, widen, mode="edge")
        mask = None if mask is None else np.pad(mask, widen, mode="edge")
    result = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            a, b = halve(a), halve(b)
            mask = None if mask is None else mask[(slice(None, None, 2),) * mask.ndim]
        result *= min(1.0, mean_similarity(a, b, data_range, mask, exponent=weight))
    return result


def _around(centre: float, image: Array) -> NDArray[np.float32]:
    moved = np.subtract(image, centre, dtype=np.promote_types(image.dtype, np.float32))
    return np.ascontiguousarray(moved, dtype=np.float32)


def halve(image: Array) -> Array:
    """Every second voxel of the mean over it and the voxel before it along each axis, 0 before the first.

    Floats keep their type, integers become float64; an axis of n voxels gets (n + 1) // 2.
    """
    dtype = image.dtype if image.dtype.kind == "f" else np.float64
    half = np.empty([(n + 1) // 2 for n in image.shape], dtype)
    for first in range(0, len(half), _ROWS):  # a few rows at a time stay in the cache
        last = min(first + _ROWS, len(half))
        rows = image[2 * first : 2 * last : 2].astype(dtype)
        rows[first == 0 :] += image[max(2 * first - 1, 1) : 2 * last - 1 : 2]
        for axis in range(1, image.ndim):
            here = (slice(None),) * axis
            pairs = rows[(*here, slice(0, None, 2))].copy()
            pairs[(*here, slice(1, None))] += rows[(*here, slice(1, 2 * pairs.shape[axis] - 1, 2))]
            rows = pairs
        np.multiply(rows, 0.5**image.ndim, out=half[first:last])
    return half


def box_sum(image: Floats, side: Sequence[int]) -> Floats:
    """Sum over each box of `side` voxels that lies within the image; an axis of n voxels gets n - side + 1.

    A width is put together of powers of two, so that 7 voxels take 4 additions.
    """
    for axis, width in enumerate(side):
        image = _line_sum(image, width, axis)
    return image


def _line_sum(image: Floats, width: int, axis: int) -> Floats:
    def part(of: Floats, start: int, length: int) -> Floats:
        return of[(slice(None),) * axis + (slice(start, start + length),)]

    length = image.shape[axis] - width + 1
    power, run, start = image, 1, 0  # `power` holds sums over `run` voxels; `start` of the width's voxels are summed
    total: Floats | None = None
    while True:
        if width & run:
            piece = part(power, start, length)
            total = piece if total is None else total + piece
            start += run
        if 2 * run > width:
            assert total is not None
            return total
        rest = power.shape[axis] - run
        power = part(power, 0, rest) + part(power, run, rest)
        run *= 2


def _tiles(shape: Sequence[int], side: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Tiles of the voxels whose window lies within the image: with their windows' rims, and without."""
    spans = [n - width + 1 for n, width in zip(shape, side, strict=True)]
    steps = _TILE[len(_TILE) - len(shape) :]
    for start in product(*(range(0, span, step) for span, step in zip(spans, steps, strict=True))):
        stop = [min(first + step, span) for first, step, span in zip(start, steps, spans, strict=True)]
        yield (
            tuple(slice(first, last + width - 1) for first, last, width in zip(start, stop, side, strict=True)),
            tuple(
                slice(first + width // 2, last + width // 2)
                for first, last, width in zip(start, stop, side, strict=True)
            ),
        )
