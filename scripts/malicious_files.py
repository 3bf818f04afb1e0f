"""Files made to do harm, and what reads them: each must be refused in one line, before any harm is done.

python scripts/malicious_files.py          tries them all, for docs/results/reliability.md
"""

# mypy: allow-untyped-calls
# (nibabel and pydicom have types, but not for all of their functions)

from __future__ import annotations

import gzip
import resource
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import pydicom
import torch
from pydicom.uid import UID
from reliability_page import write_section

from medgan.checkpoint import read_checkpoint
from medgan.config import InputError
from medgan.data.cases import table_cases
from medgan.data.inside import unpack_zip
from medgan.data.volume import read_header, read_volume


class Harm:
    """What a pickle may hold: a call that is made while it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@dataclass(frozen=True)
class Attack:
    """One way to do harm.

    Attributes:
        name: of the attack, as the page has it.
        make: writes its files into a folder and gives the one to read; harm would be done to `folder.parent / "harm"`.
        read: what medgan reads it with.
        line: a part of the refusal.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    line: str


def _pickle(folder: Path) -> Path:
    torch.save({"recipe": Harm(folder.parent / "harm"), "domains": {}, "networks": {}}, folder / "best.pt")
    return folder / "best.pt"


def _bare_pickle(folder: Path) -> Path:
    import pickle

    (folder / "best.pt").write_bytes(pickle.dumps(Harm(folder.parent / "harm")))
    return folder / "best.pt"


def _table(subject: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "cases.csv").write_text(f"subject,domain,image\n{subject},ct,a.nii\n")
        return folder / "cases.csv"

    return make


