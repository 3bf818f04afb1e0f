"""One volume translated and written, and what is told of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medgan.config import InputError
from medgan.data.volume import Volume, write_volume
from medgan.metrics.seams import SeamScore
from medgan.translate.outputs import Output
from medgan.translate.reader import VolumeReader
from medgan.translate.translator import Translation, VolumeTranslator
from medgan.translate.unpaired import Measured, Observer


class Written(NamedTuple):
    """What a translated file has left to tell."""

    seams: SeamScore
    seen: Measured | None


def translate_volume(
    translator: VolumeTranslator,
    volume: Volume,
    target: Path,
    labels: Path | None,
    reader: VolumeReader | None = None,
    observer: Observer | None = None,
    *,
    also: Callable[[Translation], None] | None = None,
    mark: Output | None = None,
) -> Callable[[], Written]:
    """Translate one volume; returns what writes its files.

    `also` writes more of it, `mark` is marked meanwhile. The image is written last.
    """
    seen: list[Measured] = []
    look = None if observer is None else lambda *images: seen.append(observer(*images))
    translation = translator.translate(volume, look)
    read = reader.read(volume, translation.image) if reader else translation.segmentation

    def write() -> Written:
        with mark.being_written() if mark else nullcontext():
            if labels and read is not None:
                target.unlink(missing_ok=True)
                write_volume(labels, read, volume)
            if also is not None:
                also(translation)
            write_volume(target, translation.image, volume)
        return Written(translation.seams, seen[0] if seen else None)

    return write


def refuse(mistakes: Sequence[str], count: int) -> None:
    """Raises: InputError: of `count` volumes some could not be translated, a line each."""
    if mistakes:
        lines = "".join(f"\n  {line}" for line in mistakes)
        raise InputError(f"translate: {len(mistakes)} of {count} volumes could not be translated:{lines}")


def progress() -> Progress:
    """A bar over volumes."""
    text = TextColumn("{task.description}")
    return Progress(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
