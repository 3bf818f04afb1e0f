"""Where to score: body masks of CT and MR, what they have in common, and bone.

Volumes are (X, Y, Z) with axial slices along the last axis; `medgan.evaluate.scoring` turns them so. These masks belong
to scoring; the one that training crops by is wider (`medgan.data.transforms.body_mask`). NaN counts as outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

_CROSS = ndimage.generate_binary_structure(3, 1)
_CROSS_IN_PLANE = ndimage.generate_binary_structure(2, 1)[..., None]


def mr_body(mr: NDArray[Any], threshold: float = 60.0, closing: int = 2) -> Mask:
    """Where the body is on MR: brighter than `threshold`, closed by `closing` voxels, holes filled slice by slice.

    What lies beyond the volume counts as outside, so that a body that reaches the border of the volume loses the
    outermost `closing` voxels there, where MR is least reliable. A slice without signal stays empty.
    """
    bright = np.asarray(mr > threshold)
    return _fill_slices(ndimage.binary_closing(bright, _CROSS, closing) if closing else bright)


def ct_body(ct_hu: NDArray[Any], threshold_hu: float = -300.0, opening: int = 2) -> Mask:
    """Where the body is on CT: denser than `threshold_hu`, opened by `opening` voxels (away goes the table), filled."""
    dense = np.asarray(ct_hu > threshold_hu)
    return _fill_slices(ndimage.binary_opening(dense, _CROSS, opening) if opening else dense)


def erode_in_plane(mask: Mask, spacing_mm: Sequence[float], erosion_mm: float) -> Mask:
    """`mask` without a rim of about `erosion_mm` (whole voxels) in each slice; beyond the volume is outside."""
    voxels = round(2 * erosion_mm / (spacing_mm[0] + spacing_mm[1]))
    return np.asarray(ndimage.binary_erosion(mask, _CROSS_IN_PLANE, voxels)) if voxels else mask


def common_body(
    mr: NDArray[Any],
    ct_hu: NDArray[Any],
    spacing_mm: Sequence[float],
    *,
    erosion_mm: float = 2.0,
    mr_threshold: float = 60.0,
    ct_threshold_hu: float = -300.0,
) -> Mask:
    """Where two images on one grid both show the body, without a rim of `erosion_mm` in plane.

    MR and CT of one patient are never registered perfectly; along the skin the error would be the registration's.
    """
    return erode_in_plane(mr_body(mr, mr_threshold) & ct_body(ct_hu, ct_threshold_hu), spacing_mm, erosion_mm)


def bone(ct_hu: NDArray[Any], spacing_mm: Sequence[float], threshold_hu: float = 180.0, sigma_mm: float = 0.98) -> Mask:
    """Where CT, smoothed in plane by a Gaussian of `sigma_mm` against its noise, is denser than `threshold_hu`."""
    return smoothed(ct_hu, spacing_mm, sigma_mm) > threshold_hu


def smoothed(image: NDArray[Any], spacing_mm: Sequence[float], sigma_mm: float) -> NDArray[np.float32]:
    """`image` after a Gaussian of `sigma_mm` in each slice."""
    sigma_voxels = (sigma_mm / spacing_mm[0], sigma_mm / spacing_mm[1], 0.0)
    return np.asarray(ndimage.gaussian_filter(np.asarray(image, dtype=np.float32), sigma_voxels))


def _fill_slices(mask: Mask) -> Mask:
    return np.stack([ndimage.binary_fill_holes(mask[..., z]) for z in range(mask.shape[-1])], axis=-1)
