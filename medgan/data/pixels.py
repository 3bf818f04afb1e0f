"""Pixels of DICOM slices: plain ones by numpy, compressed ones by GDCM in a process of its own.

Decoders of compressed pixels crash, hang or take all memory on some damaged files. Here that ends a child, whose
processor time and memory are limited, and becomes a refusal.
"""

# mypy: allow-untyped-calls
# (pydicom has types, but not for all of its functions)

from __future__ import annotations

import atexit
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import data_element_generator
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medgan.config import InputError
from medgan.data.geometry import refusal

BIG_ENDIAN = ExplicitVRBigEndian
"""The transfer syntax whose bytes are the other way round."""

_SYNTAX = 0x00020010  # the tag of the transfer syntax
_SLICE_SECONDS = 4  # of processor time, for one slice
_SLICE_BYTES = 400 * 2**20  # of addresses, above what the process has when it starts
_AGAIN = "copy or export it again"
_leniency = threading.RLock()  # warnings and pydicom's checks are set for all threads: one at a time puts them back


@dataclass(frozen=True)
class Layout:
    """How the pixels of a slice are stored.

    Attributes:
        rows: of the slice.
        columns: of the slice.
        allocated: bits of a pixel in the file: 8, 16 or 32.
        stored: the lowest bits of these that hold its value.
        is_signed: whether the value is two's complement.
        is_packed: whether the pixels are compressed.
        is_big_endian: the order of the bytes.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    is_signed: bool
    is_packed: bool
    is_big_endian: bool

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest value that can be stored."""
        return (-(2 ** (self.stored - 1)), 2 ** (self.stored - 1) - 1) if self.is_signed else (0, 2**self.stored - 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, in the order of this machine."""
        return np.dtype(f"{'i' if self.is_signed else 'u'}{self.allocated // 8}")


def read_dataset(file: Path, tags: Sequence[str] | None = None) -> Dataset:
    """The elements of a DICOM file that `tags` name, or all of its header without the pixels.

    Raises:
        InputError: no DICOM file, a damaged one, or one that is deflated as a whole.
    """
    try:
        with _Bounded(file) as stream, lenient():
            has_preamble = _has_preamble(stream)
            if has_preamble and _is_deflated(stream):
                raise refusal(file, "DICOM that is deflated as a whole", "save it in another transfer syntax")
            stream.seek(0)
            is_header = tags is None or "PixelData" not in tags
            only = None if tags is None else list(tags)
            return dcmread(stream, stop_before_pixels=is_header, specific_tags=only, force=not has_preamble)
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise refusal(file, f"cannot be read ({type(error).__name__})", "check that you may read it") from None
    except Exception:  # pydicom raises whatever the garbage leads to
        raise refusal(file, "not a DICOM file, or a damaged one", _AGAIN) from None


def read_pixels(files: Sequence[Path], layouts: Sequence[Layout]) -> Iterator[npt.NDArray[Any]]:
    """The stored values of each slice, (columns, rows), in the order of the files.

    Raises:
        InputError: pixels that are missing, fewer than the header declares, or cannot be decoded within limits.
    """
    for file, layout in zip(files, layouts, strict=True):
        count = layout.rows * layout.columns * layout.allocated // 8
        data = _decoded(file, count) if layout.is_packed else _plain(file)
        if len(data) < count:
            raise refusal(file, f"{len(data)} bytes of pixels, its header declares {count}", _AGAIN, "cut_short")
        is_big = layout.is_big_endian and not layout.is_packed
        stored = layout.dtype.newbyteorder(">" if is_big else "<")
        values = np.frombuffer(data, stored, count // layout.dtype.itemsize)
        yield _masked(values.astype(layout.dtype), layout).reshape(layout.rows, layout.columns).T


@contextmanager
def lenient() -> Iterator[None]:
    """Headers of scanners as they are: values that are too long or of the wrong kind are many. One thread at a time."""
    with _leniency, warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield


class _Bounded(io.BufferedReader):
    """A file of which no more is asked for than it holds: a length in a header takes no memory by itself."""

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(file))
        self._end = file.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._end - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def _has_preamble(stream: BinaryIO) -> bool:
    head = stream.read(132)
    stream.seek(0)
    return head[128:] == b"DICM"


def _is_deflated(stream: BinaryIO) -> bool:
    """Whether all behind the first elements is compressed, which pydicom would inflate without asking for its size."""
    stream.seek(132)
    elements = data_element_generator(stream, False, True, stop_when=lambda tag, _, __: tag.group != 2)
    uids = [bytes(one.value or b"").strip(b"\0 ") for one in elements if one.tag == _SYNTAX]
    return DeflatedExplicitVRLittleEndian.encode() in uids


def _plain(file: Path) -> bytes:
    value = read_dataset(file, ["PixelData"]).get("PixelData")
    if not isinstance(value, bytes):
        raise refusal(file, "DICOM without pixels", _AGAIN, "cut_short")
    return value


def _masked(values: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """The lowest `stored` bits alone, with their sign: above them may lie an overlay."""
    unused = layout.allocated - layout.stored
    return values << unused >> unused if unused else values


class _Decoder:
    """A child that decodes compressed slices, one after the other."""

    def __init__(self) -> None:
        self.owner = os.getpid()  # a forked process must not write into its parent's child
        self._folder = tempfile.TemporaryDirectory(prefix="medgan-")  # gone with this process, whatever ends the child
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def close(self) -> None:
        if self.owner != os.getpid():
            return
        self._child.kill()
        self._child.communicate()
        self._folder.cleanup()

    def decode(self, file: Path, count: int) -> bytes | None:
        """`count` bytes of stored values, little-endian, rows first; None where the child has not come through."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(str(file.resolve())).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            return None
        answer = self._child.stdout.read(8)
        if answer == bytes(8):
            return b""
        data = self._child.stdout.read(count) if int.from_bytes(answer, "little") == count else b""
        return data if len(data) == count else None


_decoder: _Decoder | None = None
_lock = threading.Lock()


def _decoded(file: Path, count: int) -> bytes:
    """The stored values of a compressed slice, through the one child of this process, which is started where needed."""
    global _decoder
    with _lock:
        if _decoder is None or _decoder.owner != os.getpid():
            _decoder = _Decoder()
            atexit.register(_decoder.close)
        data = _decoder.decode(file, count)
        if data is None:
            atexit.unregister(_decoder.close)
            _decoder.close()
            _decoder = None
    if not data:
        raise refusal(file, "its compressed pixels cannot be decoded", _AGAIN, "cut_short")
    return data


def _serve(folder: Path) -> None:
    """The child: for each path on a line of stdin, the number of bytes and the stored values to stdout; 0 for none."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    clean = folder / "slice.dcm"
    for line in sys.stdin:
        _limit()
        try:
            if _write_clean(Path(json.loads(line)), clean) == RLELossless:  # GDCM is strict about its padding
                values = pixel_array(clean)
            else:
                values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(clean), imageIO="GDCMImageIO"))
            data = values.astype(values.dtype.newbyteorder("<")).tobytes()
        except Exception:  # the decoders raise whatever the garbage leads to
            data = b""
        sys.stdout.buffer.write(len(data).to_bytes(8, "little") + data)
        sys.stdout.buffer.flush()


def _limit() -> None:
    """So much more processor time and address space, from here on, where the system can limit them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + _SLICE_SECONDS
    pages = Path("/proc/self/statm")
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
    if pages.is_file():
        held = int(pages.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (held + _SLICE_BYTES, hard))


def _write_clean(file: Path, clean: Path) -> UID:
    """Write what is needed to decode the pixels, and nothing else of the file; the transfer syntax."""
    names = (
        *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
        *("PixelRepresentation", "PixelData"),
    )
    source, new = read_dataset(file, names), Dataset()
    with lenient():
        for name in names[:-1]:
            new[name] = source[name]
        frame = next(generate_frames(source.PixelData, number_of_frames=1))
        new.PixelData = encapsulate([frame])
        new["PixelData"].VR, new["PixelData"].is_undefined_length = "OB", True
        new.file_meta = FileMetaDataset()
        new.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
        new.SOPClassUID = new.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
        new.save_as(clean, enforce_file_format=True)
    return UID(new.file_meta.TransferSyntaxUID)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
