"""Names from outside stay in their folder, and archives do not fill the disk."""

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from medgan.config import InputError
from medgan.data.inside import inside, unpack_zip


@pytest.mark.parametrize("name", ["a.nii", "deep/er/a.nii", "..a.nii", "a..b/c", "ä b.nii", "./a.nii"])
def test_a_name_inside_its_folder_is_a_path_there(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../a", "a/../../b", "a/../b", "/etc/passwd", "//host/a", "C:\\a", "C:a", "\\a", "a\\..\\b"),
        *("a\0b", "a\nb"),
    ],
)
def test_a_name_that_leaves_its_folder_is_refused_with_who_named_it(tmp_path, name):
    with pytest.raises(InputError, match="not inside its folder") as caught:
        inside(tmp_path, name, named_by=Path("bundle.zip"))
    assert str(caught.value).startswith("bundle.zip: ")
    assert "\n" not in str(caught.value)


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "out").symlink_to(tmp_path)
    with pytest.raises(InputError, match="not inside"):
        inside(tmp_path / "folder", "out/a.nii")
    (tmp_path / "folder" / "in").symlink_to(tmp_path / "folder")
    assert inside(tmp_path / "folder", "in/a.nii")


def make_zip(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_is_unpacked_into_its_folder(tmp_path):
    unpack_zip(make_zip(tmp_path / "a.zip", {"x/a.txt": b"a", "b.txt": b"b"}), tmp_path / "out")
    assert (tmp_path / "out/x/a.txt").read_bytes() == b"a"
    assert (tmp_path / "out/b.txt").read_bytes() == b"b"


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])
def test_a_zip_that_climbs_out_writes_nothing_at_all(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"good.txt": b"a", name: b"evil"})
    with pytest.raises(InputError, match="not inside"):
        unpack_zip(archive, tmp_path / "deep/out")
    assert not list(tmp_path.rglob("*.txt"))


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match="holds a link"):
        unpack_zip(make_zip(tmp_path / "a.zip", {link: b"/etc"}), tmp_path / "out")


def test_a_zip_larger_than_the_disk_is_refused_before_it_is_written(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"a": bytes(100_000)})
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk())
    with pytest.raises(InputError, match="more than half of what is free"):
        unpack_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out/a").exists()


class Disk:
    free = 150_000


def test_a_zip_that_claims_more_than_deflate_can_pack_is_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": b"x" * 1000})
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace((1000).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    with pytest.raises(InputError, match="claims more than can be packed"):
        unpack_zip(archive, tmp_path / "out")


def test_garbage_is_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK garbage")
    with pytest.raises(InputError, match="not a zip"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", os.urandom(5000))
    (tmp_path / "a.zip").write_bytes(buffer.getvalue().replace(buffer.getvalue()[100:110], b"0123456789"))
    with pytest.raises(InputError, match="not a zip, or a damaged one"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")
