"""Whether translations show their sources' organs: read off both, compared with what is usual on held-out cases."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medgan.config import InputError, read_yaml
from medgan.data.cases import Case
from medgan.data.store import read_json, write_json
from medgan.data.volume import Volume, read_volume
from medgan.metrics.anatomy import OrganReading, read_organs
from medgan.metrics.limits import Limits, OrganVerdict, Usual, case_score, judge, learn_limits
from medgan.metrics.roundtrip import errors_under_noise
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.load import directions, load_translator
from medgan.translate.outputs import Output, stem
from medgan.translate.reader import VolumeReader, load_reader
from medgan.translate.translator import TranslateOptions, VolumeTranslator

COLUMNS = ("subject", "verdict", "score", "organ", "organ_score", "worst", "slice")
MEASURED = tuple(name for name in OrganReading.__dataclass_fields__ if name not in ("label", "slice"))
NOISE_LEVELS = (0.0, 0.002, 0.004, 0.008, 0.016, 0.032)  # shares of the target's typical range

TOLERANCE = 0.06  # of the target's typical range, within which intensities are told apart by how far they are

logger = logging.getLogger(__name__)


class Translated(NamedTuple):
    """A translation that stands: of whom, and the paths of source, translation, its labels, the source's label map."""

    subject: str
    source: Path
    image: Path
    labels: Path
    label: Path | None


@dataclass(frozen=True)
class Audited:
    """One case: its organs, the most unusual first.

    Attributes:
        subject: whose translation it is.
        organs: with their scores.
    """

    subject: str
    organs: Sequence[OrganVerdict]

    @property
    def score(self) -> float:
        """That of the worst organ, in usual spreads."""
        return case_score(self.organs)


class Auditor:
    """Reads organs off sources and compares them with what was read off translations."""

    def __init__(self, source_reader: VolumeReader | None, names: Mapping[int, str], intensity_range: float) -> None:
        """
        Args:
            source_reader: what reads organs off a source; None: label maps are asked for.
            names: of the organs, by label.
            intensity_range: width of the target's typical range, stored units.
        """
        self.source_reader, self.names, self.intensity_range = source_reader, names, intensity_range

    def read(
        self, source: Volume, image: NDArray[Any], labels: NDArray[Any], label: Path | None = None
    ) -> list[OrganReading]:
        """The organs of one case.

        Args:
            source: the volume that was translated.
            image: its translation, stored units, on its grid.
            labels: what was read off the translation.
            label: a label map of the source, taken where nothing reads organs off sources.

        Raises:
            InputError: nothing tells the source's organs, or grids differ.
        """
        place = str(source.path or "volume")
        if self.source_reader is not None:
            known = self.source_reader.read(source, source.array)
        elif label is not None:
            known = read_volume(label, dtype=np.int16).array
        else:
            raise InputError(f"{place}: no organs to compare with; add --segmentor RUN that reads them off such images")
        axis = int(np.argmax(nib.io_orientation(source.affine)[:, 0] == 2))  # type: ignore[no-untyped-call]
        tolerance, organs = TOLERANCE * self.intensity_range, sorted(self.names)
        try:
            return read_organs(known, labels, image, organs, source.spacing_mm, tolerance=tolerance, slice_axis=axis)
        except ValueError as reason:
            raise InputError(f"{place}: {reason}") from None


def audit(
    run: RunDir,
    cases: Sequence[Case],
    translated: Sequence[Translated],
    folder: Path,
    *,
    direction: Direction,
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    segmentor: RunDir | None = None,
) -> Path:
    """Audit translations that stand; returns ``FOLDER/audit.csv``, the worst case first, a row for each organ.

    What is usual is learnt on the validation cases of the study, once: ``RUN/translate/<direction>/audit.json``.

    Args:
        run: the run that has translated.
        cases: of the study.
        translated: what stands.
        folder: where the table goes; rows of others that it has are kept.
        direction: of the translations.
        options: that they were made with.
        device: see `load_translator`.
        segmentor: another run, whose segmentors read organs where this run has none, and off its translations.

    Raises:
        InputError: nothing reads organs, no validation case, or a file that cannot be read; at the end, one line each.
    """
    translator = load_translator(run, direction, options=options, device=device)
    target = load_reader(segmentor, translator.target, options=options, device=device) if segmentor else None
    low, high = translator.intensity.ends
    auditor = Auditor(_source_reader(run, segmentor, translator, options, device), _names(run), high - low)
    limits = _limits(run, cases, auditor, translator, target, direction, device)
    found, mistakes = [], []
    for one in translated:
        try:
            made, read = read_volume(one.image), read_volume(one.labels, dtype=np.int16)
            organs = auditor.read(read_volume(one.source), made.array, read.array, one.label)
            found.append(Audited(one.subject, judge(organs, limits.usual)))
        except InputError as mistake:
            mistakes.append(str(mistake))
    table = folder / "audit.csv"
    write_audit(table, found, limits, auditor.names)
    if mistakes:
        lines = "".join(f"\n  {line}" for line in mistakes)
        raise InputError(f"audit: {len(mistakes)} of {len(translated)} translations could not be audited:{lines}")
    return table


