"""A trained run as something that other tools open: a MONAI bundle, an ONNX or torch program, an nnU-Net dataset."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from medgan.config import InputError
from medgan.export.bundle import write_bundle
from medgan.export.options import ExportOptions
from medgan.export.programs import ProgramFormat, write_programs
from medgan.export.trained import load_trained
from medgan.rundir import Direction, RunDir
from medgan.translate import TranslateOptions

Format = Literal["bundle", "onnx", "torchscript", "torch_export", "nnunet"]
__all__ = ["ExportOptions", "Format", "export_model", "new_folder"]


def export_model(
    run: RunDir,
    output: Path,
    *,
    kind: Literal["bundle"] | ProgramFormat,
    direction: Direction | None = None,
    options: ExportOptions = ExportOptions(),  # noqa: B008 (frozen)
    translating: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    classes: Mapping[int, str] | None = None,
) -> Path:
    """Write the networks of a run, whole or not at all, into a new folder; returns it.

    Nothing in it names a patient, a file or a place.

    Args:
        run: a trained run.
        output: the folder; must not stand yet, or be empty.
        kind: "bundle", for MONAI; "onnx", "torchscript" and "torch_export" hold the bare networks.
        direction: of a bundle's default; of the others, the only one. None: into CT, else A to B; of the others, all.
        options: what its authors say of it.
        translating: as the run translates.
        classes: of the segmentors, value to name.

    Raises:
        InputError: no trained translator, a folder that stands, a network that the format cannot hold.
    """
    trained = load_trained(run, translating.checkpoint)
    named = dict(classes or {})
    with new_folder(output) as folder:
        if kind == "bundle":
            write_bundle(trained, folder, trained.choose(direction), options, translating, named)
        else:
            ways = [trained.choose(direction)] if direction else list(trained.generators)
            write_programs(trained, folder, kind, ways, options, named)
    return output


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `output` once the block has run through, and leaves nothing if it has not.

    Raises:
        InputError: `output` stands already and is not empty, or cannot be made.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"{output}: stands already; move it away, or name another folder with --output")
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made ({type(error).__name__}); check the folder and its space") from None
    try:
        yield part
        if output.exists():
            output.rmdir()
        part.replace(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
