"""Small volumes in every format that is read, and what damage, chance and malice make of their bytes."""

# mypy: allow-untyped-calls
# (nibabel and pydicom have types, but not for all of their functions)

from __future__ import annotations

import gzip
import random
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, RLELossless

Values = np.ndarray[tuple[int, ...], np.dtype[np.int16]]

SHAPE = (9, 8, 7)
_AFFINE = np.array([[-1.2, 0.1, 0, 10], [0.1, 1.2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]], dtype=np.float64)
_EDGES = (*(2**n for n in range(0, 64, 7)), *(2**n - 1 for n in (0, 7, 8, 15, 16, 31, 32, 63)))
_WORDS = tuple(
    b"0 -1 1 2 32767 65536 2147483647 4294967296 9223372036854775807 1e300 nan inf -0 0.0000001 x LIST %s%s%n "
    b"../../../etc/passwd /etc/passwd ".split(b" ")
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{3,}")


@dataclass(frozen=True)
class Seed:
    """A sound volume.

    Attributes:
        name: of the format, and of the file with its suffix; a folder for DICOM.
        files: name and bytes of each; a damaged copy changes the first.
        header: how many bytes at the start are header.
        is_text: whether the header is text.
    """

    name: str
    files: dict[str, bytes]
    header: int
    is_text: bool = False

    def write(self, folder: Path, content: bytes) -> Path:
        """The volume with `content` as its first file; the path that a reader is given."""
        root = folder / self.name
        root.mkdir(parents=True, exist_ok=True)
        for index, (name, whole) in enumerate(self.files.items()):
            (root / name).write_bytes(whole if index else content)
        return root if self.name.startswith("dicom") else root / next(iter(self.files))


def make_seeds(folder: Path) -> list[Seed]:
    """The sound volumes, of 9 x 8 x 7 voxels; `folder` is for files on their way."""
    values = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)
    seeds = [*_nifti_seeds(folder, values), *_itk_seeds(folder, values), *_dicom_seeds(folder, values)]
    for seed in seeds:
        assert all(seed.files.values()), seed.name
    return seeds


def _nifti_seeds(folder: Path, values: Values) -> list[Seed]:
    seeds = []
    for name, kind, suffix, order in (
        ("nifti1", nib.Nifti1Image, ".nii", "<"),
        ("nifti1_gz", nib.Nifti1Image, ".nii.gz", "<"),
        ("nifti1_big", nib.Nifti1Image, ".nii", ">"),
        ("nifti2", nib.Nifti2Image, ".nii", "<"),
    ):
        image = kind(values, _AFFINE, kind.header_class(endianness=order))
        image.set_sform(_AFFINE, 1)
        image.set_qform(_AFFINE, 1)
        if name == "nifti1_big":
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a comment"))
        path = folder / f"{name}{suffix}"
        nib.save(image, path)
        seeds.append(Seed(name, {path.name: path.read_bytes()}, 540 if kind is nib.Nifti2Image else 352))
    return seeds


def _itk_seeds(folder: Path, values: Values) -> list[Seed]:
    image = SimpleITK.GetImageFromArray(values.T)
    image.SetSpacing((1.2, 1.2, 3.0))
    image.SetOrigin((10, -20, 30))
    seeds = []
    for name, suffix, packed in (
        ("nrrd", ".nrrd", False),
        ("nrrd_gz", ".nrrd", True),
        ("nhdr", ".nhdr", False),
        ("mha", ".mha", False),
        ("mha_gz", ".mha", True),
        ("mhd", ".mhd", False),
    ):
        path = folder / f"{name}{suffix}"
        SimpleITK.WriteImage(image, str(path), packed)
        body = next((p for p in folder.glob(f"{name}.*raw")), None)
        files = {path.name: path.read_bytes()} | ({body.name: body.read_bytes()} if body else {})
        whole = files[path.name]
        end = max(whole.find(b"\n\n") + 2, whole.find(b"LOCAL\n") + 6) if body is None else len(whole)
        seeds.append(Seed(name, files, end, is_text=True))
    return seeds


def _dicom_seeds(folder: Path, values: Values) -> list[Seed]:
    kinds = {"dicom": None, "dicom_rle": RLELossless, "dicom_j2k": JPEG2000Lossless}
    seeds = []
    for name, syntax in kinds.items():
        files = {f"{z}.dcm": _dicom_slice(folder, values[:, :, z], z, syntax) for z in range(3)}
        seeds.append(Seed(name, files, files["0.dcm"].find(b"\xe0\x7f\x10\x00")))
    return seeds


def _dicom_slice(folder: Path, pixels: Values, z: int, syntax: UID | None) -> bytes:
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.1{z}")
    one.SeriesInstanceUID, one.StudyInstanceUID, one.Modality = "2.25.2", "2.25.3", "CT"
    one.PatientName, one.PatientID = "NOBODY", "0"
    one.ImagePositionPatient, one.ImageOrientationPatient = [10, -20, 3 * z], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness, one.InstanceNumber = [1.2, 1.2], 3, z + 1
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = *pixels.T.shape, 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.PixelData = pixels.T.astype("<i2").tobytes()
    one["PixelData"].VR = "OW"
    if syntax == RLELossless:
        one.compress(syntax, generate_instance_uid=False)
    elif syntax is not None:
        one.PixelData = encapsulate([_jpeg2000(folder, pixels)])
        one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True
        one.file_meta.TransferSyntaxUID = syntax
    path = folder / "slice.dcm"
    one.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def _jpeg2000(folder: Path, pixels: Values) -> bytes:
    """One frame as ITK compresses it."""
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetCompressor("JPEG2000")
    writer.SetUseCompression(True)
    path = folder / "packed.dcm"
    writer.SetFileName(str(path))
    writer.Execute(SimpleITK.GetImageFromArray(pixels.T))
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


