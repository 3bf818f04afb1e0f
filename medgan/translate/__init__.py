"""Translate the volumes of files: each comes out beside what the target's segmentor reads off it, on its own grid."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from joblib import Parallel, delayed

from medgan.config import InputError
from medgan.data.dicom import SOP_CLASSES, SeriesTemplate, read_template
from medgan.data.volume import Volume, read_volume
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.cases import translate_run
from medgan.translate.files import Written, progress, refuse, translate_volume
from medgan.translate.load import directions, load_translator
from medgan.translate.options import TranslateOptions
from medgan.translate.outputs import Output, plan_outputs, share
from medgan.translate.overlap import overlapped
from medgan.translate.reader import VolumeReader, load_reader
from medgan.translate.translator import Translation, VolumeTranslator

__all__ = ["TranslateOptions", "VolumeTranslator", "directions", "load_translator", "translate", "translate_run"]


def translate(
    run: RunDir | Path | str,
    inputs: Sequence[Path],
    output: Path,
    *,
    direction: Direction = "AB",
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    force: bool = False,
    segmentor: RunDir | None = None,
    dicom: bool = False,
    keep_patient: bool = False,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
) -> list[Path]:
    """Translate volumes into ``OUTPUT/<stem>.nii.gz`` and ``OUTPUT/<stem>_segmentation.nii.gz``; returns the former.

    A volume that cannot be translated does not stop the others. A translation that stands already is left alone, unless
    `force` is true; one that was cut short is made again.

    Args:
        run: the run's folder.
        inputs: files, folders with one DICOM series, or folders with image files.
        output: the folder to write into; made where it is missing.
        direction: "AB" (A to B) or "BA".
        options: of translating.
        device: see `load_translator`.
        force: write over what stands in the output folder.
        segmentor: another run, whose segmentor of the target domain reads the labels instead of this run's own.
        dicom: also write ``OUTPUT/<stem>_dicom/``, a series derived from the input's (`medgan.data.dicom`).
        keep_patient: leave patient and study of the input in the derived series.
        workers: processes that translate at a time; each holds the networks and up to ``options.memory_gb``.
        shard: (i, n): every n-th input only, from the i-th, counted from 1.

    Raises:
        InputError: nothing to translate, outputs that would fall onto inputs or each other, no translator, a DICOM
            series asked for where there is none to derive it from; at the end, the volumes that could not be
            translated, one line each.
        RuntimeError: at the end, a bug that a volume met.
    """
    outputs = share(plan_outputs([Path(given) for given in inputs], Path(output), as_dicom=dicom), shard)
    place = run if isinstance(run, RunDir) else RunDir(Path(run))
    job = _Job(place, direction, options, device, force, segmentor, keep_patient, workers)
    mistakes: list[str] = []
    bugs: list[str] = []
    with progress() as bar:
        task = bar.add_task(f"translate {direction}", total=len(outputs))
        todo: list[Output] = []
        for one in outputs:
            try:
                if force or not one.stands():
                    todo.append(one)
                    continue
                bar.console.print(f"{one.image}: stands already, left alone (--force writes over it)", highlight=False)
            except InputError as mistake:
                mistakes.append(str(mistake))
            bar.advance(task)
        for outcome in _attempts(job, todo):
            mistakes += [outcome.mistake] if outcome.mistake else []
            bugs += [outcome.bug] if outcome.bug else []
            bar.advance(task)
    if bugs:
        raise RuntimeError("\n".join([*mistakes, *bugs]))
    refuse(mistakes, len(outputs))
    return [one.image for one in outputs]


@dataclass(frozen=True)
class _Job:
    """What all volumes of one command have in common."""

    run: RunDir
    direction: Direction
    options: TranslateOptions
    device: str
    force: bool
    segmentor: RunDir | None
    keep_patient: bool
    workers: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def equip(self, *, as_dicom: bool) -> _Equipment:
        translator = load_translator(self.run, self.direction, options=self.options, device=self.device)
        target = translator.target
        if as_dicom and target.modality not in SOP_CLASSES:
            raise InputError(
                f"--dicom: {target.name} is neither CT nor MR, its modality is {target.modality}; leave it out"
            )
        if self.segmentor is None:
            return translator, None
        return translator, load_reader(self.segmentor, target, options=self.options, device=self.device)


class _Outcome(NamedTuple):
    """Of one volume: a line for the user, a traceback, or neither."""

    mistake: str = ""
    bug: str = ""


class _Input(NamedTuple):
    """What was read of one volume, and, where a series is derived from it, what that takes over."""

    volume: Volume
    template: SeriesTemplate | None


_Equipment = tuple[VolumeTranslator, VolumeReader | None]
_at_hand: dict[str, _Equipment] = {}  # of a worker process: the networks, loaded once for each command


def _attempts(job: _Job, outputs: Sequence[Output]) -> Iterator[_Outcome]:
    """The outcome of each output, as they come."""
    if not outputs:
        return
    equipment = job.equip(as_dicom=outputs[0].series is not None)
    workers = min(job.workers, len(outputs))
    if workers == 1:
        yield from _one_after_the_other(equipment, job, outputs)
        return
    del equipment  # what is wrong with it was told once; each process loads its own
    threads = max(1, torch.get_num_threads() // workers)
    tasks = (delayed(_attempt_apart)(job, output, threads) for output in outputs)
    yield from Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)


def _attempt_apart(job: _Job, output: Output, threads: int) -> _Outcome:
    equipment = _at_hand.get(job.token)
    if equipment is None:
        torch.set_num_threads(threads)
        equipment = job.equip(as_dicom=output.series is not None)
        _at_hand.clear()
        _at_hand[job.token] = equipment
    return next(_one_after_the_other(equipment, job, [output]))


def _one_after_the_other(equipment: _Equipment, job: _Job, outputs: Sequence[Output]) -> Iterator[_Outcome]:
    """Translate files. A bug that one meets is kept for the end, so that it stops no other."""
    translator, reader = equipment

    def read(output: Output) -> _Input:
        template = read_template(output.source, keep_patient=job.keep_patient) if output.series else None
        return _Input(read_volume(output.source), template)

    def compute(output: Output, given: _Input) -> Callable[[], Written]:
        labels = output.labels if reader or translator.segmentor else None
        force = job.force or output.is_unfinished

        def write_series(translation: Translation) -> None:
            if given.template and output.series:
                given.template.write(output.series, translation.image, translator.target.modality, force=force)

        return translate_volume(translator, given.volume, output.image, labels, reader, also=write_series, mark=output)

    for output, done in zip(outputs, overlapped(outputs, read, compute), strict=True):
        error = done.exception()
        if error is None:
            yield _Outcome()
        elif isinstance(error, InputError):
            yield _Outcome(mistake=str(error))
        else:
            yield _Outcome(bug=f"{output.source}: a bug\n{''.join(traceback.format_exception(error))}")
