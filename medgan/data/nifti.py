"""NIfTI through nibabel: what a header promises is checked before voxels are read; what places them is written back."""

# mypy: allow-untyped-calls
# (nibabel has types, but most of its functions do not)

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medgan.config import InputError
from medgan.data import geometry
from medgan.data.geometry import Affine, Source, refusal

_FOREIGN_UNITS = {1: "metres", 3: "micrometres"}
_GRID_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)

_OFFSETS = {348: (108, "f"), 540: (168, "q")}  # size of the header: where it tells where the voxels begin, and how
_LONGEST_HEADER = 540
_LARGEST_OFFSET = 2**25


def load(path: Path) -> Any:
    """The NIfTI image of a file with its voxels on disk, once the declared size is known to be possible.

    Raises:
        InputError: not NIfTI, damaged, or larger than its file or this machine's memory.
    """
    _check_extensions(path)
    try:
        with _quiet():
            image: Any = nib.load(path)
    except Exception as error:  # nibabel raises whatever the garbage leads to
        raise _unreadable(path, error) from None
    if not isinstance(image, nib.Nifti1Image):
        raise refusal(path, f"holds a {type(image).__name__}, not a NIfTI volume", "export it as NIfTI")
    proxy = image.dataobj
    voxels = int(np.prod([int(n) for n in image.shape], dtype=object))
    declared = int(getattr(proxy, "offset", 0)) + voxels * image.get_data_dtype().itemsize
    geometry.check_size(path, declared, path.stat().st_size, packed=path.name.lower().endswith(".gz"))
    return image


def source(image: Any, place: Path) -> Source:
    """The checked header of a nibabel image of any format.

    Raises:
        InputError: it is no scalar 3D image or cannot be placed.
    """
    shape = tuple(int(n) for n in image.shape)
    stored = np.dtype(image.dataobj.dtype).newbyteorder("=")
    geometry.check_voxels(shape, stored, place)
    if image.affine is None:
        raise refusal(place, "has no affine", "give it one", "no_place")
    affine = np.array(image.affine, dtype=np.float64)
    geometry.check_affine(affine, place)
    header = image.header.copy() if isinstance(image.header, nib.Nifti1Header) else None
    if header is not None:
        _check_forms(header, affine, shape, place)
    is_scaled = (getattr(image.dataobj, "slope", 1), getattr(image.dataobj, "inter", 0)) != (1, 0)
    if is_scaled:
        dtype = np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)
    else:
        dtype = np.dtype(np.float64) if stored.itemsize > 8 else stored
    return Source(shape, affine, dtype, lambda: _array(image, dtype, place), header)


def image_like(data: npt.NDArray[Any], affine: Affine, header: nib.Nifti1Header | None) -> nib.Nifti1Image:
    """A NIfTI image of `data`, with the grid of `header` where it has the same affine, else by `affine` alone.

    Matrices, codes, units and the NIfTI version follow the header; descriptions and extensions, which may name the
    patient, do not. Without a header, the sform and, unless shear is beyond it, the qform hold the affine in scanner
    coordinates. The slope is 1.
    """
    if header is None or not np.allclose(header.get_best_affine(), affine):
        image = nib.Nifti1Image(data, affine)
        image.set_sform(affine, code=1)
        if geometry.shear_degrees(affine) < 0.01:
            image.set_qform(affine, code=1)
        image.header.set_xyzt_units("mm")
        return image
    new = type(header)()
    new.set_data_shape(data.shape)
    new.set_data_dtype(data.dtype)
    for field in _GRID_FIELDS:
        new[field] = header[field]
    return (nib.Nifti2Image if isinstance(new, nib.Nifti2Header) else nib.Nifti1Image)(data, affine, new)


def storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`array` in a type that every NIfTI reader knows: bool as uint8, float16 as float32, int64 as int32 where it fits.

    Raises:
        ValueError: integers beyond 32 bits.
    """
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


@contextmanager
def _quiet() -> Iterator[None]:
    """nibabel without lines of its own about what it mends in a header."""
    logger = nib.imageglobals.logger
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def _check_extensions(path: Path) -> None:
    """Refuse header extensions that are larger than the place before the voxels, or than any that makes sense: nibabel
    reads them whole, and a compressed file can hold a thousand times its size."""
    try:
        with nib.openers.Opener(str(path)) as file:
            reason = _extension_fault(file)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError):
        return  # nibabel says what is wrong with it
    if reason:
        raise refusal(path, reason, "export it again", "cut_short")


def _extension_fault(file: Any) -> str:
    """What is wrong with the header extensions of an open NIfTI file; empty where nothing is."""
    head = bytes(file.read(_LONGEST_HEADER + 4))
    for order, letter in (("little", "<"), ("big", ">")):
        size = int.from_bytes(head[:4], order)  # type: ignore[arg-type]
        if size in _OFFSETS and len(head) >= size + 4:
            place, kind = _OFFSETS[size]
            offset = struct.unpack_from(f"{letter}{kind}", head, place)[0]
            if offset > _LARGEST_OFFSET:
                return f"its voxels begin at byte {offset:.0f}"
            if head[size] and not _chain_fits(file, size + 4, offset, letter):
                return "damaged header extensions"
    return ""


def _chain_fits(file: Any, start: int, offset: float, letter: str) -> bool:
    """Whether header extensions, each with its size in front, end where the voxels begin at the latest."""
    while start + 16 <= offset:
        file.seek(start)
        raw = file.read(4)
        size = struct.unpack(f"{letter}i", raw)[0] if len(raw) == 4 else 0
        if not 8 <= size <= offset - start:
            return False
        start += size
    return bool(offset >= start)


def _unreadable(path: Path, error: Exception) -> InputError:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
    except OSError:
        return refusal(path, f"cannot be read ({type(error).__name__})", "check that you may read it")
    if packed and not path.name.lower().endswith(".gz"):
        return refusal(
            path, "gzip-compressed under the name of a plain file", "rename it to end in .nii.gz", "misnamed"
        )
    return refusal(path, "not a NIfTI file, or a damaged one", "copy or export it again")


def _check_forms(header: nib.Nifti1Header, affine: Affine, shape: tuple[int, ...], place: Path) -> None:
    """Refuse foreign units, and a qform and an sform that both claim to hold and place a voxel differently."""
    unit = _FOREIGN_UNITS.get(int(header["xyzt_units"]) & 7)
    if unit:
        raise refusal(place, f"voxel sizes in {unit}, not in mm", "convert it to mm", "units")
    if int(header["qform_code"]) <= 0 or int(header["sform_code"]) <= 0:
        return
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        raise refusal(
            place, "its qform is no rotation", "set the qform code to 0, or mend the qform", "qform"
        ) from None
    apart = geometry.largest_displacement_mm(affine, qform, shape)
    if not apart <= min(geometry.spacing_mm(affine)) / 2:
        raise refusal(
            place,
            f"qform and sform contradict each other, by up to {apart:.1f} mm",
            "find out which is right and set the code of the other to 0",
            "forms_contradict",
        )


def _array(image: Any, dtype: np.dtype[Any], place: Path) -> npt.NDArray[Any]:
    proxy = image.dataobj
    try:
        with np.errstate(all="ignore"):  # what a slope makes of the largest numbers is inf
            is_scaled = hasattr(proxy, "get_scaled") and dtype.kind == "f"
            array = proxy.get_scaled(dtype) if is_scaled else np.asanyarray(proxy)
    except (OSError, EOFError, ValueError, zlib.error):
        raise refusal(
            place, "its voxels cannot be read: cut short or damaged", "copy or export it again", "cut_short"
        ) from None
    return np.ascontiguousarray(array, dtype=dtype)
