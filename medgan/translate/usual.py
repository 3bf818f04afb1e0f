"""What is usual of a run's translations: learnt on the validation cases of its study, once, and kept."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from medgan.config import InputError
from medgan.data.cases import Case
from medgan.data.store import read_json, write_json
from medgan.data.volume import read_volume
from medgan.metrics.anatomy import OrganReading
from medgan.metrics.limits import Limits, Usual, learn_limits
from medgan.metrics.roundtrip import errors_under_noise
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.auditor import Auditor
from medgan.translate.load import directions, load_translator
from medgan.translate.options import TranslateOptions
from medgan.translate.reader import VolumeReader
from medgan.translate.translator import VolumeTranslator

NOISE_LEVELS = (0.0, 0.002, 0.004, 0.008, 0.016, 0.032)  # shares of the target's typical range

logger = logging.getLogger(__name__)


def usual_limits(
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
