"""Translate the volumes of files: each comes out beside what the target's segmentor reads off it, on its own grid."""

from __future__ import annotations

import glob
import hashlib
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medgan.config import InputError
from medgan.data.cases import Case
from medgan.data.dicom import SOP_CLASSES, read_template
from medgan.data.store import open_store, read_json, relative_path, write_json
from medgan.data.volume import read_volume, write_volume
from medgan.distances import features_made_from, write_features
from medgan.metrics.seams import SeamScore
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.load import directions, load_translator
from medgan.translate.outputs import Output, labels_path, plan_outputs, share, stem
from medgan.translate.reader import VolumeReader, load_reader
from medgan.translate.translator import TranslateOptions, Translation, VolumeTranslator
from medgan.translate.unpaired import Measured, Observer, load_observer

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
    with _progress() as bar:
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
    _report(mistakes, len(outputs))
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


_Equipment = tuple[VolumeTranslator, VolumeReader | None]
_at_hand: dict[str, _Equipment] = {}  # of a worker process: the networks, loaded once for each command


def _attempts(job: _Job, outputs: Sequence[Output]) -> Iterator[_Outcome]:
    """The outcome of each output, as they come."""
    if not outputs:
        return
    equipment = job.equip(as_dicom=outputs[0].series is not None)
    workers = min(job.workers, len(outputs))
    if workers == 1:
        yield from (_attempt(equipment, job, output) for output in outputs)
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
    return _attempt(equipment, job, output)


def _attempt(equipment: _Equipment, job: _Job, output: Output) -> _Outcome:
    """Translate one file. A bug that it meets is kept for the end, so that it stops no other."""
    translator, reader = equipment
    labels = output.labels if reader or translator.segmentor else None
    force = job.force or output.is_unfinished
    try:
        template = read_template(output.source, keep_patient=job.keep_patient) if output.series else None

        def write_series(translation: Translation) -> None:
            if template and output.series:
                template.write(output.series, translation.image, translator.target.modality, force=force)

        _translate_file(translator, output.source, output.image, labels, reader, also=write_series, mark=output)
    except InputError as mistake:
        return _Outcome(mistake=str(mistake))
    except Exception:
        return _Outcome(bug=f"{output.source}: a bug\n{traceback.format_exc()}")
    return _Outcome()


def translate_run(
    run: RunDir,
    cases: Sequence[Case],
    *,
    direction: Direction = "AB",
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    segmentor: RunDir | None = None,
) -> Path:
    """Translate the test cases of a study (else its validation cases) into the run; returns ``cases.json`` beside them.

    ``RUN/translate/<direction>/`` holds ``<subject>.nii.gz``, ``<subject>_segmentation.nii.gz`` and ``cases.json``:
    for each case subject, split and the paths of source, label (of the source), translation, segmentation, reference
    (the same patient in the target domain) and reference_label; null where there is none; and as seams the fields of a
    `SeamScore` in stored units, as cycle_error that of the way back (`unpaired`), and as features the file with
    those of source and translation; features of real images of the target domain lie in ``features/real``. Paths start
    at the folder of ``cases.json``. What stands and was made from the same volume by the same weights and options is
    kept, and so is ``cases.json`` where nothing changes.

    Raises:
        InputError: no case held out in the source domain, a patient that was in another split when the run was
            trained, no translator; at the end, the cases that could not be translated, one line each.

    With `segmentor`, another run's segmentor of the target domain reads the labels instead of this run's own: one that
    was trained on real images only gives the S-score.
    """
    side, other = direction
    of_side = [case for case in cases if case.domain == side]
    held_out = [case for case in of_side if case.split == "test"]
    held_out = held_out or [case for case in of_side if case.split == "validation"]
    if not held_out:
        raise InputError(f"translate: no test or validation case in domain {side}; raise data.test_fraction")
    _refuse_moved(run, held_out)
    references = {case.subject: case for case in cases if case.domain == other}
    translator = load_translator(run, direction, options=options, device=device)
    reader = load_reader(segmentor, translator.target, options=options, device=device) if segmentor else None
    observer = load_observer(run, translator, direction, device)
    weights = "-".join(part.fingerprint[:16] for part in (translator, reader) if part)
    folder = run.translate(direction)
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "cases.json"
    before, rows, mistakes = _rows(index), dict[str, dict[str, Any]](), list[str]()
    with _progress() as bar:
        for case in bar.track(held_out, description=f"translate {direction}"):
            target = folder / f"{case.subject}.nii.gz"
            labels = labels_path(target) if reader or translator.segmentor else None
            features = folder / "features" / f"{case.subject}.npz" if observer.extractor else None
            row = _row(case, references.get(case.subject), target, labels, features)
            try:
                row["made_from"] = f"{weights}-{_file_fingerprint(case.image)[:16]}"
                is_same = before.get(case.subject, {}).get("made_from") == row["made_from"]
                if is_same and all(path.exists() for path in (target, labels, features) if path):
                    row |= {key: before[case.subject].get(key) for key in ("seams", "cycle_error")}
                else:
                    seams, seen = _translate_file(translator, case.image, target, labels, reader, observer)
                    row |= {"seams": asdict(seams), "cycle_error": seen and seen.cycle_error}
                    if features and seen:
                        write_features(features, seen.features)
            except InputError as mistake:
                mistakes.append(str(mistake))
                continue
            rows[case.subject] = row
            _write_rows(index, before | rows)
    _write_rows(index, rows)
    reals = [case for case in cases if case.domain == other and case.split == held_out[0].split]
    if observer.extractor:
        mistakes += _write_real_features(observer, reals, folder / "features" / "real", weights)
    _report(mistakes, len(held_out))
    return index


