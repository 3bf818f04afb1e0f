import gzip
import itertools
import os
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medgan.config import InputError
from medgan.data import geometry
from medgan.data.volume import (
    IMAGE_SUFFIXES,
    Volume,
    from_metatensor,
    from_nibabel,
    read_header,
    read_volume,
    to_metatensor,
    to_nibabel,
    write_volume,
)

DATA = Path(os.environ.get("MEDGAN_DATA", Path(__file__).parents[2] / "shared/data"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real cases are not here; set MEDGAN_DATA to their folder"
)

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, -0.3) @ np.diag([-1.5, 2, 3]), [10, -20, 30])
SHEARED = OBLIQUE @ np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
GRID_FIELDS = [
    *("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "pixdim", "xyzt_units"),
]


def numbers(*shape: int, dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def save(path: Path, array: np.ndarray, affine=OBLIQUE, *, sform=1, qform=1, kind=nib.Nifti1Image, **fields) -> Path:
    image = kind(array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def assert_same_grid(written: Path, read: Volume) -> None:
    image = nib.load(written)
    assert image.shape == read.disk_shape
    assert np.allclose(image.affine, read.affine, atol=1e-4)
    for name in GRID_FIELDS:
        assert np.array_equal(image.header[name], read.header[name]), name


def assert_refused(path: Path, *words: str) -> str:
    for read in (read_volume, read_header):
        with pytest.raises(InputError) as caught:
            read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}")
    assert "\n" not in line
    assert "; " in line
    for word in words:
        assert word in line
    return line


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("sform", "qform"), [(0, 0), (1, 0), (0, 1), (2, 1), (4, 3)])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5), (4, 5, 1)])
def test_what_is_written_has_the_shape_affine_and_codes_of_what_was_read(tmp_path, kind, sform, qform, shape):
    volume = read_volume(save(tmp_path / "in.nii.gz", numbers(*shape), kind=kind, sform=sform, qform=qform))
    assert volume.array.shape == (*shape[:3], 1)[:3]
    write_volume(tmp_path / "out.nii.gz", volume.array.astype(np.float32), volume)
    assert_same_grid(tmp_path / "out.nii.gz", volume)
    written = nib.load(tmp_path / "out.nii.gz")
    assert type(written) is kind
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (sform, qform)
    assert np.array_equal(np.asarray(written.dataobj).ravel(), numbers(*shape).ravel())


def test_big_endian_values_come_in_the_order_of_this_machine(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(numbers(3, 4, 5).astype(">i2"), OBLIQUE, header)
    image.header.set_data_dtype(">i2")
    nib.save(image, tmp_path / "big.nii")
    volume = read_volume(tmp_path / "big.nii")
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array, numbers(3, 4, 5))
    write_volume(tmp_path / "out.nii.gz", volume.array, volume)
    assert_same_grid(tmp_path / "out.nii.gz", volume)


