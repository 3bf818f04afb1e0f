"""Whether translations show their sources' organs: read off both, compared with what is usual on held-out cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.config import InputError, read_yaml
from medgan.data.cases import Case
from medgan.data.store import read_json
from medgan.data.volume import read_volume
from medgan.metrics.limits import judge
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.audit_table import Audited, write_audit
from medgan.translate.auditor import Auditor
from medgan.translate.load import load_translator
from medgan.translate.options import TranslateOptions
from medgan.translate.outputs import Output, stem
from medgan.translate.reader import VolumeReader, load_reader
from medgan.translate.translator import VolumeTranslator
from medgan.translate.usual import usual_limits


class Translated(NamedTuple):
    """A translation that stands: of whom, and the paths of source, translation, its labels, the source's label map."""

    subject: str
    source: Path
    image: Path
    labels: Path
    label: Path | None


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
    limits = usual_limits(run, cases, auditor, translator, target, direction, device)
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
