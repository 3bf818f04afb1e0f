"""Volumes on disk and in memory: voxels, and the affine that places them in the patient in RAS millimetres.

NIfTI goes through nibabel, NRRD, MetaImage and DICOM series through SimpleITK. What cannot be placed is refused with
the reason and the way out, never guessed; what is written lies exactly where the volume that it came from lies.
"""

from __future__ import annotations

import itertools
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medgan.config import InputError
from medgan.data import itk

if TYPE_CHECKING:
    from monai.data import MetaTensor

_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
IMAGE_SUFFIXES: tuple[str, ...] = (*_NIFTI_SUFFIXES, *_ITK_SUFFIXES)
"""What `read_volume` takes beside folders, in lower case."""

_DETACHED_SUFFIXES = (".nhdr", ".mhd")  # headers whose voxels lie in another file
_DEFLATE_LIMIT = 1032  # zlib packs no more than this many bytes into one
_SPATIAL_UNITS = {0: "unknown", 1: "metres", 2: "mm", 3: "micrometres"}


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
    affine: npt.NDArray[np.float64]
    header: nib.Nifti1Header | None
    disk_shape: tuple[int, ...]
    path: Path | None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis of the array."""
        return spacing_mm(self.affine)


@dataclass(frozen=True)
class VolumeHeader:
    """What is known of a volume before its voxels are read.

    Attributes:
        shape: (X, Y, Z).
        affine: (4, 4) float64, voxel to RAS mm.
        dtype: type of the values that `read_volume` gives.
        path: the file or the DICOM folder.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    dtype: np.dtype[Any]
    path: Path

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis of the array."""
        return spacing_mm(self.affine)


def spacing_mm(affine: npt.NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    """The lengths of the affine's three voxel axes."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def read_volume(path: Path | str, *, dtype: npt.DTypeLike | None = None) -> Volume:
    """The volume in a file (`IMAGE_SUFFIXES`) or in a folder that holds one DICOM series.

    NaN and infinity are kept. With `dtype` the values are converted; an integer type takes whole numbers that fit only.

    Raises:
        InputError: it cannot be read, is no scalar 3D image, cannot be placed, or declares more voxels than there are.
    """
    path = Path(path)
    if _is_nifti(path):
        image = _load_nifti(path)
        header, shape, affine = _nifti_header(image), _nifti_shape(image, path), _nifti_affine(image, path)
        array = _nifti_array(image, path, dtype)
    else:
        header = None
        source = itk.find_series(path) if path.is_dir() else None
        grid = source.grid if source else _itk_grid(path)
        shape, affine = grid.shape, _checked_grid(grid, path).affine
        array = _cast(source.read() if source else itk.read_file(path), dtype, path)
    return Volume(array.reshape(_three(shape)), affine, header, shape, path)


def read_header(path: Path | str) -> VolumeHeader:
    """The header of a volume, with the checks of `read_volume`, its voxels left on disk.

    Raises:
        InputError: it is no scalar 3D image, cannot be placed, or declares more voxels than there are.
    """
    path = Path(path)
    if _is_nifti(path):
        image = _load_nifti(path)
        stored = image.get_data_dtype().newbyteorder("=")
        scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
        dtype = np.dtype(np.float64) if (scaled and stored.kind in "iu") or stored.itemsize > 8 else stored
        return VolumeHeader(_three(_nifti_shape(image, path)), _nifti_affine(image, path), dtype, path)
    grid = _checked_grid(itk.find_series(path).grid if path.is_dir() else _itk_grid(path), path)
    return VolumeHeader(_three(grid.shape), grid.affine, grid.dtype, path)


def from_nibabel(image: nib.spatialimages.SpatialImage) -> Volume:
    """The volume in a nibabel image of any format.

    Raises:
        InputError: it is no scalar 3D image or cannot be placed.
    """
    name = image.get_filename()
    place = Path(name) if name else Path("nibabel image")
    shape, affine = _nifti_shape(image, place), _nifti_affine(image, place)
    array = _nifti_array(image, place, None)
    return Volume(array.reshape(_three(shape)), affine, _nifti_header(image), shape, place if name else None)