def test_slope_and_intercept_are_applied_on_reading_and_gone_on_writing(tmp_path):
    image = nib.Nifti1Image(np.array([[[0, 1, 2, 100]]], dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "scaled.nii")
    raw = bytearray((tmp_path / "scaled.nii").read_bytes())
    raw[112:120] = struct.pack("<ff", 0.5, -10)  # nibabel chooses its own slope: set ours, and whole numbers below it
    raw[352:360] = struct.pack("<4h", 0, 1, 2, 100)
    (tmp_path / "scaled.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "scaled.nii")
    assert volume.array.tolist() == [[[-10, -9.5, -9, 40]]]
    assert read_header(tmp_path / "scaled.nii").dtype == volume.array.dtype == np.float32
    write_volume(tmp_path / "out.nii.gz", volume.array, volume)
    written = nib.load(tmp_path / "out.nii.gz")
    assert np.asarray(written.dataobj).tolist() == [[[-10, -9.5, -9, 40]]]
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)


@pytest.mark.parametrize(
    ("given", "stored"),
    [(np.bool_, np.uint8), (np.float16, np.float32), (np.int64, np.int32), (np.int16, np.int16), (np.uint8, np.uint8)],
)
def test_values_are_written_in_a_type_that_every_reader_knows(tmp_path, given, stored):
    like = read_volume(save(tmp_path / "in.nii", numbers(2, 3, 4)))
    write_volume(tmp_path / "out.nii.gz", np.ones((2, 3, 4), given), like)
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.get_data_dtype() == stored
    assert (np.asarray(written.dataobj) == 1).all()


def test_integers_beyond_32_bits_and_another_shape_are_a_bug(tmp_path):
    like = read_volume(save(tmp_path / "in.nii", numbers(2, 3, 4)))
    with pytest.raises(ValueError, match="beyond 32 bits"):
        write_volume(tmp_path / "out.nii.gz", np.full((2, 3, 4), 2**40), like)
    with pytest.raises(ValueError, match="does not fit the grid"):
        write_volume(tmp_path / "out.nii.gz", numbers(4, 3, 2), like)


def test_what_may_name_the_patient_is_not_written(tmp_path):
    image = nib.Nifti1Image(numbers(2, 3, 4), np.eye(4))
    for field in ("descrip", "aux_file", "db_name"):
        image.header[field] = b"Doe^Jane"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane"))
    nib.save(image, tmp_path / "in.nii")
    assert b"Doe^Jane" in (tmp_path / "in.nii").read_bytes()
    volume = read_volume(tmp_path / "in.nii")
    write_volume(tmp_path / "out.nii", volume.array, volume)
    assert b"Doe" not in (tmp_path / "out.nii").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    like = read_volume(save(tmp_path / "in.nii", numbers(2, 3, 4)))
    target = tmp_path / "out" / "x.nii.gz"
    write_volume(target, like.array, like)
    before = target.read_bytes()

    def full(image, path):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(target, like.array + 1, like)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_only_nifti_is_written(tmp_path):
    like = read_volume(save(tmp_path / "in.nii", numbers(2, 3, 4)))
    with pytest.raises(InputError, match=r"end the name in \.nii\.gz"):
        write_volume(tmp_path / "out.nrrd", like.array, like)


def test_spacing_is_the_length_of_the_axes(tmp_path):
    assert np.allclose(read_volume(save(tmp_path / "in.nii", numbers(2, 3, 4))).spacing_mm, (1.5, 2, 3))
    assert np.allclose(read_header(tmp_path / "in.nii").spacing_mm, (1.5, 2, 3))


@pytest.mark.parametrize("source", [save, None])
def test_a_sheared_affine_is_read_and_written_back(tmp_path, source):
    if source:
        volume = read_volume(save(tmp_path / "in.nii", numbers(2, 3, 4), SHEARED, qform=0))
    else:
        volume = Volume(numbers(2, 3, 4), SHEARED, None, (2, 3, 4), None)
    assert np.allclose(volume.affine, SHEARED, atol=1e-4)
    assert geometry.shear_degrees(volume.affine) == pytest.approx(np.degrees(np.arctan2(0.5 * 1.5, 2)), abs=1e-3)
    write_volume(tmp_path / "out.nii", volume.array, volume)
    written = nib.load(tmp_path / "out.nii")
    assert np.allclose(written.affine, SHEARED, atol=1e-4)
    assert written.header["qform_code"] == 0


def test_nan_is_kept_and_types_are_converted_on_demand(tmp_path):
    values = np.array([[[0.0, np.nan, np.inf, 3.0]]], dtype=np.float32)
    path = save(tmp_path / "nan.nii", values)
    assert np.array_equal(read_volume(path).array, values, equal_nan=True)
    assert read_volume(path, dtype=np.float64).array.dtype == np.float64
    whole = save(tmp_path / "whole.nii", np.array([[[0.0, 3.0]]], dtype=np.float32))
    assert read_volume(whole, dtype=np.int16).array.tolist() == [[[0, 3]]]


@pytest.mark.parametrize("values", [[0.5, 1], [np.nan, 1], [70000, 1], [-1e9, 1]])
def test_labels_that_are_not_whole_numbers_are_refused(tmp_path, values):
    path = save(tmp_path / "label.nii", np.array([[values]], dtype=np.float32))
    with pytest.raises(InputError, match="not whole numbers that fit int16"):
        read_volume(path, dtype=np.int16)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_more_than_its_file_is_refused_before_memory_is_taken(tmp_path, suffix):
    header = nib.Nifti1Header()
    header.set_data_shape((32767, 32767, 32767))
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    raw = header.binaryblock + bytes(4)
    assert len(raw) == 352
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
    assert_refused(path, "declares 131060.0 GiB", "cut short or damaged")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nhdr", ".mhd"])
def test_bombs_of_other_formats_are_refused_too(tmp_path, suffix):
    image = SimpleITK.Image([2, 2, 2], SimpleITK.sitkInt16)
    path = tmp_path / f"bomb{suffix}"
    SimpleITK.WriteImage(image, str(path))
    path.write_bytes(path.read_bytes().replace(b"sizes: 2 2 2", b"sizes: 30000 30000 30000").replace(
        b"DimSize = 2 2 2", b"DimSize = 30000 30000 30000"))  # fmt: skip
    assert_refused(path, "declares 50291.4 GiB")


def test_a_volume_larger_than_the_memory_is_refused():
    with pytest.raises(InputError, match="of memory; crop it"):
        geometry.check_size(Path("x.nii"), 2**60, 2**61, packed=False)
    geometry.check_size(Path("x.nii"), 2**10, 2**10, packed=False)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_cut_short_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 9999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / f"cut{suffix}", noise)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="cut short or damaged"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("x.nii", b"not an image" * 100, "not a NIfTI file"),
        ("x.nii", b"", "not a NIfTI file"),
        ("x.nii.gz", b"not gzip", "not a NIfTI file"),
        ("x.nii", gzip.compress(bytes(400)), "rename it to end in .nii.gz"),
        ("x.nrrd", b"NRRD0004\nnonsense\n", "ITK cannot read it"),
        ("x.mha", b"", "not a MetaImage file"),
        ("x.txt", b"", "convert it to one of .nii.gz, .nii"),
    ],
)
def test_garbage_is_refused(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, word)