def _zip(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr(name, "harm")
        return folder / "bundle.zip"

    return make


def _zip_link(folder: Path) -> Path:
    link = zipfile.ZipInfo("out")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        archive.writestr(link, "..")
        archive.writestr("out/harm", "harm")
    return folder / "bundle.zip"


def _zip_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.nii", bytes(1000))
    path = folder / "bundle.zip"
    path.write_bytes(path.read_bytes().replace((1000).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    return path


def _detached(suffix: str, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder.parent / "secret.raw").write_bytes(bytes(8))
        nrrd = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nDATA FILE: {name}\n\n"
        meta = f"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n"
        (folder / f"x{suffix}").write_text(nrrd if suffix == ".nhdr" else meta)
        return folder / f"x{suffix}"

    return make


def nifti_header(shape: tuple[int, int, int], offset: int = 352) -> bytes:
    """The 348 bytes of a NIfTI header."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return bytes(header.binaryblock)


def _nifti_bomb(folder: Path) -> Path:
    (folder / "x.nii").write_bytes(nifti_header((32767, 32767, 32767)) + bytes(4))
    return folder / "x.nii"


def _nifti_gzip_bomb(folder: Path) -> Path:
    """50 KiB that unpack to 50 MiB, and say that a header extension of 1 GiB is in them."""
    extension = b"\1\0\0\0" + (2**30).to_bytes(4, "little") + (6).to_bytes(4, "little")
    body = nifti_header((4, 4, 4), 2**24) + extension + bytes(50 * 2**20)
    (folder / "x.nii.gz").write_bytes(gzip.compress(body, 1))
    return folder / "x.nii.gz"


def _nifti_far(folder: Path) -> Path:
    """Voxels that begin 2 GiB behind the header, in a file that unpacks to zeros."""
    body = nifti_header((4, 4, 4), 2**31) + bytes(50 * 2**20)
    (folder / "x.nii.gz").write_bytes(gzip.compress(body, 1))
    return folder / "x.nii.gz"


def _meta_bomb(folder: Path) -> Path:
    text = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nCompressedData = True\n"
    text += f"CompressedDataSize = {2**40}\nElementDataFile = LOCAL\n"
    (folder / "x.mha").write_bytes(text.encode() + zlib.compress(bytes(8)))
    return folder / "x.mha"


def _nrrd_bomb(folder: Path) -> Path:
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nencoding: gzip\nendian: little\n\n"
    (folder / "x.nrrd").write_bytes(text.encode() + gzip.compress(bytes(8)))
    return folder / "x.nrrd"


def _dicom(syntax: UID, pixels: bytes) -> pydicom.Dataset:
    """A CT image of nothing but its pixels."""
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = pydicom.uid.CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = UID("2.25.1")
    one.PixelData = pixels
    one["PixelData"].VR = "OW"
    return one


def _deflated_dicom(folder: Path) -> Path:
    one = _dicom(pydicom.uid.DeflatedExplicitVRLittleEndian, bytes(2**22))
    one.save_as(folder / "0.dcm", enforce_file_format=True)
    return folder


def _wide_dicom(folder: Path) -> Path:
    """A slice of 65535 x 65535 pixels, 10 bytes of which are there."""
    one = _dicom(pydicom.uid.ExplicitVRLittleEndian, bytes(10))
    one.SeriesInstanceUID, one.Modality = "2.25.2", "CT"
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.Rows, one.Columns, one.SamplesPerPixel = [1, 1], 65535, 65535, 1
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.save_as(folder / "0.dcm", enforce_file_format=True)
    return folder


def _unpack(path: Path) -> None:
    unpack_zip(path, path.parent / "out")


ATTACKS = (
    Attack("checkpoint with a pickled call in it", _pickle, read_checkpoint, "holds code"),
    Attack("pickle under the name of a checkpoint", _bare_pickle, read_checkpoint, "not a checkpoint"),
    Attack("case table, subject ../../harm", _table("../../harm"), table_cases, "cannot name a folder"),
    Attack("case table, subject /tmp/harm", _table("/tmp/harm"), table_cases, "cannot name a folder"),
    Attack("case table, subject ..\\harm", _table("..\\harm"), table_cases, "cannot name a folder"),
    Attack("zip with ../harm", _zip("../harm"), _unpack, "not inside its folder"),
    Attack("zip with /tmp/harm", _zip("/tmp/harm"), _unpack, "not inside its folder"),
    Attack("zip with C:\\harm", _zip("C:\\harm"), _unpack, "not inside its folder"),
    Attack("zip with a link that leads out", _zip_link, _unpack, "holds a link"),
    Attack("zip that claims 2 GiB in 1000 bytes", _zip_bomb, _unpack, "claims more than can be packed"),
    Attack("NRRD whose voxels are ../secret.raw", _detached(".nhdr", "../secret.raw"), read_volume, "not inside"),
    Attack("NRRD whose voxels are /etc/passwd", _detached(".nhdr", "/etc/passwd"), read_volume, "not inside"),
    Attack("MetaImage whose voxels are ../secret.raw", _detached(".mhd", "../secret.raw"), read_volume, "not inside"),
    Attack("NIfTI of 352 bytes, 32767^3 voxels", _nifti_bomb, read_header, "declares 131060.0 GiB"),
    Attack("NIfTI.gz, header extension of 1 GiB", _nifti_gzip_bomb, read_volume, "header extensions"),
    Attack("NIfTI.gz, voxels 2 GiB behind the header", _nifti_far, read_volume, "voxels begin at byte"),
    Attack("MetaImage that asks for 1 TiB", _meta_bomb, read_header, "CompressedDataSize"),
    Attack("NRRD of 30000^3 voxels in 23 bytes", _nrrd_bomb, read_header, "declares 50291.4 GiB"),
    Attack("DICOM, deflated as a whole", _deflated_dicom, read_volume, "deflated as a whole"),
    Attack("DICOM slice of 65535 x 65535 in 10 bytes", _wide_dicom, read_volume, "declares"),
)


def try_attack(attack: Attack, folder: Path) -> str:
    """The line that refuses an attack, with its folder cut off.

    Raises:
        AssertionError: it was not refused, or harm was done.
    """
    place = folder / "given"
    place.mkdir()
    path = attack.make(place)
    before = set(folder.rglob("*"))
    try:
        attack.read(path)
    except InputError as error:
        line = str(error)
    else:
        raise AssertionError(f"{attack.name}: was read")
    made = {one for one in set(folder.rglob("*")) - before if one != place / "out"}
    assert not made, f"{attack.name}: made {made}"
    assert "\n" not in line, f"{attack.name}: {line}"
    assert attack.line in line, f"{attack.name}: {line}"
    return line.replace(f"{place}/", "").replace(str(place), "FOLDER")


def main() -> None:
    rows = []
    for attack in ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            line = try_attack(attack, Path(folder))
            rows.append([attack.name, f"`{line}`"])
            print(f"{time.perf_counter() - began:6.2f} s  {attack.name}: {line}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    write_section(
        "malicious_files",
        order=30,
        title="Malicious files",
        command="scripts/malicious_files.py",
        blocks=[
            f"{len(rows)} files made to do harm; each is refused in one line, nothing of theirs is run or written, and "
            "no memory is taken for what they claim. `tests/test_malicious.py` tries the same.",
            {"columns": ["file", "what medgan says"], "rows": rows},
            "Images and label maps of a case table may lie anywhere that the user may read: they are read only. Names "
            "that become folders or files of a run (patients) may hold no separator.",
        ],
        numbers={"attacks": len(rows), "peak_mib": round(peak)},
        packages=("medgan", "torch", "nibabel", "simpleitk", "pydicom"),
    )


if __name__ == "__main__":
    main()
