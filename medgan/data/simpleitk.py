"""Volumes as images of SimpleITK, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medgan.data import geometry
from medgan.data.geometry import LPS_TO_RAS, refusal
from medgan.data.volume import Volume


def is_sitk(image: object) -> bool:
    """Whether it is an image of SimpleITK; the package is not imported to find out."""
    return type(image).__module__.partition(".")[0] == "SimpleITK" and hasattr(image, "GetDirection")


def from_sitk(image: Any) -> Volume:
    """The volume in an image of SimpleITK.

    Raises:
        InputError: it is no scalar 3D image or cannot be placed.
    """
    import SimpleITK

    place = Path("SimpleITK image")
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        kind = f"{image.GetDimension()}D with {image.GetNumberOfComponentsPerPixel()} components"
        raise refusal(place, f"{kind}, not a scalar 3D image", "give one channel in 3D")
    array = np.array(SimpleITK.GetArrayViewFromImage(image).T, order="C")
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    affine = LPS_TO_RAS @ lps
    geometry.check_voxels(array.shape, array.dtype, place)
    geometry.check_affine(affine, place)
    return Volume(array, affine, None, tuple(array.shape), None)


def to_sitk(array: npt.NDArray[Any], like: Any) -> Any:
    """`array` (X, Y, Z) as an image of SimpleITK that lies where the image `like` does; its other data stay behind."""
    import SimpleITK

    image: Any = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(like.GetSpacing())
    image.SetOrigin(like.GetOrigin())
    image.SetDirection(like.GetDirection())
    return image
