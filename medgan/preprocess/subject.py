"""All images of one patient, from their files to the store. What was computed before is taken, not computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.config import InputError
from medgan.data.bias import BiasField
from medgan.data.cache import Cache, content_digest, key_of, stamps
from medgan.data.cases import Case
from medgan.data.grid import triple
from medgan.data.intensity import Nyul, to_dict
from medgan.data.registration import Registration, laid_onto, register
from medgan.data.store import read_json, write_case, write_json
from medgan.data.transforms import Prepared
from medgan.data.volume import Volume, read_volume
from medgan.preprocess.preparation import CT_AIR_HU, PreparedDomain, corrected, measured, normalized, placed

_FORMAT = 5  # raised when equal inputs come out differently: stored cases are then made anew


@dataclass(frozen=True)
class Subject:
    """One patient: one image, or one in each domain.

    Attributes:
        cases: at most one of each domain.
        domains: how images of "A" and "B" are prepared.
        classes: label values and their names.
        out: folder of the store.
        steps: fields, matrices and landmarks that were found once.
        shared: finished cases of several runs; None: only this run's store.
    """

    cases: Sequence[Case]
    domains: Mapping[str, PreparedDomain]
    classes: Mapping[int, str]
    out: Path
    steps: Cache
    shared: Cache | None

    def folder(self, case: Case) -> Path:
        """Where a case lies in the store."""
        return self.out / case.domain / case.subject

    def store(self) -> bool:
        """Put the patient's images into the store, unless they stand there already; returns whether anything was done.

        Raises:
            InputError: an image that cannot be read, placed, registered or normalised, or label values that are no
                classes.
        """
        marks = [mark for case in self.cases for path in (case.image, case.label) if path for mark in stamps(path)]
        before = [_meta(self.folder(case)) for case in self.cases]
        if all(one.get("stamps") == marks and one.get("settings") == self._settings for one in before):
            return False
        key = key_of([self._settings, *self._contents])
        if all(one.get("fingerprint") == key for one in before):
            for case, meta in zip(self.cases, before, strict=True):
                write_json(self.folder(case) / "case.json", {**meta, "stamps": marks})
            return False
        if self.shared and all(self.shared.take(f"{key}-{case.domain}", self.folder(case)) for case in self.cases):
            for case in self.cases:
                write_json(self.folder(case) / "case.json", {**_meta(self.folder(case)), "stamps": marks})
            return True
        self._make({"fingerprint": key, "settings": self._settings, "stamps": marks})
        if self.shared:
            for case in self.cases:
                self.shared.keep(f"{key}-{case.domain}", self.folder(case))
        return True

    def landmarks(self, rule: Nyul, side: str) -> NDArray[np.float64]:
        """Of the patient's image in domain `side`, what `rule` learns from."""
        parts = ["landmarks", side, list(rule.percentiles), self._settings, *self._contents]

        def look() -> dict[str, NDArray[Any]]:
            one = dict(zip(self._sides, self._placed(), strict=True))[side]
            return {"landmarks": rule.landmarks(one.image, one.body)}

        return self.steps.arrays(key_of(parts), look)["landmarks"]

    def _make(self, facts: Mapping[str, Any]) -> None:
        for case, one in zip(self.cases, self._placed(), strict=True):
            domain = self.domains[case.domain]
            intensity = measured(one, domain, self._volumes[case.domain])
            result = normalized(one, domain, intensity, one.body)
            meta = {
                **facts,
                "spacing_mm": list(result.spacing_mm),
                "affine": result.affine.tolist(),
                "undo": result.undo.to_dict(),
                "intensity": to_dict(intensity),
            }
            write_case(self.folder(case), image=result.image, label=result.label, body=result.body, meta=meta)

    def _placed(self) -> list[Prepared]:
        """Both images on their working grids; a pair shows the body where both do."""
        volumes: dict[str, Volume] = {case.domain: self._corrected(case) for case in self.cases}
        labels: dict[str, Volume | None] = {case.domain: _labels(case, self.classes) for case in self.cases}
        options = self.domains[self._sides[0]].preprocess.registration
        if options is not None and len(self.cases) == 2:
            self._lay_onto(volumes, labels, options)
        made = [placed(volumes[side], labels[side], self.domains[side]) for side in self._sides]
        if len(made) == 2 and made[0].undo == made[1].undo and np.allclose(made[0].affine, made[1].affine, atol=1e-2):
            common = made[0].body & made[1].body  # a pair teaches where both images show the body, and nowhere else
            made = [replace(one, body=common) for one in made] if common.any() else made
        return made

    def _lay_onto(self, volumes: dict[str, Volume], labels: dict[str, Volume | None], options: Registration) -> None:
        """Move one of the two images, and its labels, onto the other's grid. What it does not show is unlabelled."""
        moving = options.moving
        fixed = "A" if moving == "B" else "B"
        matrix = self._matrix(fixed, moving, options)
        lowest = CT_AIR_HU if self.domains[moving].modality == "ct" else float(np.nanmin(volumes[moving].array))
        volumes[moving] = laid_onto(volumes[fixed], volumes[moving], matrix, 1, lowest)
        label = labels[moving]
        if label is not None:
            labels[moving] = laid_onto(volumes[fixed], label, matrix, 0, -1)

    def _corrected(self, case: Case) -> Volume:
        domain = self.domains[case.domain]

        def remember(find: Callable[[], BiasField]) -> BiasField:
            def look() -> dict[str, NDArray[Any]]:
                field = find()
                return {"log_values": field.log_values, "strides": np.array(field.strides)}

            options = domain.preprocess.model_dump(mode="json")["bias_correction"]
            kept = self.steps.arrays(key_of(["bias", content_digest(case.image), options, domain.body_threshold]), look)
            return BiasField(kept["log_values"], triple(kept["strides"]))

        return corrected(self._volumes[case.domain], domain, remember)

    def _matrix(self, fixed: str, moving: str, options: Registration) -> NDArray[np.float64]:
        parts = ["registration", *(content_digest(case.image) for case in self.cases), options.model_dump(mode="json")]

        def look() -> dict[str, NDArray[Any]]:
            return {"matrix": register(self._volumes[fixed], self._volumes[moving], options)}

        return self.steps.arrays(key_of(parts), look)["matrix"]

    @property
    def _sides(self) -> list[str]:
        return [case.domain for case in self.cases]

    @cached_property
    def _volumes(self) -> dict[str, Volume]:
        return {case.domain: read_volume(case.image, dtype=np.float32) for case in self.cases}

    @cached_property
    def _contents(self) -> list[str | None]:
        return [
            None if path is None else content_digest(path) for case in self.cases for path in (case.image, case.label)
        ]

    @cached_property
    def _settings(self) -> str:
        """Changes with all that decides what becomes of given files; an option to come changes nothing while off."""
        sides = [
            self.domains[side].model_dump(mode="json", exclude={"name"}, exclude_defaults=True) for side in self._sides
        ]
        return key_of([_FORMAT, sorted(self.classes), self._sides, sides])


def _meta(folder: Path) -> dict[str, Any]:
    """What stands in a stored case; nothing where there is none that can be read."""
    try:
        return dict(read_json(folder / "case.json")) if (folder / "case.json").is_file() else {}
    except InputError:
        return {}


def _labels(case: Case, classes: Mapping[int, str]) -> Volume | None:
    if case.label is None:
        return None
    label = read_volume(case.label, dtype=np.int16)
    strange = sorted({int(value) for value in np.unique(label.array)} - set(classes) - {-1})
    if strange:
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise InputError(f"{case.label}: label values {shown} are no classes; name them in data.classes or relabel")
    return label
