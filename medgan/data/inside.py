"""Names that others chose, kept in their folder: what an archive, a bundle, a table or a header may point to."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from medgan.data.geometry import refusal

_RATIO = 1032  # zlib packs no more than this many bytes into one
_BLOCK = 2**20


def inside(folder: Path, name: str, *, named_by: Path | None = None) -> Path:
    """`folder / name`, where that stays in `folder` on every system, links included.

    Args:
        folder: which must not be left.
        name: a relative path with / between its parts.
        named_by: the file that names it, for the message; the folder itself when None.

    Raises:
        InputError: the name is empty, absolute, climbs out by .., or passes a link that leads out.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    is_plain = bool(posix.parts) and not (
        posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts or ".." in windows.parts
    )
    if is_plain and name.isprintable():
        path = folder / posix
        if path.resolve().is_relative_to(folder.resolve()):
            return path
    raise refusal(
        named_by or folder,
        f"names {name!r}, which is not inside its folder",
        "make it anew, or do not trust it",
        "unsafe",
    )


def unpack_zip(archive: Path, folder: Path) -> None:
    """Unpack a zip into `folder`, which is made: files only, all of them inside it, none larger than it claims to be.

    Raises:
        InputError: no zip, a damaged one, names that leave the folder, links, encryption, or more than the disk holds.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = [one for one in source.infolist() if not one.is_dir()]
            _check_members(archive, members, folder)
            for one in members:
                target = inside(folder, one.filename, named_by=archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open(one) as packed, target.open("xb") as file:
                    shutil.copyfileobj(packed, file, _BLOCK)  # zipfile reads no more than the size checked above
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, FileExistsError):
        raise refusal(archive, "not a zip, or a damaged one", "copy or export it again") from None
    except RuntimeError:
        raise refusal(archive, "an encrypted zip", "unpack it yourself") from None


def _check_members(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Refuse what would leave the folder, is no file, or would fill the disk, before anything is written."""
    for one in members:
        inside(folder, one.filename, named_by=archive)
        if stat.S_ISLNK(one.external_attr >> 16):
            raise refusal(archive, f"holds a link ({one.filename!r})", "pack files, not links", "unsafe")
        if one.file_size > (one.compress_size + 1) * _RATIO:
            raise refusal(archive, f"{one.filename!r} claims more than can be packed", "do not trust it", "cut_short")
    folder.mkdir(parents=True, exist_ok=True)
    total, free = sum(one.file_size for one in members), shutil.disk_usage(folder).free
    if total > free // 2:
        raise refusal(
            archive, f"{total / 2**30:.1f} GiB unpacked, more than half of what is free", "make room", "too_large"
        )
