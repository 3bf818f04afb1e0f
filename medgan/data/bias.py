"""The smooth brightness that an MR coil adds, found by N4 and divided out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from medgan.config import StrictModel

_FEWEST_VOXELS = 12  # along an axis of the thinned image


class BiasCorrection(StrictModel):
    """N4 bias field correction of MR domains.

    Tustison et al., "N4ITK: Improved N3 Bias Correction", IEEE Transactions on Medical Imaging 2010.
    """

    thinned_mm: PositiveFloat = Field(4.0, description="the field is sought on every so many millimetres")
    levels: int = Field(3, ge=1, le=6, description="how often control points are set twice as densely")
    iterations: int = Field(50, gt=0, description="at most, at each level")
    control_mm: PositiveFloat = Field(200.0, description="between control points at the first level")


@dataclass(frozen=True)
class BiasField:
    """A smooth field on a thinned grid.

    Attributes:
        log_values: (x, y, z) float32, of mean 0 in the body.
        strides: voxels of the image per voxel of the field.
    """

    log_values: NDArray[np.float32]
    strides: tuple[int, int, int]

    def divide(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """`image` (X, Y, Z) without the field: the brightness of the body as a whole stays."""
        return np.asarray(image.astype(np.float32) / np.exp(self.on(image.shape)), dtype=np.float32)

    def on(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The logarithm of the field at every voxel of an image of this shape."""
        field: NDArray[Any] = self.log_values
        for axis, (n, stride) in enumerate(zip(shape, self.strides, strict=True)):
            place = np.minimum(np.arange(n) / stride, field.shape[axis] - 1)
            low = np.floor(place).astype(np.intp)
            high = np.minimum(low + 1, field.shape[axis] - 1)
            weight = (place - low).astype(np.float32).reshape([-1 if one == axis else 1 for one in range(3)])
            field = field.take(low, axis) * (1 - weight) + field.take(high, axis) * weight
        return np.asarray(field, dtype=np.float32)


def find_bias(
    image: NDArray[Any], body: NDArray[np.bool_], spacing_mm: tuple[float, float, float], options: BiasCorrection
) -> BiasField:
    """The field of an image (X, Y, Z); it is 1 everywhere where the body holds no positive value.

    Args:
        image: MR signal.
        body: where it counts; only positive values are looked at.
        spacing_mm: of the image's voxels.
        options: of N4.
    """
    import SimpleITK

    itk: Any = SimpleITK

    strides = tuple(
        max(1, min(int(options.thinned_mm / mm), n // _FEWEST_VOXELS))
        for mm, n in zip(spacing_mm, image.shape, strict=True)
    )
    thin = tuple(slice(None, None, stride) for stride in strides)
    values, where = np.asarray(image[thin], dtype=np.float32), body[thin] & (image[thin] > 0)
    x, y, z = strides
    if not where.any():
        return BiasField(np.zeros(values.shape, dtype=np.float32), (x, y, z))
    mm = [float(one * stride) for one, stride in zip(spacing_mm, strides, strict=True)]
    given, mask = (itk.GetImageFromArray(np.ascontiguousarray(array.T)) for array in (values, where.astype(np.uint8)))
    given.SetSpacing(mm)
    mask.SetSpacing(mm)
    n4 = itk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # the same field on every machine
    n4.SetMaximumNumberOfIterations([options.iterations] * options.levels)
    meshes = [max(1, round(one * n / options.control_mm)) for one, n in zip(mm, values.shape, strict=True)]
    n4.SetNumberOfControlPoints([mesh + 3 for mesh in meshes])  # of a cubic spline
    n4.Execute(given, mask)
    field = np.ascontiguousarray(itk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(given)).T, dtype=np.float32)
    return BiasField(field - field[where].mean(), (x, y, z))
