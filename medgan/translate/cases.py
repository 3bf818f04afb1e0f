"""The test cases of a study translated into its run, with all that is measured on the way."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgan.config import InputError
from medgan.data.cases import Case
from medgan.data.store import open_store, read_json, relative_path, write_json
from medgan.data.volume import Volume, read_volume
from medgan.distances import features_made_from, write_features
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.files import progress, refuse, translate_volume
from medgan.translate.load import load_translator
from medgan.translate.options import TranslateOptions
from medgan.translate.outputs import labels_path, stem
from medgan.translate.overlap import overlapped
from medgan.translate.reader import load_reader
from medgan.translate.unpaired import Observer, load_observer


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
    before, mistakes = _rows(index), list[str]()
    tasks = [_task(case, references, folder, bool(reader or translator.segmentor), observer) for case in held_out]
    for task in tasks:
        task.row["made_from"] = f"{weights}-{_file_fingerprint(task.source)[:16]}"
    rows = {task.subject: task.row for task in tasks if task.stands(before.get(task.subject, {}))}

    def compute(task: _Task, volume: Volume) -> Callable[[], None]:
        write_images = translate_volume(translator, volume, task.target, task.labels, reader, observer)

        def write() -> None:
            seams, seen = write_images()
            task.row.update(seams=asdict(seams), cycle_error=seen and seen.cycle_error)
            if task.features and seen:
                write_features(task.features, seen.features)

        return write

    with progress() as bar:
        shown = bar.add_task(f"translate {direction}", total=len(tasks), completed=len(rows))
        todo = [task for task in tasks if task.subject not in rows]
        for task, done in zip(todo, overlapped(todo, _read, compute), strict=True):
            try:
                done.result()
                rows[task.subject] = task.row
                _write_rows(index, before | rows)
            except InputError as mistake:
                mistakes.append(str(mistake))
            bar.advance(shown)
    _write_rows(index, {task.subject: rows[task.subject] for task in tasks if task.subject in rows})
    reals = [case for case in cases if case.domain == other and case.split == held_out[0].split]
    if observer.extractor:
        mistakes += _write_real_features(observer, reals, folder / "features" / "real", weights)
    refuse(mistakes, len(held_out))
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


@dataclass(frozen=True)
class _Task:
    """A case to translate: where its files go, and what is told of it in ``cases.json``."""

    subject: str
    source: Path
    target: Path
    labels: Path | None
    features: Path | None
    row: dict[str, Any]

    def stands(self, before: Mapping[str, Any]) -> bool:
        """Whether an earlier translation of the same volume by the same weights is there; its measures are kept."""
        files = filter(None, (self.target, self.labels, self.features))
        if before.get("made_from") != self.row["made_from"] or not all(path.exists() for path in files):
            return False
        self.row.update(seams=before.get("seams"), cycle_error=before.get("cycle_error"))
        return True


def _task(case: Case, references: Mapping[str, Case], folder: Path, is_read: bool, observer: Observer) -> _Task:
    target, reference = folder / f"{case.subject}.nii.gz", references.get(case.subject)
    labels = labels_path(target) if is_read else None
    features = folder / "features" / f"{case.subject}.npz" if observer.extractor else None

    def told(path: Path | None) -> str | None:
        return None if path is None else relative_path(path, folder)

    row = {
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
    return _Task(case.subject, case.image, target, labels, features, row)


def _read(task: _Task) -> Volume:
    return read_volume(task.source)


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