def to_nibabel(array: npt.NDArray[Any], like: Volume) -> nib.Nifti1Image:
    """`array` (X, Y, Z) as a NIfTI image on the grid of `like`.

    Shape with trailing axes, affine, matrices and codes of sform and qform and units are those of `like`; descriptions
    and extensions, which may name the patient, are left behind. Values are stored as they are, with slope 1; bool
    becomes uint8, float16 float32, and int64 int32 where it fits.
    """
    if array.shape != like.array.shape:
        raise ValueError(f"array of shape {array.shape} does not fit the grid {like.array.shape}")
    data = _storable(np.asarray(array)).reshape(like.disk_shape)
    if like.header is None or not np.allclose(like.header.get_best_affine(), like.affine):
        return _placed(data, like.affine)
    header = type(like.header)()
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    for field in (
        *("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
        *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
    ):
        header[field] = like.header[field]
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return image_class(data, None, header)


def from_metatensor(image: MetaTensor) -> Volume:
    """The volume in a MONAI tensor of shape (1, X, Y, Z) or (X, Y, Z).

    Raises:
        InputError: it has several channels or another shape, or its affine cannot place it.
    """
    array = image.detach().cpu().as_tensor().numpy()
    place = Path("MetaTensor")
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise _refusal(place, f"shape {tuple(image.shape)} is not (1, X, Y, Z) or (X, Y, Z)", "give one channel")
    affine = np.asarray(image.affine.detach().cpu().numpy(), dtype=np.float64)
    if str(image.meta.get("space", "RAS")).endswith("LPS"):
        affine = itk.LPS_TO_RAS @ affine
    _check_voxels(array.shape, array.dtype, place)
    return Volume(array, _checked_affine(affine, place), None, tuple(array.shape), None)


def to_metatensor(array: npt.NDArray[Any], like: Volume, *, channel: bool = True) -> MetaTensor:
    """`array` (X, Y, Z) as a MONAI tensor (1, X, Y, Z), or (X, Y, Z) without `channel`, with the affine of `like`."""
    import torch
    from monai.data import MetaTensor

    tensor = torch.from_numpy(np.array(array, order="C"))
    return MetaTensor(tensor[None] if channel else tensor, affine=torch.from_numpy(like.affine.copy()))


def write_volume(path: Path | str, array: npt.NDArray[Any], like: Volume) -> None:
    """Write `array` (X, Y, Z) as NIfTI on the grid of `like`, whole or not at all; see `to_nibabel`.

    Raises:
        InputError: the name does not end in .nii or .nii.gz, or the folder cannot be written.
    """
    path = Path(path)
    suffix = next((end for end in reversed(_NIFTI_SUFFIXES) if path.name.lower().endswith(end)), None)
    if suffix is None:
        raise _refusal(path, "volumes are written as NIfTI", "end the name in .nii.gz")
    image = to_nibabel(array, like)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, temporary)
        temporary.replace(path)
    except OSError as error:
        raise _refusal(path, f"cannot be written ({type(error).__name__})", "check the folder and its space") from None
    finally:
        temporary.unlink(missing_ok=True)


def _is_nifti(path: Path) -> bool:
    """Whether nibabel reads `path` (else SimpleITK); a path that nobody reads is refused."""
    if not path.exists():
        raise _refusal(path, "no such file or folder", "check the path")
    name = path.name.lower()
    if not path.is_dir() and not name.endswith(IMAGE_SUFFIXES):
        raise _refusal(path, "not a type of file that is read", f"convert it to one of {', '.join(IMAGE_SUFFIXES)}")
    return not path.is_dir() and name.endswith(_NIFTI_SUFFIXES)


def _load_nifti(path: Path) -> Any:
    """The NIfTI image of a file, voxels on disk, once its size is known to be plausible."""
    try:
        with nib.imageglobals.LoggingOutputSuppressor():
            image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, zlib.error) as error:
        raise _unreadable(path, error) from None
    except (OSError, EOFError, ValueError, OverflowError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(image, nib.Nifti1Image):
        raise _refusal(path, f"holds a {type(image).__name__}, not a NIfTI volume", "export it as NIfTI")
    shape = image.shape
    if not shape or min(shape) < 1:
        raise _refusal(path, f"its header declares the impossible shape {shape}", "export it again")
    stored = int(np.prod([int(n) for n in shape], dtype=object)) * image.get_data_dtype().itemsize
    _check_size(path, int(image.dataobj.offset) + stored, path.name.lower().endswith(".gz"))
    return image


def _unreadable(path: Path, error: Exception) -> InputError:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
    except OSError:
        return _refusal(path, f"cannot be read ({type(error).__name__})", "check that you may read it")
    if packed and not path.name.lower().endswith(".gz"):
        return _refusal(path, "gzip-compressed under the name of a plain file", "rename it to .nii.gz")
    return _refusal(path, "not a NIfTI file, or a damaged one", "export or copy it again")


def _check_size(path: Path, declared: int, packed: bool) -> None:
    """Refuse a header that declares more bytes than its file can hold, or than the memory of this machine."""
    held = path.stat().st_size * (_DEFLATE_LIMIT if packed else 1)
    if declared > held:
        raise _refusal(
            path,
            f"its header declares {_bytes(declared)}, its file can hold {_bytes(held)}: cut short or damaged",
            "export or copy it again",
        )
    _check_memory(path, declared)


def _check_memory(path: Path, declared: int) -> None:
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if declared > memory:
            raise _refusal(
                path,
                f"its header declares {_bytes(declared)}, this machine has {_bytes(memory)} of memory",
                "crop it, or use a larger machine",
            )


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count} bytes"


def _nifti_header(image: Any) -> nib.Nifti1Header | None:
    return image.header.copy() if isinstance(image.header, nib.Nifti1Header) else None


def _nifti_shape(image: Any, place: Path) -> tuple[int, ...]:
    shape = tuple(int(n) for n in image.shape)
    _check_voxels(shape, image.get_data_dtype(), place)
    return shape


