"""Translate the volumes of files: each comes out beside what the target's segmentor reads off it, on its own grid."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medgan.config import InputError
from medgan.data.cases import Case
from medgan.data.store import open_store, read_json, relative_path, write_json
from medgan.data.volume import IMAGE_SUFFIXES, read_volume, write_volume
from medgan.distances import features_made_from, write_features
from medgan.metrics.seams import SeamScore
from medgan.reader import VolumeReader, load_reader
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translator import TranslateOptions, VolumeTranslator, directions, load_translator
from medgan.unpaired import Measured, Observer, load_observer

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
) -> list[Path]:
    """Translate volumes into ``OUTPUT/<stem>.nii.gz`` and ``OUTPUT/<stem>_segmentation.nii.gz``; returns the former.

    A volume that cannot be translated does not stop the others. A translation that stands already is left alone, unless
    `force` is true.

    Args:
        run: the run's folder.
        inputs: files, folders with one DICOM series, or folders with image files.
        output: the folder to write into; made where it is missing.
        direction: "AB" (A to B) or "BA".
        options: of translating.
        device: see `load_translator`.
        force: write over what stands in the output folder.
        segmentor: another run, whose segmentor of the target domain reads the labels instead of this run's own.

    Raises:
        InputError: nothing to translate, outputs that would fall onto inputs or each other, no translator; at the
            end, the volumes that could not be translated, one line each.
    """
    sources = [source for given in inputs for source in _expand(Path(given))]
    if not sources:
        raise InputError("translate: no volumes given; name files or folders")
    targets = [Path(output) / f"{_stem(source)}.nii.gz" for source in sources]
    _refuse_collisions(sources, targets)
    translator = load_translator(run, direction, options=options, device=device)
    reader = load_reader(segmentor, translator.target, options=options, device=device) if segmentor else None
    mistakes: list[str] = []
    with _progress() as bar:
        for source, target in bar.track(list(zip(sources, targets, strict=True)), description=f"translate {direction}"):
            labels = _segmentation_path(target) if reader or translator.segmentor else None
            if target.exists() and not force:
                bar.console.print(f"{target}: stands already, left alone (--force writes over it)", highlight=False)
                continue
            try:
                if labels and labels.exists() and not force:
                    raise InputError(f"{labels}: stands already, without {target.name}; move it away, or use --force")
                _translate_file(translator, source, target, labels, reader)
            except InputError as mistake:
                mistakes.append(str(mistake))
    _report(mistakes, len(sources))
    return targets


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
    `SeamScore` in stored units, as cycle_error that of the way back (`medgan.unpaired`), and as features the file with
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
            labels = _segmentation_path(target) if reader or translator.segmentor else None
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
) -> tuple[SeamScore, Measured | None]:
    """Translate one file. The image is written last: where it stands, all stands."""
    volume = read_volume(source)
    seen: list[Measured] = []
    look = None if observer is None else lambda *images: seen.append(observer(*images))
    translation = translator.translate(volume, look)
    read = reader.read(volume, translation.image) if reader else translation.segmentation
    if labels and read is not None:
        target.unlink(missing_ok=True)
        write_volume(labels, read, volume)
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
    pattern = "*" if path.is_dir() else f"{glob.escape(_stem(path))}.*"
    files = sorted((path if path.is_dir() else path.parent).glob(pattern))
    facts = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _expand(given: Path) -> list[Path]:
    """A folder with image files as those files; a file, or a folder of DICOM slices, as it is."""
    files = sorted(given.iterdir()) if given.is_dir() else []
    return [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)] or [given]


def _stem(path: Path) -> str:
    name = path.resolve().name if path.is_dir() else path.name
    suffix = max((end for end in IMAGE_SUFFIXES if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _segmentation_path(target: Path) -> Path:
    return target.with_name(f"{target.name.removesuffix('.nii.gz')}_segmentation.nii.gz")


def _refuse_collisions(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    """Nothing that is written may fall onto an input or onto another thing that is written."""
    taken = {source.resolve(): f"the input {source}" for source in sources}
    for source, target in zip(sources, targets, strict=True):
        for written in (target, _segmentation_path(target)):
            if written.resolve() in taken:
                raise InputError(
                    f"{written}: the translation of {source} would fall onto {taken[written.resolve()]}; "
                    "write into another folder, or translate one folder at a time"
                )
            taken[written.resolve()] = f"that of {source}"


def _progress() -> Progress:
    text = TextColumn("{task.description}")
    return Progress(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