def test_a_damaged_metaimage_prints_nothing_beside_its_refusal(tmp_path, capfd):
    path = tmp_path / "x.mha"
    SimpleITK.WriteImage(SimpleITK.Image([4, 4, 4], SimpleITK.sitkInt16), str(path))
    content = path.read_bytes().replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1")
    path.write_bytes(content.replace(b"NDims = 3\n", b"").replace(b"DimSize", b"NDims = 3\nDimSize"))
    assert content != path.read_bytes()
    with pytest.raises(InputError, match="ITK cannot read it"):
        read_volume(path)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_refused(tmp_path):
    assert_refused(tmp_path / "none.nii", "no such file")


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (numbers(2, 3, 4, 2), "4D of shape (2, 3, 4, 2)"),
        (numbers(2, 3, 4, 1, 3), "5D"),
        (np.zeros((2, 3, 4), np.complex64), "complex"),
        (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "RGB"),
    ],
)
def test_what_is_no_scalar_volume_is_refused(tmp_path, array, word):
    assert_refused(save(tmp_path / "x.nii", array), word)
    with pytest.raises(InputError, match="nibabel image: "):
        from_nibabel(nib.Nifti1Image(array, np.eye(4)))


@pytest.mark.parametrize("affine", [np.diag([1, 1, 0, 1]), np.full((4, 4), np.nan), np.ones((4, 4))])
def test_an_affine_that_places_nothing_is_refused(tmp_path, affine):
    image = nib.Nifti1Image(numbers(2, 3, 4), np.eye(4))
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    image.header["sform_code"] = 1
    nib.save(image, tmp_path / "x.nii")
    raw = bytearray((tmp_path / "x.nii").read_bytes())
    raw[280:328] = np.asarray(affine[:3], dtype="<f4").tobytes()
    raw[254:256] = struct.pack("<h", 1)
    (tmp_path / "x.nii").write_bytes(raw)
    assert_refused(tmp_path / "x.nii", "affine")


def shifted(distance: float) -> np.ndarray:
    affine = OBLIQUE.copy()
    affine[0, 3] += distance
    return affine


