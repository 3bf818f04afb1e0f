"""Where a translation may be wrong: how far other runs of the networks come out from it, and the way back from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from medgan.checkpoint import find_checkpoint, read_checkpoint
from medgan.config import InputError, read_yaml
from medgan.data.store import read_json
from medgan.data.volume import read_volume, write_volume
from medgan.metrics.roundtrip import cycle_residual
from medgan.recipes import Direction
from medgan.rundir import CheckpointKind, RunDir
from medgan.translate.load import directions, load_translator
from medgan.translate.options import TranslateOptions
from medgan.translate.outputs import Output
from medgan.translate.translator import VolumeTranslator

Member = Callable[[Tensor, Tensor], Tensor]


class Uncertainty:
    """Two maps of one volume, on its own grid in stored units; made by `load_uncertainty`.

    * ``spread``: standard deviation (n - 1) over the translation and what the members make of the same image.
    * ``cycle``: ``|G_BA(G_AB(x)) - x|``, in units of the source.

    Neither is an error: members that agree may be wrong together, and the way back may undo what is wrong.
    """

    def __init__(self, translator: VolumeTranslator, members: Sequence[Member], back: VolumeTranslator | None) -> None:
        """
        Args:
            translator: makes the translation.
            members: each makes another one of a prepared image and its body, in stored units.
            back: the other direction, or None.
        """
        self.translator, self.members, self.back = translator, members, back

    def look(self, given: Tensor, made: Tensor, body: Tensor) -> Mapping[str, Tensor]:
        """The maps on the working grid, (1, 1, X, Y, Z) each, 0 outside the body. Peak: four such volumes."""
        maps: dict[str, Tensor] = {}
        if self.members:
            mean = self.translator.intensity.denormalize(made)
            squares = torch.zeros_like(mean)
            for count, member in enumerate(self.members, 2):  # Welford's running variance, 1962
                other = member(given, body)
                gap = other - mean
                mean += gap / count
                squares += gap * (other - mean)
            maps["spread"] = squares.div_(len(self.members)).sqrt_().masked_fill_(~body, 0.0)
        if self.back is not None:
            low, high = self.back.intensity.ends
            maps["cycle"] = cycle_residual(self.back.generate, given, made, body) * ((high - low) / 2)
        return maps


class Target(NamedTuple):
    """A volume, and the path of its translation beside which the maps go."""

    source: Path
    image: Path


def load_uncertainty(
    run: RunDir,
    direction: Direction,
    *,
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    others: Sequence[RunDir] = (),
) -> Uncertainty:
    """Who takes part: mirrored images, the run's other checkpoints, other runs; each costs one more translation.

    Mirrored along the axes that training mirrored, as ``translate.spread_flips`` says; kept checkpoints
    (``train.keep_every``) from ``translate.spread_from`` of the training on, and the last or best one.

    Raises:
        InputError: nobody takes part and there is no way back, or another run prepares its images otherwise.
    """
    plain = options.model_copy(update={"segmentation": False, "seam_check": False})

    def load(place: RunDir, way: Direction, kind: str) -> VolumeTranslator:
        of_kind = cast(CheckpointKind, kind)
        return load_translator(place, way, checkpoint=of_kind, options=plain, device=device)

    translator = load(run, direction, options.checkpoint)
    seen, members = {translator.fingerprint}, [_mirrored(translator, axis) for axis in _flips(run, options)]
    for place, kind in _candidates(run, options, others):
        member = load(place, direction, kind)
        _refuse_another_preparation(translator, member, place)
        if member.fingerprint not in seen:
            seen.add(member.fingerprint)
            members.append(_plain(member))
    reverse: Direction = "BA" if direction == "AB" else "AB"
    back = load(run, reverse, options.checkpoint) if reverse in directions(run, options.checkpoint) else None
    if not members and back is None:
        raise InputError(
            f"--uncertainty: {run.path} has one checkpoint, no mirrored training and no way back; add --with RUN, or "
            "train with train.keep_every"
        )
    return Uncertainty(translator, members, back)


def targets_of(run: RunDir, direction: Direction, outputs: Sequence[Output] | None) -> list[Target]:
    """What maps are wanted of: these translations, or for None those that the run lists as its own."""
    if outputs is not None:
        return [Target(one.source, one.image) for one in outputs]
    folder = run.translate(direction)
    return [Target(folder / row["source"], folder / row["translation"]) for row in read_json(folder / "cases.json")]


def write_uncertainty(maps: Uncertainty, targets: Sequence[Target], *, force: bool = False) -> list[Path]:
    """Write ``<stem>_spread.nii.gz`` and ``<stem>_cycle.nii.gz`` beside each translation; returns them.

    Maps that stand and are no older than their translation are left alone, unless `force`.

    Raises:
        InputError: a map would fall onto a translation; at the end, volumes that could not be measured, one line each.
    """
    taken = {target.image.resolve() for target in targets}
    names = [name for name, there in (("spread", bool(maps.members)), ("cycle", maps.back is not None)) if there]
    written: list[Path] = []
    mistakes: list[str] = []
    for target in targets:
        paths = {name: map_path(target.image, name) for name in names}
        for path in paths.values():
            if path.resolve() in taken:
                raise InputError(
                    f"{path}: is a translation, and {target.image.name} would leave a map there; rename one"
                )
        written += paths.values()
        if not force and all(_stands(path, target.image) for path in paths.values()):
            continue
        try:
            volume = read_volume(target.source)
            found = maps.translator.translate(volume, maps.look).maps
            for name, path in paths.items():
                write_volume(path, found[name], volume)
        except InputError as mistake:
            mistakes.append(str(mistake))
    if mistakes:
        lines = "".join(f"\n  {line}" for line in mistakes)
        raise InputError(f"--uncertainty: {len(mistakes)} of {len(targets)} volumes could not be measured:{lines}")
    return written


def map_path(image: Path, name: str) -> Path:
    """Where a map lies beside a translation."""
    return image.with_name(f"{image.name.removesuffix('.nii.gz')}_{name}.nii.gz")


def _stands(path: Path, image: Path) -> bool:
    return path.exists() and (not image.exists() or path.stat().st_mtime_ns >= image.stat().st_mtime_ns)


def _plain(translator: VolumeTranslator) -> Member:
    return lambda image, body: translator.intensity.denormalize(translator.generate(image, body))


def _mirrored(translator: VolumeTranslator, axis: int) -> Member:
    straight = _plain(translator)
    return lambda image, body: straight(image.flip(2 + axis), body.flip(2 + axis)).flip(2 + axis)


def _flips(run: RunDir, options: TranslateOptions) -> tuple[int, ...]:
    if options.spread_flips is not None:
        return options.spread_flips
    values = read_yaml(run.experiment_yaml) if run.experiment_yaml.exists() else {}
    augment = (values.get("train") or {}).get("augment") or {}
    return tuple(int(axis) for axis in augment.get("flip_axes") or ())


def _candidates(run: RunDir, options: TranslateOptions, others: Sequence[RunDir]) -> Iterator[tuple[RunDir, str]]:
    """Checkpoints that may take part, by run and kind; the other runs' as the options say."""
    kept = sorted(path.stem for path in run.checkpoint("last").parent.glob("*.pt") if path.stem.isdigit())
    kinds = [kind for kind in ("best", "last") if run.checkpoint(kind).is_file()]
    steps = [int(read_checkpoint(run.checkpoint(kind)).get("step", 0)) for kind in kinds]
    end = max([*steps, *map(int, kept)], default=0)
    yield from ((run, kind) for kind in kinds)
    yield from ((run, kind) for kind in kept if int(kind) >= options.spread_from * end)
    for other in others:
        find_checkpoint(other, options.checkpoint)
        yield other, options.checkpoint


def _refuse_another_preparation(one: VolumeTranslator, other: VolumeTranslator, place: RunDir) -> None:
    for mine, its in ((one.source, other.source), (one.target, other.target)):
        same = mine.modality == its.modality and mine.preprocess == its.preprocess
        if not same or (mine is one.source and mine.rule != its.rule):
            raise InputError(
                f"{place.path}: prepares {its.name} otherwise than the run; compare runs of one preparation"
            )
