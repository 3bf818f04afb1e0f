"""What a training writes down beside its checkpoints: losses, measures, pictures, and what went wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from medgan.config import Component
from medgan.mosaic import Picture, cuts, side_by_side
from medgan.rundir import write_whole
from medgan.train.diagnostics import Watch
from medgan.train.trackers import Trackers


class Logbook:
    """``losses.jsonl``, ``validation.jsonl``, ``times.jsonl``, ``previews/``, ``diagnosis.json``, and the trackers.

    Only one rank opens it; a killed training's lines after its last checkpoint are dropped when it is opened again.
    """

    def __init__(self, folder: Path, step: int, trackers: Sequence[Component], parameters: Mapping[str, Any]) -> None:
        """
        Args:
            folder: of the training.
            step: of the checkpoint that it goes on from, 0 at the start.
            trackers: from `medgan.train.trackers.TRACKERS`.
            parameters: of recipe and training, which they are told.
        """
        self.folder, self.watch = folder, Watch()
        (folder / "previews").mkdir(parents=True, exist_ok=True)
        for name in ("losses.jsonl", "validation.jsonl", "times.jsonl"):
            _forget_after(folder / name, step)
        for line in _lines(folder / "losses.jsonl"):
            self.watch.see(int(line.pop("step")), line)
        self.trackers = Trackers(trackers, folder, step, parameters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.trackers.close()

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """The mean of every term since the last line."""
        self._write("losses.jsonl", step, means, "")
        self.watch.see(step, dict(means))

    def validation(self, step: int, means: Mapping[str, float]) -> None:
        """Measures on what no player learns from."""
        self._write("validation.jsonl", step, means, "validation/")

    def times(self, step: int, seconds: Mapping[str, float]) -> None:
        """Seconds per step since the last line, and the share of them in which the training waited for data."""
        self._write("times.jsonl", step, seconds, "times/")

    def preview(self, step: int, images: Mapping[str, Tensor], is_upright: bool) -> None:
        """Images side by side, a column per name; see `preview_picture`."""
        if not images:
            return
        picture = preview_picture(list(images.values()), is_upright)
        Image.fromarray(picture).save(self.folder / "previews" / f"{step:07d}.png")
        (self.folder / "previews" / "columns.json").write_text(json.dumps(list(images)), encoding="utf-8")
        self.trackers.picture(step, "preview: " + ", ".join(images), picture)

    def close(self, step: int) -> str:
        """What was seen to go wrong, in a line, which stands in ``diagnosis.json`` too."""
        verdict = self.watch.verdict()
        text = json.dumps({"step": step, "verdict": verdict, "since": self.watch.since}, indent=2)
        write_whole(self.folder / "diagnosis.json", text + "\n")
        return verdict

    def _write(self, name: str, step: int, means: Mapping[str, float], prefix: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **means}) + "\n")
        self.trackers.scalars(step, {f"{prefix}{term}": mean for term, mean in means.items()})


def preview_picture(images: Sequence[Tensor], is_upright: bool = False) -> Picture:
    """Images ``(B, C, *S)`` in [-1, 1] side by side, a row per sample; see `cuts` for how they are turned."""
    return side_by_side([cuts(image, is_upright) for image in images])


def progress_bar(is_shown: bool) -> Progress:
    """How far a training is, how long it will take, and each player's loss."""
    columns = (
        TextColumn("train"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, disable=not is_shown)


def by_player(means: Mapping[str, float]) -> str:
    """The sum of each player's terms, short enough for a terminal: ``G 7.3  D 0.31  S 0.9``."""
    sums: dict[str, float] = {}
    for name, mean in means.items():
        player = name.split("/")[0]
        if player != "watch":
            sums[player] = sums.get(player, 0.0) + mean
    return "  ".join(f"{player} {total:.3g}" for player, total in sums.items())


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines that a killed run wrote after its last checkpoint: the resumed run writes them again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = "".join(line for line in lines if _step(line) <= step)
        if kept != "".join(lines):
            write_whole(path, kept)


def _step(line: str) -> float:
    """The step of a line; infinity for one that was cut short."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