def test_qform_and_sform_that_contradict_each_other_are_refused(tmp_path):
    image = nib.Nifti1Image(numbers(2, 3, 4), OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(shifted(1), 1)
    nib.save(image, tmp_path / "x.nii")
    assert_refused(
        tmp_path / "x.nii", "qform and sform contradict each other, by up to 1.0 mm", "code of the other to 0"
    )


@pytest.mark.parametrize(("distance", "qform"), [(2e-4, 1), (0.7, 1), (100, 0)])
def test_small_differences_of_the_forms_and_a_form_without_a_code_are_fine(tmp_path, distance, qform):
    image = nib.Nifti1Image(numbers(2, 3, 4), OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(shifted(distance), qform)
    nib.save(image, tmp_path / "x.nii")
    assert np.allclose(read_volume(tmp_path / "x.nii").affine, OBLIQUE, atol=1e-4)


def test_forms_that_agree_at_the_origin_but_turn_apart_are_refused(tmp_path):
    turned = OBLIQUE @ nib.affines.from_matvec(nib.eulerangles.euler2mat(0.05))
    image = nib.Nifti1Image(np.zeros((64, 64, 2), np.uint8), OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(turned, 1)
    nib.save(image, tmp_path / "x.nii")
    assert_refused(tmp_path / "x.nii", "contradict")


@pytest.mark.parametrize(("units", "word"), [("meter", "metres"), ("micron", "micrometres")])
def test_voxel_sizes_that_are_not_in_mm_are_refused(tmp_path, units, word):
    image = nib.Nifti1Image(numbers(2, 3, 4), OBLIQUE)
    image.header.set_xyzt_units(units)
    nib.save(image, tmp_path / "x.nii")
    assert_refused(tmp_path / "x.nii", word)


def test_a_nibabel_image_goes_in_and_comes_out(tmp_path):
    image = nib.Nifti1Image(numbers(2, 3, 4, 1), OBLIQUE)
    volume = from_nibabel(image)
    back = to_nibabel(volume.array * 2, volume)
    assert back.shape == image.shape
    assert np.array_equal(back.affine, image.affine)
    assert np.array_equal(np.asarray(back.dataobj), numbers(2, 3, 4, 1) * 2)
    assert from_nibabel(nib.load(save(tmp_path / "in.nii", numbers(2, 3, 4)))).path == tmp_path / "in.nii"
    assert from_nibabel(nib.MGHImage(numbers(2, 3, 4, dtype=np.int32), OBLIQUE)).header is None


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if not suffix.startswith(".nii")])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_itk_formats_lie_where_nifti_lies(tmp_path, suffix, dtype):
    array = numbers(3, 4, 5, dtype=dtype)
    image = SimpleITK.GetImageFromArray(array.T)
    turn = nib.eulerangles.euler2mat(0.2, 0.1, -0.3)
    image.SetDirection(turn.ravel())
    image.SetSpacing((1.5, 2, 3))
    image.SetOrigin((10, -20, 30))
    SimpleITK.WriteImage(image, str(tmp_path / f"x{suffix}"))
    SimpleITK.WriteImage(image, str(tmp_path / "x.nii"))
    volume, nifti = read_volume(tmp_path / f"x{suffix}"), read_volume(tmp_path / "x.nii")
    assert volume.array.dtype == read_header(tmp_path / f"x{suffix}").dtype == dtype
    assert np.array_equal(volume.array, array)
    assert np.array_equal(nifti.array, array)
    assert np.allclose(volume.affine, nifti.affine, atol=1e-5)
    assert np.allclose(volume.affine[:3, 3], (-10, 20, 30))  # LPS to RAS
    write_volume(tmp_path / "out.nii.gz", volume.array, volume)
    written = nib.load(tmp_path / "out.nii.gz")
    assert np.allclose(written.affine, volume.affine, atol=1e-5)
    assert np.allclose(written.get_qform(), volume.affine, atol=1e-4)
    assert written.header.get_xyzt_units()[0] == "mm"


def test_channels_and_time_in_itk_formats_are_refused(tmp_path):
    SimpleITK.WriteImage(SimpleITK.Image([2, 2, 2], SimpleITK.sitkVectorUInt8, 3), str(tmp_path / "rgb.nrrd"))
    assert_refused(tmp_path / "rgb.nrrd", "not single numbers")
    SimpleITK.WriteImage(SimpleITK.Image([2, 2, 2, 3], SimpleITK.sitkInt16), str(tmp_path / "time.nrrd"))
    assert_refused(tmp_path / "time.nrrd", "4D")


def test_a_metatensor_goes_in_and_comes_out():
    import torch
    from monai.data import MetaTensor

    tensor = MetaTensor(torch.arange(24.0).reshape(1, 2, 3, 4), affine=torch.from_numpy(OBLIQUE))
    volume = from_metatensor(tensor)
    assert np.array_equal(volume.array, numbers(2, 3, 4))
    assert np.allclose(volume.affine, OBLIQUE)
    back = to_metatensor(volume.array, volume)
    assert isinstance(back, MetaTensor)
    assert torch.equal(back.as_tensor(), tensor.as_tensor())
    assert torch.allclose(back.affine, tensor.affine)
    assert to_metatensor(volume.array, volume, channel=False).shape == (2, 3, 4)
    assert from_metatensor(tensor[0]).array.shape == (2, 3, 4)
    tensor.meta["space"] = "LPS"
    assert np.allclose(from_metatensor(tensor).affine, np.diag([-1, -1, 1, 1]) @ OBLIQUE)
    with pytest.raises(InputError, match="give one channel"):
        from_metatensor(MetaTensor(torch.zeros(2, 2, 3, 4)))


SERIES = "1.2.826.0.1.3680043.2.1125.1"


def write_series(
    folder: Path, positions: list[tuple[float, float, float]], series=SERIES, start=0, **tags: str
) -> Path:
    """One CT slice of 4 x 3 pixels for each position (LPS); values 100 * slice + pixel."""
    folder.mkdir(exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, position in enumerate(positions):
        image = SimpleITK.GetImageFromArray((100 * index + np.arange(12, dtype=np.int16)).reshape(3, 4))
        image.SetSpacing((0.5, 2))
        values = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{index + 1}",
            "0008|0060": "CT",
            "0010|0010": "Doe^Jane",
            "0010|0020": "ID4711",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": series,
            "0020|0013": str(index),
            "0020|0032": "\\".join(map(str, position)),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            **{tag.replace("_", "|")[1:]: value for tag, value in tags.items()},
        }
        for tag, value in values.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{start + index:03}.dcm"))
        writer.Execute(image)
    return folder


def test_a_dicom_series_is_ordered_by_position_and_placed_in_ras(tmp_path):
    folder = write_series(tmp_path / "ct", [(5, 6, z) for z in (30, 10, 20)])
    volume = read_volume(folder)
    assert volume.array.shape == (4, 3, 3)
    assert volume.array[:, 0, :].T.tolist() == [[100 + n for n in range(4)], [200 + n for n in range(4)], [0, 1, 2, 3]]
    assert volume.array[1, 2, 0] == 109
    expected = [
        [-0.5, 0, 0, -5],
        [0, -2, 0, -6],
        [0, 0, 10, 10],
        [0, 0, 0, 1],
    ]  # 2 mm between rows, 0.5 between columns
    assert np.allclose(volume.affine, expected)
    header = read_header(folder)
    assert (header.shape, header.dtype) == (volume.array.shape, volume.array.dtype)


def refused_series(folder: Path, *words: str) -> None:
    line = assert_refused(folder, *words)
    assert "Doe" not in line
    assert "4711" not in line


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([(0, 0, z) for z in (0, 3, 6, 12, 15)], ["uneven slice distances (3.00 to 6.00 mm, mostly 3.00 mm)"]),
        ([(0, z * np.tan(np.radians(15)), z) for z in range(0, 50, 5)], ["gantry tilt of 15.0 degrees"]),
        ([(0, 0, 0), (0, 0, 3), (0, 0, 3)], ["several slices at one place"]),
    ],
)
def test_slices_that_form_no_grid_are_refused_with_the_numbers(tmp_path, positions, words):
    refused_series(write_series(tmp_path / "ct", positions), *words)