def _nifti_affine(image: Any, place: Path) -> npt.NDArray[np.float64]:
    """The affine that nibabel chooses (sform before qform), once units and both forms are consistent."""
    header = _nifti_header(image)
    if image.affine is None:
        raise _refusal(place, "has no affine", "give it one")
    affine = _checked_affine(np.asarray(image.affine, dtype=np.float64), place)
    if header is None:
        return affine
    units = int(header["xyzt_units"]) & 7
    if units not in (0, 2):
        unit = _SPATIAL_UNITS.get(units, f"unit {units}")
        raise _refusal(place, f"voxel sizes in {unit}, not in mm", "convert it to mm")
    if int(header["qform_code"]) > 0 and int(header["sform_code"]) > 0:
        try:
            qform = np.asarray(header.get_qform(), dtype=np.float64)
        except (ValueError, nib.spatialimages.HeaderDataError):
            raise _refusal(place, "its qform is not a rotation", "set the qform code to 0 or mend the qform") from None
        apart = largest_displacement_mm(affine, qform, _three(image.shape))
        if not apart <= min(spacing_mm(affine)) / 2:
            raise _refusal(
                place,
                f"qform and sform place its voxels up to {apart:.1f} mm apart",
                "find out which is right and set the code of the other to 0",
            )
    return affine


def largest_displacement_mm(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> float:
    """How far apart two affines place the same voxel of a grid, at most: the maximum over the grid's corners."""
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in shape))])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def shear_degrees(affine: npt.NDArray[np.float64]) -> float:
    """How far the voxel axes are from a right angle to each other, at most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes - np.eye(3)).clip(0, 1)
    return float(np.degrees(np.arcsin(cosines.max())))


def _nifti_array(image: Any, place: Path, dtype: npt.DTypeLike | None) -> npt.NDArray[Any]:
    try:
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error):
        raise _refusal(place, "its voxels cannot be read: cut short or damaged", "export or copy it again") from None
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return _cast(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), dtype, place)


def _itk_grid(path: Path) -> itk.Grid:
    grid = itk.file_grid(path)
    if not grid.kind:
        declared = int(np.prod(grid.shape, dtype=object)) * grid.dtype.itemsize
        if path.suffix.lower() in _DETACHED_SUFFIXES:
            _check_memory(path, declared)
        else:
            _check_size(path, declared, True)
    return grid


def _checked_grid(grid: itk.Grid, place: Path) -> itk.Grid:
    if grid.kind:
        raise _refusal(place, f"its voxels are not single numbers ({grid.kind})", "give a scalar image")
    _check_voxels(grid.shape, grid.dtype, place)
    _checked_affine(grid.affine, place)
    return grid


def _check_voxels(shape: tuple[int, ...], dtype: np.dtype[Any], place: Path) -> None:
    """Refuse what is no scalar 3D image: trailing axes of length 1 are fine, an axis of time or channels is not."""
    if dtype.kind not in "iufb":
        kind = "RGB" if dtype.names else "complex" if dtype.kind == "c" else str(dtype)
        raise _refusal(place, f"its voxels are not single numbers ({kind})", "give a scalar image")
    if len(shape) > 3 and max(shape[3:]) > 1:
        raise _refusal(place, f"{len(shape)}D of shape {shape}, not 3D", "split it into one file per volume or channel")
    if len(shape) < 2 or min(shape) < 1:
        raise _refusal(place, f"its shape {shape} is not that of a volume", "give a 3D image")


def _checked_affine(affine: npt.NDArray[np.float64], place: Path) -> npt.NDArray[np.float64]:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise _refusal(place, "its affine is not 4 x 4 finite numbers", "export it again from its source")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise _refusal(
            place,
            "its affine is singular, so its voxels have no place in the patient",
            "export it again from its source",
        )
    return affine


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*shape[:3], 1)[:3]
    return int(x), int(y), int(z)


def _cast(array: npt.NDArray[Any], dtype: npt.DTypeLike | None, place: Path) -> npt.NDArray[Any]:
    if dtype is None or array.dtype == np.dtype(dtype):
        return array
    wanted = np.dtype(dtype)
    if wanted.kind in "iu" and not np.can_cast(array.dtype, wanted):
        limits = np.iinfo(wanted)
        whole = np.isfinite(array).all() and bool((array == np.trunc(array)).all())
        if not (whole and limits.min <= array.min() and array.max() <= limits.max):
            raise _refusal(place, f"its values are not whole numbers that fit {wanted}", "give a map of integer labels")
    return array.astype(wanted)


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`array` in a type that every NIfTI reader knows."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype in (np.int64, np.uint64):
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise ValueError("integers beyond 32 bits do not fit a NIfTI file that every reader knows")
        return array.astype(np.int32)
    return array


def _placed(data: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> nib.Nifti1Image:
    """A NIfTI image with no header to follow: sform, and qform too unless shear is beyond it; codes 1 (scanner), mm."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    if shear_degrees(affine) < 0.01:
        image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return image


def _refusal(place: Path, reason: str, way_out: str) -> InputError:
    return InputError(f"{place}: {reason}; {way_out}")