def _write_real_features(observer: Observer, cases: Sequence[Case], folder: Path, weights: str) -> list[str]:
    """Features of held-out real images of the target domain, and no others; returns a line for each that has none."""
    mistakes = []
    for path in folder.glob("*.npz"):
        if path.stem not in {case.subject for case in cases}:
            path.unlink()
    for case in cases:
        path = folder / f"{case.subject}.npz"
        try:
            made_from = f"{weights}-{_file_fingerprint(case.image)[:16]}"
            if not (path.exists() and features_made_from(path) == made_from):
                write_features(path, {"real": observer.real(read_volume(case.image))}, made_from=made_from)
        except InputError as mistake:
            mistakes.append(str(mistake))
    return mistakes


def _refuse_moved(run: RunDir, cases: Sequence[Case]) -> None:
    """No patient is translated as held out who was in another split when the run's data were prepared."""
    stored = open_store(run.preprocess) if (run.preprocess / "cases.json").is_file() else []
    before = {case.subject: case.split for case in stored}
    for case in cases:
        was = before.get(case.subject, case.split)
        if was != case.split:
            raise InputError(
                f"data: {case.subject} was {was} when the run's data were prepared, is {case.split}; "
                "give every patient its old split, or train in another run folder"
            )


def _translate_file(
    translator: VolumeTranslator,
    source: Path,
    target: Path,
    labels: Path | None,
    reader: VolumeReader | None = None,
    observer: Observer | None = None,
    *,
    also: Callable[[Translation], None] | None = None,
    mark: Output | None = None,
) -> tuple[SeamScore, Measured | None]:
    """Translate one file; `also` writes more of it, `mark` is marked meanwhile. The image is written last."""
    volume = read_volume(source)
    seen: list[Measured] = []
    look = None if observer is None else lambda *images: seen.append(observer(*images))
    translation = translator.translate(volume, look)
    read = reader.read(volume, translation.image) if reader else translation.segmentation
    with mark.being_written() if mark else nullcontext():
        if labels and read is not None:
            target.unlink(missing_ok=True)
            write_volume(labels, read, volume)
        if also is not None:
            also(translation)
        write_volume(target, translation.image, volume)
    return translation.seams, seen[0] if seen else None


def _report(mistakes: Sequence[str], count: int) -> None:
    if mistakes:
        lines = "".join(f"\n  {line}" for line in mistakes)
        raise InputError(f"translate: {len(mistakes)} of {count} volumes could not be translated:{lines}")


def _row(
    case: Case, reference: Case | None, target: Path, labels: Path | None, features: Path | None
) -> dict[str, Any]:
    def told(path: Path | None) -> str | None:
        return None if path is None else relative_path(path, target.parent)

    return {
        "subject": case.subject,
        "split": case.split,
        "source": told(case.image),
        "label": told(case.label),
        "translation": told(target),
        "segmentation": told(labels),
        "features": told(features),
        "reference": told(reference.image if reference else None),
        "reference_label": told(reference.label if reference else None),
    }


def _rows(index: Path) -> dict[str, Mapping[str, Any]]:
    """What an earlier translation left, by subject; nothing where it left nothing that can be read."""
    try:
        return {row["subject"]: dict(row) for row in read_json(index)} if index.exists() else {}
    except (InputError, TypeError, KeyError, ValueError):
        return {}


def _write_rows(index: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """The reverse of `_rows`; a file that says the same already keeps its time, which later steps go by."""
    if not index.exists() or list(_rows(index).items()) != list(rows.items()):
        write_json(index, list(rows.values()))


def _file_fingerprint(path: Path) -> str:
    """Changes with the name, size or time of a file and its neighbours of the same stem, or of a folder's files."""
    pattern = "*" if path.is_dir() else f"{glob.escape(stem(path))}.*"
    files = sorted((path if path.is_dir() else path.parent).glob(pattern))
    facts = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _progress() -> Progress:
    text = TextColumn("{task.description}")
    return Progress(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