def audit_run(
    run: RunDir,
    cases: Sequence[Case],
    *,
    direction: Direction,
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    segmentor: RunDir | None = None,
) -> Path:
    """Audit what ``RUN/translate/<direction>/cases.json`` lists; see `audit`."""
    folder = run.translate(direction)
    rows = read_json(folder / "cases.json")
    if any(not row.get("segmentation") for row in rows):
        raise InputError(f"{folder}: no organs were read off translations; add --segmentor RUN, translate again")
    translated = [
        Translated(
            str(row["subject"]),
            folder / row["source"],
            folder / row["translation"],
            folder / row["segmentation"],
            folder / row["label"] if row.get("label") else None,
        )
        for row in rows
    ]
    (folder / "audit.csv").unlink(missing_ok=True)
    return audit(
        run, cases, translated, folder, direction=direction, options=options, device=device, segmentor=segmentor
    )


def audit_files(
    run: RunDir,
    cases: Sequence[Case],
    outputs: Sequence[Output],
    *,
    direction: Direction,
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    segmentor: RunDir | None = None,
) -> Path:
    """Audit translations of files in the folder where they stand; see `audit`."""
    folder = outputs[0].image.parent
    if any(not one.labels.exists() for one in outputs):
        raise InputError(f"{folder}: no organs were read off some translations; translate with --segmentor RUN --force")
    translated = [Translated(stem(one.image), one.source, one.image, one.labels, None) for one in outputs]
    return audit(
        run, cases, translated, folder, direction=direction, options=options, device=device, segmentor=segmentor
    )


