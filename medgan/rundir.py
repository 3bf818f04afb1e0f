"""Where a run keeps things: one folder per verb, the configuration with every default, and what it ran on."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from medgan.config import InputError, read_yaml, write_yaml

Direction = Literal["AB", "BA"]
CheckpointKind = Literal["best", "last"]
PACKAGES = ("medgan", "torch", "monai", "lightning-fabric", "numpy", "scipy", "nibabel", "simpleitk", "pydantic")


@dataclass(frozen=True)
class RunDir:
    """The folder of one run. Paths are told whether or not they exist; only the verbs write."""

    path: Path

    @property
    def experiment_yaml(self) -> Path:
        """The configuration, every default written out; its relative paths start at the run's folder."""
        return self.path / "experiment.yaml"

    @property
    def environment_json(self) -> Path:
        """Versions, platform, threads, seed and command of the latest verb that wrote it."""
        return self.path / "environment.json"

    @property
    def preprocess(self) -> Path:
        """The store of prepared volumes."""
        return self.path / "preprocess"

    @property
    def train(self) -> Path:
        """Losses, previews and checkpoints."""
        return self.path / "train"

    def checkpoint(self, kind: str = "best") -> Path:
        """The checkpoint "best" (of model selection), "last" (to resume from) or "0001000" (a step that was kept)."""
        return self.train / "checkpoints" / f"{kind}.pt"

    def earlier_checkpoint(self, step: int) -> Path:
        """The checkpoint of this step, once a newer one is the last."""
        return self.train / "checkpoints" / f"earlier_{step:07d}.pt"

    def resumable_checkpoints(self) -> list[Path]:
        """The checkpoints that training can go on from, the newest first."""
        earlier = sorted(self.train.glob("checkpoints/earlier_*.pt"), key=lambda path: int(path.stem[8:]), reverse=True)
        return [path for path in (self.checkpoint("last"), *earlier) if path.exists()]

    def translate(self, direction: Direction) -> Path:
        """Translated volumes of one direction, and beside them what the segmentor reads off them."""
        return self.path / "translate" / direction

    @property
    def evaluate(self) -> Path:
        """``cases.csv`` and ``summary.json``."""
        return self.path / "evaluate"

    @property
    def report(self) -> Path:
        """``index.html``."""
        return self.path / "report"

    @property
    def export(self) -> Path:
        """What other tools open, a folder per format."""
        return self.path / "export"

    @property
    def is_trained(self) -> bool:
        """Whether training has left something that a changed configuration would contradict."""
        return bool(self.resumable_checkpoints())

    def begin(
        self,
        experiment: BaseModel,
        *,
        seed: int,
        locked: Collection[str],
        free: Collection[str] = (),
        is_writing: bool = True,
    ) -> None:
        """Make the folder and write ``experiment.yaml`` and ``environment.json`` into it.

        Args:
            experiment: the whole configuration, its relative paths already starting at this folder.
            seed: of the run, for the record.
            locked: the sections that must not change any more once training has begun.
            free: options of these sections that may, ``train.workers``.
            is_writing: whether this process writes; further ranks of the same training only look.

        Raises:
            InputError: training has begun with another configuration; the differences are named.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; name a folder for the run")
        before = read_yaml(self.experiment_yaml) if self.experiment_yaml.exists() else None
        now = experiment.model_dump(mode="json")
        if self.is_trained and before is not None:
            changes = differences(
                _decisive(_filled(before, type(experiment)), locked, free), _decisive(now, locked, free)
            )
            if changes:
                shown = ", ".join(changes[:4]) + (f" and {len(changes) - 4} more" if len(changes) > 4 else "")
                raise InputError(
                    f"{self.path}: training has begun with another configuration: {shown}; "
                    "name another folder, or go on with what it began with"
                )
        if is_writing:
            self.path.mkdir(parents=True, exist_ok=True)
            if now != before:
                write_yaml(self.experiment_yaml, experiment)
            self.write_environment(seed)

    def write_environment(self, seed: int) -> None:
        """What this process runs on, in ``environment.json``: enough to repeat it, nothing that names who or where."""
        write_whole(self.environment_json, json.dumps(environment(seed), indent=2) + "\n")


def environment(seed: int) -> dict[str, Any]:
    """Versions, kind of platform, threads, seed and command; no host, no user, no absolute path."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "seed": seed,
        "command": " ".join(_without_folders(word) for word in sys.argv),
    }
    torch = sys.modules.get("torch")  # told where it is in use, not loaded for the record
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["cuda"] = torch.version.cuda
    return facts


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line per changed leaf of two nested mappings: ``train.num_steps: 100 -> 200``."""
    lines: list[str] = []
    for key in dict.fromkeys([*before, *now]):
        old, new, place = before.get(key, _ABSENT), now.get(key, _ABSENT), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{place}.")
        elif old != new:
            lines.append(f"{place}: {_show(old)} -> {_show(new)}")
    return lines


def _filled(values: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A configuration with the defaults of options that it is too old to know."""
    try:
        return model.model_validate(values).model_dump(mode="json")
    except ValidationError:  # it knows others that are gone: they are shown
        return values


def _decisive(values: Mapping[str, Any], locked: Collection[str], free: Collection[str]) -> dict[str, Any]:
    """The sections that are locked, without what is free in them."""
    kept = {key: value for key, value in values.items() if key in locked}
    for name in free:
        section, _, option = name.partition(".")
        if isinstance(kept.get(section), Mapping):
            kept[section] = {key: value for key, value in kept[section].items() if key != option}
    return kept


_ABSENT = object()


def _show(value: object) -> str:
    if value is _ABSENT:
        return "absent"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _without_folders(word: str) -> str:
    """An absolute path, alone or after ``=``, shortened to its name."""
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
