"""The table under a CT's patient: a flat plate that touches the skin, thinner than any trunk or limb."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def without_plates(
    body: NDArray[np.bool_], spacing_mm: Sequence[float], thickest_mm: float, axial_axis: int = 2
) -> NDArray[np.bool_]:
    """A body mask without the plates and sheets in it that are at most `thickest_mm` thick; (X, Y, Z).

    In each axial slice what a disc of that diameter fits into stays, and what lies within its radius of that: corners
    come back, plates do not. A body that is thinner everywhere stays whole. After Zhu et al., "Automatic patient table
    removal in CT images", Journal of Digital Imaging 2012, with an opening in place of their line search.
    """
    planes = np.moveaxis(body, axial_axis, 0)
    mm = [one for axis, one in enumerate(spacing_mm) if axis != axial_axis]
    cores = np.zeros_like(planes)
    for plane, core in zip(planes, cores, strict=True):
        core[...] = _further_in(plane, mm, thickest_mm / 2)
    if not cores.any():
        return body
    around = [math.ceil(thickest_mm / one) for one in mm]
    kept = np.zeros_like(planes)
    for plane, core, out in zip(planes, cores, kept, strict=True):
        if core.any():
            wide = np.pad(~core, [(n, n) for n in around], constant_values=True)
            far = ndimage.distance_transform_edt(wide, sampling=mm)
            inner = tuple(slice(n, n + size) for n, size in zip(around, plane.shape, strict=True))
            out[...] = plane & (far[inner] <= thickest_mm / 2 + max(mm))
    return np.ascontiguousarray(np.moveaxis(kept, 0, axial_axis))


def _further_in(plane: NDArray[np.bool_], mm: Sequence[float], depth_mm: float) -> NDArray[np.bool_]:
    """What lies deeper than `depth_mm` below a plane mask's surface; the border of the image is no surface."""
    if plane.all():
        return plane
    return np.asarray(ndimage.distance_transform_edt(plane, sampling=mm) > depth_mm)