def write_audit(path: Path, cases: Iterable[Audited], limits: Limits, names: Mapping[int, str]) -> None:
    """Write the table, the worst case and in it the worst organ first; rows of other subjects that stand are kept."""
    rows = []
    for case in cases:
        facts = {"subject": case.subject, "verdict": limits.verdict(case.score), "score": f"{case.score:.2f}"}
        for organ in case.organs:
            values = {name: _text(getattr(organ.reading, name)) for name in MEASURED}
            told = {"organ": names.get(organ.reading.label, str(organ.reading.label)), "worst": organ.measure}
            told |= {"organ_score": f"{organ.score:.2f}", "slice": str(organ.reading.slice)}
            rows.append(facts | told | values)
    own = {row["subject"] for row in rows}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows += [row for row in csv.DictReader(file) if row.get("subject") not in own]
    rows.sort(key=lambda row: (-float(row["score"]), row["subject"], -float(row["organ_score"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*COLUMNS, *MEASURED), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _limits(
    run: RunDir,
    cases: Sequence[Case],
    auditor: Auditor,
    translator: VolumeTranslator,
    target: VolumeReader | None,
    direction: Direction,
    device: str,
) -> Limits:
    """What is usual of the run's validation cases: as it was learnt before, unless anything has changed since."""
    held_out = [case for case in cases if case.domain == direction[0] and case.split == "validation"]
    if not held_out:
        raise InputError(f"audit: no validation case in domain {direction[0]}; raise data.validation_fraction")
    path = run.translate(direction) / "audit.json"
    parts = [part.fingerprint for part in (translator, target, auditor.source_reader) if part]
    told = repr((sorted(parts), [(case.subject, case.image.name) for case in held_out], sorted(auditor.names.items())))
    made_from = hashlib.sha256(told.encode()).hexdigest()[:32]
    if path.exists() and (kept := read_json(path)).get("made_from") == made_from:
        return limits_from_dict(kept)
    readings, hidden = _learn(run, held_out, auditor, translator, target, direction, device)
    if not readings:
        raise InputError(f"audit: none of {len(held_out)} validation cases could be translated; see the warnings above")
    limits = learn_limits(readings, auditor.intensity_range)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"made_from": made_from, **limits_to_dict(limits, auditor.names), "hidden": hidden})
    return limits


def _learn(
    run: RunDir,
    cases: Sequence[Case],
    auditor: Auditor,
    translator: VolumeTranslator,
    target: VolumeReader | None,
    direction: Direction,
    device: str,
) -> tuple[list[list[OrganReading]], dict[str, Any] | None]:
    """The organs of held-out cases, and the error of the way back under noise."""
    back = _way_back(run, direction, translator.options, device)
    readings: list[list[OrganReading]] = []
    errors: list[list[float]] = []

    def look(given: Tensor, made: Tensor, body: Tensor) -> None:
        if back is not None:
            errors.append(errors_under_noise(back.generate, given, made, body, [2 * level for level in NOISE_LEVELS]))

    for case in cases:
        try:
            volume = read_volume(case.image)
            translation = translator.translate(volume, look)
            labels = target.read(volume, translation.image) if target else translation.segmentation
            if labels is None:
                name = translator.target.name
                raise InputError(f"audit: nothing reads organs off {name} translations; add --segmentor RUN")
            readings.append(auditor.read(volume, translation.image, labels, case.label))
        except InputError as mistake:
            if str(mistake).startswith("audit:"):
                raise
            logger.warning("%s; nothing is learnt from it", mistake)
    return readings, _hidden(errors, translator, back) if back and errors else None


def _hidden(errors: Sequence[Sequence[float]], translator: VolumeTranslator, back: VolumeTranslator) -> dict[str, Any]:
    """Mean errors of the way back in the source's stored units, by levels of noise in the target's."""
    (low, high), (bottom, top) = translator.intensity.ends, back.intensity.ends
    means = np.mean(errors, axis=0) * (top - bottom) / 2
    return {
        "noise": [level * (high - low) for level in NOISE_LEVELS],
        "error": [float(mean) for mean in means],
        "cases": len(errors),
    }


def limits_to_dict(limits: Limits, names: Mapping[int, str]) -> dict[str, Any]:
    """Limits as JSON holds them."""
    organs = {
        str(label): {"organ": names.get(label, str(label)), **{name: asdict(one) for name, one in measures.items()}}
        for label, measures in limits.usual.items()
    }
    return {"cases": limits.cases, "look": limits.look, "fail": limits.fail, "organs": organs}


def limits_from_dict(values: Mapping[str, Any]) -> Limits:
    """The reverse of `limits_to_dict`."""
    usual = {
        int(label): {name: Usual(**one) for name, one in measures.items() if name != "organ"}
        for label, measures in values["organs"].items()
    }
    return Limits(usual, values["look"], values["fail"], values["cases"])


def _way_back(run: RunDir, direction: Direction, options: TranslateOptions, device: str) -> VolumeTranslator | None:
    reverse: Direction = "BA" if direction == "AB" else "AB"
    if reverse not in directions(run, options.checkpoint):
        return None
    return load_translator(run, reverse, options=options, device=device)


def _source_reader(
    run: RunDir, segmentor: RunDir | None, translator: VolumeTranslator, options: TranslateOptions, device: str
) -> VolumeReader | None:
    """The run's own segmentor of the source, else the other run's, else none."""
    for place in filter(None, (run, segmentor)):
        try:
            return load_reader(place, translator.source, options=options, device=device)
        except InputError:
            continue
    return None


def _names(run: RunDir) -> dict[int, str]:
    """The classes of the run's configuration but the background."""
    values = read_yaml(run.experiment_yaml) if run.experiment_yaml.exists() else {}
    classes = (values.get("data") or {}).get("classes") or {}
    names = {int(label): str(name) for label, name in classes.items() if int(label) > 0}
    if not names:
        raise InputError(f"{run.experiment_yaml}: data.classes names no organs; an audit needs them")
    return names


def _text(value: float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return str(value)
