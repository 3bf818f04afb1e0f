"""Volumes on disk and in memory: voxels, and the affine that places them in the patient in RAS millimetres.

NIfTI goes through nibabel, NRRD and MetaImage through SimpleITK, DICOM series through pydicom. What cannot be placed is
refused with the reason and the way out, never guessed; what is written lies exactly where the volume that it came from
lies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medgan.data import geometry, itk, nifti, series
from medgan.data.geometry import LPS_TO_RAS, Affine, Source, refusal

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

_NIFTI_SUFFIXES = (".nii.gz", ".nii")
IMAGE_SUFFIXES: tuple[str, ...] = (*_NIFTI_SUFFIXES, *itk.SUFFIXES)
"""The files that `read_volume` takes beside folders, in lower case."""


@dataclass(frozen=True)
class Volume:
    """A scalar 3D image.

    Attributes:
        array: (X, Y, Z) values as stored, after slope and intercept; a single slice has Z = 1.
        affine: (4, 4) float64, voxel to RAS mm.
        header: the NIfTI header as read, to write the same grid back; None for other sources.
        disk_shape: the shape as stored, with the trailing axes of length 1 that `array` lacks.
        path: where it was read.
    """

    array: npt.NDArray[Any]
    affine: Affine
    header: nib.Nifti1Header | None
    disk_shape: tuple[int, ...]
    path: Path | None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis of the array."""
        return geometry.spacing_mm(self.affine)