def test_positions_rounded_in_the_header_are_fine(tmp_path):
    folder = write_series(tmp_path / "ct", [(0, 0, round(3.27 * n, 1)) for n in range(20)])
    assert read_volume(folder).spacing_mm[2] == pytest.approx(3.27, abs=0.01)


def test_several_series_in_one_folder_are_refused_by_their_numbers(tmp_path):
    write_series(tmp_path / "ct", [(0, 0, z) for z in range(3)])
    write_series(tmp_path / "ct", [(0, 0, z) for z in range(3)], series=f"{SERIES}.7", start=3)
    refused_series(tmp_path / "ct", "2 DICOM series", SERIES, f"{SERIES}.7", "folder of its own")


def test_a_scout_among_the_slices_is_refused(tmp_path):
    write_series(tmp_path / "ct", [(0, 0, z) for z in range(3)])
    write_series(tmp_path / "ct", [(0, 0, 9)], start=3, t0020_0037="1\\0\\0\\0\\0\\-1", t0008_0018="1.2.3")
    refused_series(tmp_path / "ct", "several sizes, spacings or directions")


def test_slices_with_scales_of_their_own_are_read_as_float(tmp_path):
    folder = write_series(tmp_path / "pet", [(0, 0, 0)], t0028_1053="1", t0028_1052="0")
    write_series(folder, [(0, 0, 2)], start=1, t0028_1053="2", t0028_1052="0", t0008_0018="1.2.3")
    volume = read_volume(folder)
    assert volume.array.dtype == read_header(folder).dtype == np.float32
    assert volume.array[:, 0].T.tolist() == [[0, 1, 2, 3], [0, 0, 2, 2]]  # steps of 1 and of 2


