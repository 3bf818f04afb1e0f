"""What `train` saves and others read: written whole or not at all, and never run as code."""

from __future__ import annotations

import errno
import inspect
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from medgan.config import Component, InputError, bind, resolve, validate
from medgan.recipes import RECIPES, Recipe
from medgan.rundir import CheckpointKind, RunDir


def find_checkpoint(run: RunDir, kind: CheckpointKind = "best") -> Path:
    """The path of a run's checkpoint; for "best" the last one where model selection has left none.

    Raises:
        InputError: there is none.
    """
    for path in [run.checkpoint(kind), *run.resumable_checkpoints()]:
        if path.is_file():
            return path
    raise InputError(f"{run.checkpoint(kind)}: no such checkpoint; run `medgan train` first, or name another run")


def read_checkpoint(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """The contents of a checkpoint, tensors in main memory. Only tensors and plain values are read.

    Args:
        path: of the file; every part of it is held against its checksum.
        mapped: whether tensors are paged in from the file when they are used, for what is read once and soon.

    Raises:
        InputError: it holds code, is damaged, or is no checkpoint of a training.
    """
    try:
        _refuse_damage(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise InputError(f"{path}: holds code beside weights, which is never run; train it with medgan") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a checkpoint, or a damaged one ({type(error).__name__}); train again") from None
    missing = {"recipe", "domains", "networks"} - set(state if isinstance(state, dict) else ())
    if missing:
        raise InputError(f"{path}: holds no {', '.join(sorted(missing))}; give a run that medgan trained")
    return cast(dict[str, Any], state)


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all: killed at any moment, or out of room, it leaves the one before.

    Raises:
        InputError: no room for it.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _settle(path.parent)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        cause = next((fault for fault in _causes(error) if fault.errno in _NO_ROOM), None)
        if cause is None:
            raise
        free = shutil.disk_usage(path.parent).free / 2**20
        raise InputError(
            f"{path}: not written ({cause.strerror}; {free:.0f} MiB free), what was saved before stands: "
            "make room and run the same command again"
        ) from None


def link(path: Path, other: Path) -> None:
    """Let a file stand under another name too; where the disk knows no links, under that name alone."""
    if other.exists():
        return
    try:
        os.link(path, other)
    except OSError:
        path.replace(other)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _refuse_damage(path: Path) -> None:
    """Hold every part of the archive against its checksum, which torch does not when it reads.

    Raises:
        zipfile.BadZipFile: it is cut off, altered, or no archive that torch wrote.
    """
    with zipfile.ZipFile(path) as archive:
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())  # torch packs nothing
        if packed or archive.testzip() is not None:
            raise zipfile.BadZipFile


def _causes(error: BaseException | None) -> Iterator[OSError]:
    """The faults of the disk behind an error; torch's writer buries them."""
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__


def _settle(folder: Path) -> None:
    """Let a renamed file survive a loss of power too, where the system can promise that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def build_recipe(state: Mapping[str, Any], path: Path) -> Recipe:
    """The trained recipe of a checkpoint that was read from `path`.

    Raises:
        InputError: an unknown recipe or network, a name that stands for something else, or weights that do not fit.
    """
    choice = validate(Component, state["recipe"], f"{path}: recipe")
    _refuse_functions(choice.model_dump(), path)
    target, values = bind(choice, RECIPES, "recipe")
    recipe = cast(Recipe, target(**values))
    try:
        recipe.load_state_dict(state["networks"])
    except (RuntimeError, KeyError, TypeError):
        raise InputError(f"{path}: its weights do not fit its recipe {choice.name}; train again") from None
    return recipe


def _refuse_functions(values: object, path: Path) -> None:
    """A checkpoint may name torch modules outside medgan, and nothing else that would be called with its values."""
    if not isinstance(values, Mapping):
        return
    name = values.get("name")
    if isinstance(name, str) and "." in name:
        found: Callable[..., Any] = resolve(name, {}, "network")
        if not (inspect.isclass(found) and issubclass(found, nn.Module)):
            raise InputError(f"{path}: names '{name}', which is no torch module; a checkpoint may name nothing else")
    for value in values.values():
        _refuse_functions(value, path)