@dataclass(frozen=True)
class VolumeHeader:
    """What is known of a volume before its voxels are read.

    Attributes:
        shape: (X, Y, Z).
        affine: (4, 4) float64, voxel to RAS mm.
        dtype: type of the values that `read_volume` gives.
        path: the file or the DICOM folder.
        header: the NIfTI header as read; None for other sources.
        disk_shape: the shape as stored.
    """

    shape: tuple[int, int, int]
    affine: Affine
    dtype: np.dtype[Any]
    path: Path
    header: nib.Nifti1Header | None
    disk_shape: tuple[int, ...]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis of the array."""
        return geometry.spacing_mm(self.affine)


def read_volume(path: Path | str, *, dtype: npt.DTypeLike | None = None) -> Volume:
    """The volume in a file (`IMAGE_SUFFIXES`) or in a folder that holds one DICOM series.

    NaN and infinity are kept. With `dtype` the values are converted; an integer type takes whole numbers that fit only.

    Raises:
        InputError: it cannot be read, is no scalar 3D image, cannot be placed, or declares more voxels than there are.
    """
    path = Path(path)
    return _volume(_open(path), path, dtype)


def read_header(path: Path | str) -> VolumeHeader:
    """The header of a volume, with the checks of `read_volume`, its voxels left on disk.

    Raises:
        InputError: it is no scalar 3D image, cannot be placed, or declares more voxels than there are.
    """
    path = Path(path)
    source = _open(path)
    shape = geometry.three(source.shape)
    return VolumeHeader(shape, source.affine, source.dtype, path, source.header, source.shape)


def from_nibabel(image: nib.spatialimages.SpatialImage) -> Volume:
    """The volume in a nibabel image of any format.

    Raises:
        InputError: it is no scalar 3D image or cannot be placed.
    """
    name = image.get_filename()
    place = Path(name) if name else None
    return _volume(nifti.source(image, place or Path("nibabel image")), place, None)


def to_nibabel(array: npt.NDArray[Any], like: Volume) -> nib.Nifti1Image:
    """`array` (X, Y, Z) as a NIfTI image on the grid of `like`.

    Shape with trailing axes, affine, matrices and codes of sform and qform and units are those of `like`; descriptions
    and extensions, which may name the patient, are left behind. Values are stored as they are, with slope 1; bool
    becomes uint8, float16 float32, and int64 int32 where it fits.

    Raises:
        ValueError: `array` has another shape than `like`, or integers beyond 32 bits.
    """
    if array.shape != like.array.shape:
        raise ValueError(f"array of shape {array.shape} does not fit the grid {like.array.shape}")
    return nifti.image_like(nifti.storable(array).reshape(like.disk_shape), like.affine, like.header)


def from_metatensor(image: MetaTensor) -> Volume:
    """The volume in a MONAI tensor of shape (1, X, Y, Z) or (X, Y, Z).

    Raises:
        InputError: it has several channels or another shape, or its affine cannot place it.
    """
    place = Path("MetaTensor")
    array = image.as_tensor().detach().cpu().numpy()
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise refusal(place, f"shape {tuple(image.shape)} is not (1, X, Y, Z) or (X, Y, Z)", "give one channel")
    affine = np.array(image.affine.detach().cpu().numpy(), dtype=np.float64)
    if str(image.meta.get("space", "RAS")).endswith("LPS"):
        affine = LPS_TO_RAS @ affine
    geometry.check_voxels(array.shape, array.dtype, place)
    geometry.check_affine(affine, place)
    return Volume(array, affine, None, tuple(array.shape), None)


def to_metatensor(array: npt.NDArray[Any], like: Volume, *, channel: bool = True) -> MetaTensor:
    """`array` (X, Y, Z) as a MONAI tensor (1, X, Y, Z), or (X, Y, Z) without `channel`, with the affine of `like`."""
    import torch
    from monai.data.meta_tensor import MetaTensor

    tensor = torch.from_numpy(np.array(array, order="C"))
    return MetaTensor(tensor[None] if channel else tensor, affine=torch.from_numpy(like.affine.copy()))


def write_volume(path: Path | str, array: npt.NDArray[Any], like: Volume) -> None:
    """Write `array` (X, Y, Z) as NIfTI on the grid of `like`, whole or not at all; see `to_nibabel`.

    Raises:
        InputError: the name does not end in .nii or .nii.gz, or the folder cannot be written.
        ValueError: `array` has another shape than `like`, or integers beyond 32 bits.
    """
    path = Path(path)
    suffix = next((end for end in _NIFTI_SUFFIXES if path.name.lower().endswith(end)), None)
    if suffix is None:
        raise refusal(path, "volumes are written as NIfTI", "end the name in .nii.gz")
    image = to_nibabel(array, like)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            nib.save(image, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(path, f"cannot be written ({type(error).__name__})", "check the folder and its space") from None


def _open(path: Path) -> Source:
    if not path.exists():
        raise refusal(path, "no such file or folder", "check the path", "missing")
    if path.is_dir():
        return series.series_source(path)
    name = path.name.lower()
    if name.endswith(_NIFTI_SUFFIXES):
        return nifti.source(nifti.load(path), path)
    if name.endswith(itk.SUFFIXES):
        return itk.file_source(path)
    raise refusal(path, "not a kind of file that is read", f"convert it to one of {', '.join(IMAGE_SUFFIXES)}")


def _volume(source: Source, path: Path | None, dtype: npt.DTypeLike | None) -> Volume:
    array = source.read()
    if dtype is not None:
        array = _cast(array, np.dtype(dtype), path)
    return Volume(array.reshape(geometry.three(source.shape)), source.affine, source.header, source.shape, path)


def _cast(array: npt.NDArray[Any], dtype: np.dtype[Any], path: Path | None) -> npt.NDArray[Any]:
    if dtype.kind in "iu" and not np.can_cast(array.dtype, dtype):
        limits = np.iinfo(dtype)
        is_whole = bool(np.isfinite(array).all()) and bool((array == np.trunc(array)).all())
        if not (is_whole and limits.min <= array.min() and array.max() <= limits.max):
            place = path or Path("image")
            raise refusal(
                place, f"its values are not whole numbers that fit {dtype}", "give a map of integer labels", "not_whole"
            )
    return array.astype(dtype, copy=False)
