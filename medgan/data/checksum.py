"""Whether compressed voxels are those that were packed: readers stop at the last voxel, before the checksum."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from medgan.data.detached import Body, find_body

_BLOCK = 2**20


def is_damaged(path: Path, declared: int) -> bool:
    """Whether what a compressed file unpacks to does not match its checksum, or ends early.

    Args:
        path: NIfTI, NRRD or MetaImage; what is not compressed is never damaged.
        declared: bytes that the voxels take; what unpacks to much more is left alone.

    Raises:
        InputError: as `find_body`.
    """
    name = path.name.lower()
    body = find_body(path) if not name.endswith((".nii", ".nii.gz")) else Body(path, 0, "gzip")
    if name.endswith(".nii") or body.packing not in ("gzip", "zlib"):
        return False
    with body.path.open("rb") as file:
        file.seek(body.start)
        try:
            fails = _gzip_fails if body.packing == "gzip" else _zlib_fails
            return fails(file, declared + _BLOCK)
        except (OSError, EOFError, zlib.error):
            return True


def _gzip_fails(file: io.BufferedReader, most: int) -> bool:
    with gzip.GzipFile(fileobj=file) as stream:
        while most > 0 and (block := stream.read(_BLOCK)):  # raises where the checksum differs
            most -= len(block)
    return False


def _zlib_fails(file: io.BufferedReader, most: int) -> bool:
    stream = zlib.decompressobj()
    while most > 0 and not stream.eof:
        packed = stream.unconsumed_tail or file.read(_BLOCK)
        if not packed:
            return True
        most -= len(stream.decompress(packed, _BLOCK))
    return False
