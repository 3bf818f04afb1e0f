"""What was computed once, kept under a fingerprint of what it was computed from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def content_digest(path: Path) -> str:
    """SHA-256 of what a file holds, of the names and contents of a folder's files, or of a detached header and its
    neighbours."""
    digest = hashlib.sha256()
    files = files_of(path)
    for file in files:
        digest.update(file.name.encode() if len(files) > 1 else b"")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def stamps(path: Path) -> list[list[Any]]:
    """Name, size and time of the same files: as long as they stay, so will the content."""
    return [[file.name, status.st_size, status.st_mtime_ns] for file in files_of(path) for status in [file.stat()]]


def files_of(path: Path) -> list[Path]:
    """The file, the files of a DICOM folder, or a detached header and its neighbours of the same stem."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return sorted(path.parent.glob(f"{path.stem}.*")) if path.suffix.lower() in (".nhdr", ".mhd") else [path]


class Cache:
    """A folder of results, each written whole or not at all. Several processes and several runs may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arrays(self, key: str, compute: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """The arrays kept under `key`, computed where there are none that can be read."""
        place = self.folder / f"{key}.npz"
        try:
            with place.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # absent, or damaged: made anew
            pass
        values = dict(compute())
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{key}.{uuid.uuid4().hex}.npz")
        try:
            np.savez(partial, **values)  # type: ignore[arg-type]
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
        return values

    def take(self, key: str, folder: Path) -> bool:
        """Put the folder of files kept under `key` at `folder`, in the place of what stands there; false: none kept."""
        kept = self.folder / key
        if not kept.is_dir():
            return False
        _link(kept, folder)
        return True

    def keep(self, key: str, folder: Path) -> None:
        """Keep a folder of files under `key`. The files must be replaced from now on, never written into."""
        if not (self.folder / key).exists():
            _link(folder, self.folder / key)


def _link(source: Path, target: Path) -> None:
    """The files of a folder as another folder: linked, or copied to another disk; whole or not at all."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        for file in source.iterdir():
            try:
                os.link(file, partial / file.name)
            except OSError:
                shutil.copyfile(file, partial / file.name)
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    except OSError:  # another process has put the same there, or takes it away
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def key_of(parts: Iterable[Any]) -> str:
    """A fingerprint of JSON values."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
