"""What SimpleITK reads for us: NRRD and MetaImage files.

Arrays leave this module as (X, Y, Z) and affines map voxels to RAS millimetres, whatever the order
in ITK (Z, Y, X; LPS).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medgan.data import geometry
from medgan.data.checksum import is_damaged
from medgan.data.detached import find_body
from medgan.data.geometry import LPS_TO_RAS, Source, refusal

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_AGAIN = "copy or export it again"
_lock = threading.Lock()
SUFFIXES = tuple(_IMAGE_IO)
"""The files that `file_source` takes, in lower case."""


def file_source(path: Path) -> Source:
    """The checked header of an NRRD or MetaImage file.

    Raises:
        InputError: ITK cannot read it, it is no scalar 3D image, cannot be placed, or is larger than its file.
    """
    sitk, image_io, body = _sitk(), _IMAGE_IO[path.suffix.lower()], find_body(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with _quiet(path):
        reader.ReadImageInformation()
    shape = tuple(int(n) for n in reader.GetSize())
    ndim, spatial = len(shape), min(len(shape), 3)
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    spacing[:spatial], origin[:spatial] = reader.GetSpacing()[:spatial], reader.GetOrigin()[:spatial]
    direction[:spatial, :spatial] = np.reshape(reader.GetDirection(), (ndim, ndim))[:spatial, :spatial]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    affine = LPS_TO_RAS @ affine
    dtype = _dtype(reader, path)
    geometry.check_voxels(shape, dtype, path)
    geometry.check_affine(affine, path)
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    geometry.check_size(path, declared, body.held, packed=body.packing != "none")

    def read() -> npt.NDArray[Any]:
        if body.packing == "zlib" and is_damaged(path, declared):  # ITK would take what it can unpack
            raise refusal(path, "its voxels cannot be unpacked, or not as they were packed", _AGAIN, "checksum")
        with _quiet(path):
            return _array(sitk.ReadImage(str(path), imageIO=image_io))

    return Source(shape, affine, dtype, read)


def _array(image: Any) -> npt.NDArray[Any]:
    return np.array(_sitk().GetArrayViewFromImage(image).T, order="C")


def _dtype(reader: Any, place: Path) -> np.dtype[Any]:
    """The numpy type of a reader's pixels, from ITK's words for it: "16-bit signed integer"."""
    words = str(_sitk().GetPixelIDValueAsString(reader.GetPixelIDValue()))
    bits, _, kind = words.partition("-bit ")
    letter = {"unsigned integer": "u", "signed integer": "i", "float": "f"}.get(kind)
    if letter is None or reader.GetNumberOfComponents() > 1:
        raise refusal(place, f"its voxels are not single numbers ({words})", "give a scalar image")
    return np.dtype(f"{letter}{int(bits) // 8}")


def _sitk() -> Any:
    """SimpleITK, loaded where it is first used."""
    import SimpleITK

    return SimpleITK


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """ITK without its own printing; what it cannot read becomes one line about `path`."""
    process = _sitk().ProcessObject
    is_shown = process.GetGlobalWarningDisplay()
    process.SetGlobalWarningDisplay(False)
    try:
        with _silent_stderr():
            yield
    except RuntimeError:
        raise refusal(
            path, "ITK cannot read it", "check that the file is whole and of the kind that its name says"
        ) from None
    finally:
        process.SetGlobalWarningDisplay(is_shown)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Without what MetaImage's reader prints past Python, for one thread at a time."""
    with _lock:
        try:
            kept = os.dup(2)
        except OSError:  # there is none
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)