def mutate(seed: Seed, draw: random.Random) -> tuple[bytes, str]:
    """One damaged copy of the seed's first file, and the names of what was done to it: one to four changes.

    Compressed files are damaged outside, or inside and packed again; headers that are text also word by word.
    """
    content = next(iter(seed.files.values()))
    unpack, pack, start = _packing(seed, content)
    inside = pack is not None and unpack is not None and draw.random() < 0.6
    if inside:
        assert unpack is not None
        content = unpack(content[start:])
    header = seed.header if start == 0 or not inside else 0
    done = []
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        table = TEXT_CHANGES if seed.is_text and not inside and draw.random() < 0.7 else CHANGES
        name = draw.choice(list(table))
        content = table[name](content, header, draw)
        done.append(name)
    if inside:
        assert pack is not None
        content = next(iter(seed.files.values()))[:start] + pack(content)
    return content, ("inside: " if inside else "") + ", ".join(done)


Change = Callable[[bytes, int, random.Random], bytes]


def _packing(
    seed: Seed, content: bytes
) -> tuple[Callable[[bytes], bytes] | None, Callable[[bytes], bytes] | None, int]:
    """How the part of a file that is compressed is unpacked and packed, and where it starts."""
    if seed.name == "nifti1_gz":
        return gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0), 0
    if seed.name == "nrrd_gz":
        return gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0), seed.header
    if seed.name == "mha_gz":
        return zlib.decompress, lambda data: zlib.compress(data, 1), seed.header
    return None, None, 0


def _place(content: bytes, header: int, draw: random.Random) -> int:
    """A position, most often in the header, where a byte decides much."""
    limit = min(header, len(content)) if header and draw.random() < 0.75 else len(content)
    return draw.randrange(max(limit, 1))


def _flip(content: bytes, header: int, draw: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[min(_place(content, header, draw), len(changed) - 1)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _noise(content: bytes, header: int, draw: random.Random) -> bytes:
    at, count = _place(content, header, draw), draw.choice((1, 2, 4, 16, 64))
    return content[:at] + draw.randbytes(count) + content[at + count :]


def _edge(content: bytes, header: int, draw: random.Random) -> bytes:
    """An integer that is at the end of some range, in either byte order, on an even place."""
    size, order = draw.choice((1, 2, 4, 8)), draw.choice("<>")
    at, value = _place(content, header, draw) // 2 * 2, draw.choice(_EDGES)
    word = struct.pack(f"{order}Q", value & (256**size - 1))
    return content[:at] + (word[:size] if order == "<" else word[8 - size :]) + content[at + size :]


def _float(content: bytes, header: int, draw: random.Random) -> bytes:
    at, value = (
        _place(content, header, draw) // 4 * 4,
        draw.choice((0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"))),
    )
    return content[:at] + struct.pack(draw.choice("<>") + "f", value) + content[at + 4 :]


def _cut(content: bytes, header: int, draw: random.Random) -> bytes:
    return content[: _place(content, header, draw)]


def _remove(content: bytes, header: int, draw: random.Random) -> bytes:
    at = _place(content, header, draw)
    return content[:at] + content[at + draw.choice((1, 2, 4, 32)) :]


def _insert(content: bytes, header: int, draw: random.Random) -> bytes:
    at = _place(content, header, draw)
    return content[:at] + draw.randbytes(draw.choice((1, 2, 4, 32))) + content[at:]


def _repeat(content: bytes, header: int, draw: random.Random) -> bytes:
    at, count = _place(content, header, draw), draw.choice((1, 8, 64, 256))
    return content[:at] + content[at : at + count] * draw.choice((2, 3, 40)) + content[at + count :]


def _zeros(content: bytes, header: int, draw: random.Random) -> bytes:
    at, count = _place(content, header, draw), draw.choice((4, 16, 128))
    return content[:at] + bytes(min(count, len(content) - at)) + content[at + count :]


def _number(content: bytes, header: int, draw: random.Random) -> bytes:
    return _replace(_NUMBER, content, header, draw)


def _word(content: bytes, header: int, draw: random.Random) -> bytes:
    return _replace(_WORD, content, header, draw)


def _replace(kind: re.Pattern[bytes], content: bytes, header: int, draw: random.Random) -> bytes:
    found = list(kind.finditer(content[:header]))
    if not found:
        return content
    one = draw.choice(found)
    words = (*_WORDS, draw.choice(found)[0], str(draw.randrange(2**40)).encode())
    return content[: one.start()] + draw.choice(words) + content[one.end() :]


def _line(content: bytes, header: int, draw: random.Random) -> bytes:
    """A line of the header gone, twice there, or in another place."""
    lines = content[:header].split(b"\n")
    at = draw.randrange(len(lines))
    line = lines.pop(at)
    for _ in range(draw.choice((0, 1, 2))):
        lines.insert(draw.randrange(len(lines) + 1), line)
    return b"\n".join(lines) + content[header:]


CHANGES: dict[str, Change] = {
    "flip": _flip, "noise": _noise, "edge": _edge, "float": _float, "cut": _cut, "remove": _remove,
    "insert": _insert, "repeat": _repeat, "zeros": _zeros,
}  # fmt: skip
TEXT_CHANGES: dict[str, Change] = {"number": _number, "word": _word, "line": _line}
