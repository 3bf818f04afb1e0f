"""Lay one image of a patient onto another: rigid or affine, by mutual information."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from medgan.config import InputError, StrictModel
from medgan.data.geometry import shear_degrees
from medgan.data.grid import Order
from medgan.data.volume import Volume

_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_SHEARED_DEGREES = 0.5


class Registration(StrictModel):
    """Lay one image of a patient in both domains onto the other.

    Mattes et al., "PET-CT image registration in the chest using free-form deformations", IEEE Transactions on Medical
    Imaging 2003 (mutual information), coarse to fine by gradient descent, through SimpleITK.
    """

    transform: Literal["rigid", "affine"] = Field("rigid", description="affine also scales and shears")
    moving: Literal["A", "B"] = Field("B", description="the domain whose images move; the other's grid stays")
    samples: float = Field(0.1, gt=0, le=1, description="share of the voxels that are compared")
    iterations: int = Field(200, gt=0, description="at most, at each of three resolutions")


def register(fixed: Volume, moving: Volume, options: Registration) -> NDArray[np.float64]:
    """The (4, 4) matrix from a point of `fixed` to the same anatomy in `moving`, both in RAS mm.

    The search starts where the two lie already, or centre on centre where they do not meet.

    Raises:
        InputError: a sheared grid, or images that have nothing in common.
    """
    import SimpleITK

    itk: Any = SimpleITK

    images = [_image(volume) for volume in (fixed, moving)]
    kind = itk.Euler3DTransform() if options.transform == "rigid" else itk.AffineTransform(3)
    start = itk.CenteredTransformInitializer(*images, kind, itk.CenteredTransformInitializerFilter.GEOMETRY)
    start = type(kind)(start)
    if _meet(fixed, moving):
        start.SetTranslation((0.0, 0.0, 0.0))
    method = itk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # the same matrix on every machine
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(options.samples, 0)
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, options.iterations, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(*images)
    except RuntimeError:
        place = moving.path or "volume"
        raise InputError(
            f"{place}: cannot be registered to {fixed.path or 'its pair'}, too little in common; register them before, "
            "or leave the patient out"
        ) from None
    return _matrix(start)


def laid_onto(fixed: Volume, moving: Volume, matrix: NDArray[np.float64], order: Order, fill: float) -> Volume:
    """`moving` sampled on the grid of `fixed`; see `register` for the matrix.

    Order 1 is linear and gives float32, order 0 takes the nearest voxel and keeps the type; `fill` lies outside.
    """
    to_moving = np.linalg.inv(moving.affine) @ matrix @ fixed.affine
    array = ndimage.affine_transform(
        moving.array.astype(np.float32) if order else moving.array,
        to_moving[:3, :3],
        to_moving[:3, 3],
        output_shape=fixed.array.shape,
        order=order,
        cval=fill,
    )
    return replace(fixed, array=array, path=moving.path)


def _meet(fixed: Volume, moving: Volume) -> bool:
    """Whether the middle of one lies within the other."""
    to_moving = np.linalg.inv(moving.affine) @ fixed.affine
    middle = to_moving @ np.array([*((n - 1) / 2 for n in fixed.array.shape), 1.0])
    return bool((middle[:3] >= 0).all() and (middle[:3] <= np.array(moving.array.shape) - 1).all())


def _image(volume: Volume) -> Any:
    """A volume as SimpleITK has it."""
    import SimpleITK

    itk: Any = SimpleITK

    if shear_degrees(volume.affine) > _SHEARED_DEGREES:
        raise InputError(f"{volume.path or 'volume'}: a sheared grid cannot be registered; resample it first")
    image = itk.GetImageFromArray(np.ascontiguousarray(volume.array.T, dtype=np.float32))
    axes = volume.affine[:3, :3] / volume.spacing_mm
    left, _, right = np.linalg.svd(axes)
    image.SetSpacing([float(mm) for mm in volume.spacing_mm])
    image.SetDirection((_TO_LPS @ left @ right).ravel().tolist())
    image.SetOrigin((_TO_LPS @ volume.affine[:3, 3]).tolist())
    return image


def _matrix(transform: Any) -> NDArray[np.float64]:
    """A SimpleITK transform, of LPS points, as a matrix of RAS points."""
    turn, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    out = np.eye(4)
    out[:3, :3] = _TO_LPS @ turn @ _TO_LPS
    out[:3, 3] = _TO_LPS @ (np.array(transform.GetTranslation()) + centre - turn @ centre)
    return out