def test_a_folder_without_a_series_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert_refused(tmp_path, "no DICOM image series")


REAL = [
    *sorted(DATA.glob("odd/*.nii*")),
    *sorted(DATA.glob("odd/*.[nm][rh][ra]*")),
    *sorted(DATA.glob("ts-abdomen/*.nii.gz")),
]
REFUSED = {"4d_int16_scaled.nii": "4D", "not_nifti.nii": "not a NIfTI file", "rgb24.nii.gz": "RGB"}


@needs_data
def test_the_odd_files_are_all_there():
    assert len(REAL) >= 20


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_volumes_keep_their_grid_or_are_refused(tmp_path, path):
    if path.name in REFUSED:
        assert_refused(path, REFUSED[path.name])
        return
    volume, header = read_volume(path), read_header(path)
    assert (header.shape, header.dtype) == (volume.array.shape, volume.array.dtype)
    assert np.array_equal(header.affine, volume.affine)
    write_volume(tmp_path / "out.nii.gz", volume.array, volume)
    again = read_volume(tmp_path / "out.nii.gz")
    assert np.array_equal(again.array, volume.array, equal_nan=volume.array.dtype.kind == "f")
    assert np.allclose(again.affine, volume.affine, atol=1e-4)
    if path.name.endswith((".nii", ".nii.gz")):
        assert_same_grid(tmp_path / "out.nii.gz", volume)
        assert np.allclose(
            volume.array, nib.load(path).get_fdata().reshape(volume.array.shape), rtol=1e-5, equal_nan=True
        )


@needs_data
def test_one_head_stored_in_three_orientations_is_one_head():
    heads = [read_volume(DATA / f"odd/space_{name}.nii.gz") for name in ("RAS", "LPS", "PIR")]
    turned = [nib.as_closest_canonical(to_nibabel(head.array, head)) for head in heads]
    for one, other in itertools.pairwise(turned):
        assert np.allclose(one.affine, other.affine, atol=1e-3)
        assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


@needs_data
def test_real_dicom_series_read_with_their_spacing_and_an_rtstruct_is_no_image(tmp_path):
    with zipfile.ZipFile(next((DATA / "sts-dicom").glob("*.zip"))) as archive:
        archive.extractall(tmp_path)
    ct, mr = (read_volume(tmp_path / "STS_025" / series / "image") for series in ("CT", "MR_T1"))
    assert (ct.array.shape, mr.array.shape) == ((149, 138, 47), (75, 55, 25))
    assert np.allclose(ct.spacing_mm, (0.976562, 0.976562, 3.27), atol=1e-4)
    assert np.allclose(ct.affine[:3, 3], (125.00006, -39.06235, 364.85), atol=1e-4)
    assert (ct.array.min(), ct.array.dtype) == (-1000, np.int16)
    assert_refused(tmp_path / "STS_025/CT/mask", "no DICOM image series")


@needs_data
def test_a_real_tilted_series_is_refused_with_its_angle(tmp_path):
    with zipfile.ZipFile(next((DATA / "head-ct-tilt-dicom").glob("*.zip"))) as archive:
        archive.extractall(tmp_path)
    assert_refused(tmp_path / "ge", "gantry tilt of 18.5 degrees", "uneven slice distances (1.14 to 7.38 mm")
