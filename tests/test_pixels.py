"""Pixels of DICOM slices, as they are stored."""

import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import IGNORE, settings
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from reader_mutations import make_seeds

from medgan.config import InputError
from medgan.data import pixels
from medgan.data.pixels import Layout, lenient, read_pixels
from medgan.data.volume import read_volume


def write(path: Path, stored: bytes, syntax=ExplicitVRLittleEndian) -> Path:
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    one.PixelData = stored
    one["PixelData"].VR = "OW"
    one.save_as(path, enforce_file_format=True)
    return path


def layout(**changes) -> Layout:
    plain = {"rows": 2, "columns": 3, "allocated": 16, "stored": 16, "is_signed": True}
    return Layout(**{**plain, "is_packed": False, "is_big_endian": False, **changes})


OVERLAID = np.array([[0xF001, 0x0FFF, 3], [4, 5, 6]], "<u2")  # twelve bits, with others above the first value
VALUES = np.array([[-1, 2, 3], [4, 5, -32768]], np.int16)  # rows, columns


@pytest.mark.parametrize(
    ("stored", "changes", "expected"),
    [
        (VALUES.astype("<i2"), {}, VALUES),
        (VALUES.astype("<i2").view("<u2"), {"is_signed": False}, VALUES.view(np.uint16)),
        (OVERLAID, {"stored": 12}, [[1, -1, 3], [4, 5, 6]]),
        (OVERLAID, {"stored": 12, "is_signed": False}, [[1, 4095, 3], [4, 5, 6]]),
        (np.array([[1, 255, 3], [4, 5, 6]], "u1"), {"allocated": 8, "stored": 8}, [[1, -1, 3], [4, 5, 6]]),
        (np.array([[1, -70000, 3], [4, 5, 6]], "<i4"), {"allocated": 32, "stored": 32}, [[1, -70000, 3], [4, 5, 6]]),
    ],
)  # fmt: skip
def test_stored_bits_are_the_values_they_stand_for(tmp_path, stored, changes, expected):
    file = write(tmp_path / "a.dcm", stored.tobytes())
    (values,) = read_pixels([file], [layout(**changes)])
    assert np.array_equal(values, np.array(expected).T)


def test_big_endian_pixels_are_turned(tmp_path):
    file = write(tmp_path / "a.dcm", VALUES.astype(">i2").tobytes(), ExplicitVRBigEndian)
    (values,) = read_pixels([file], [layout(is_big_endian=True)])
    assert np.array_equal(values, VALUES.T)


def test_fewer_pixels_than_declared_are_refused(tmp_path):
    file = write(tmp_path / "a.dcm", VALUES.tobytes()[:8])
    with pytest.raises(InputError, match="8 bytes of pixels, its header declares 12"):
        list(read_pixels([file], [layout()]))


def test_compressed_slices_have_the_values_of_plain_ones_and_a_damaged_one_is_refused(tmp_path):
    seeds = {seed.name: seed for seed in make_seeds(tmp_path)}
    plain = seeds["dicom"].write(tmp_path, seeds["dicom"].files["0.dcm"])
    for name in ("dicom_rle", "dicom_j2k"):
        content = seeds[name].files["0.dcm"]
        folder = seeds[name].write(tmp_path, content)
        assert np.array_equal(read_volume(folder).array, read_volume(plain).array)
        at = content.find(b"\xfe\xff\x00\xe0", seeds[name].header + 20)  # the one frame
        seeds[name].write(tmp_path, content[:at] + bytes(60) + content[at + 60 :])
        with pytest.raises(InputError, match=r"0\.dcm"):
            read_volume(folder)
    assert pixels._decoder is not None
    pixels._decoder._child.kill()
    pixels._decoder._child.wait()  # as when a decoder crashes: one file is refused, the next is read
    seeds["dicom_j2k"].write(tmp_path, seeds["dicom_j2k"].files["0.dcm"])
    with pytest.raises(InputError, match="its compressed pixels cannot be decoded"):
        read_volume(folder)
    assert np.array_equal(read_volume(folder).array, read_volume(plain).array)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="address space is limited where /proc tells it")
def test_the_decoder_has_no_memory_for_more_than_a_slice(tmp_path):
    program = "from medgan.data.pixels import _limit; _limit(); bytearray(600 * 2**20)"
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


def test_two_threads_that_are_lenient_leave_the_checks_and_warnings_as_they_were():
    def checks():
        return settings.reading_validation_mode, settings.writing_validation_mode, list(warnings.filters)

    def read():
        with lenient():
            inside.set()
            left.wait(30)
            seen.append(checks()[:2])

    before, seen = checks(), []
    inside, left = threading.Event(), threading.Event()
    other = threading.Thread(target=read)
    with lenient():
        other.start()
        assert not inside.wait(0.5), "two at once"
    left.set()
    other.join(30)
    assert seen == [(IGNORE, IGNORE)]
    assert checks() == before
