"""Orient, resample, harmonise, crop and normalise every case once, so that training only reads.

`prepare_input` is the way from a volume to what a network sees; translation takes the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track

from medgan.config import InputError, validate
from medgan.data.cache import Cache
from medgan.data.cases import Case, DataOptions, load_cases
from medgan.data.intensity import Intensity, from_dict, to_dict, typical
from medgan.data.store import StoredCase, open_store, write_index
from medgan.preprocess.preparation import (
    CT_AIR_HU,
    CT_BODY_THRESHOLD_HU,
    PreparedDomain,
    PreprocessOptions,
    prepare_input,
)
from medgan.preprocess.quality import draw_quality, write_contact_sheet
from medgan.preprocess.subject import Subject
from medgan.rundir import RunDir

__all__ = ["CT_AIR_HU", "CT_BODY_THRESHOLD_HU", "PreparedDomain", "PreprocessOptions", "prepare_input", "preprocess"]

Result = TypeVar("Result")


def preprocess(
    data: DataOptions,
    options: PreprocessOptions,
    root: Path,
    out: Path,
    workers: int = 1,
    *,
    cache: Path | None = None,
    pictures: bool = False,
) -> None:
    """Write a store (`medgan.data.store`) of all cases to `out`; what was computed before is not computed again.

    A subject with an image on one and the same grid in both domains is cropped to the same box in both, so that pairs
    stay pairs. The typical intensity map of a domain is the median of its training images; rules that learn (`nyul`)
    learn from training images only. A patient that cannot be prepared does not stop the others.

    Args:
        data: which cases there are.
        options: the working grid, and what is harmonised.
        root: where relative paths of `data` start.
        out: folder of the store, ``RUN/preprocess``.
        workers: processes; inside ``joblib.parallel_config(backend=...)``, tasks of that backend, such as a cluster's.
        cache: folder that several runs share; None: what this run has computed is kept in ``out/cache``.
        pictures: also draw every case into ``out/quality``, with a page of all.

    Raises:
        InputError: a case that cannot be read, placed or normalised, label values that are no classes, or a patient
            that has moved between splits since the run was trained.
    """
    cases = load_cases(data, root)
    if RunDir(out.parent).is_trained and (out / "cases.json").is_file():
        _refuse_moves(open_store(out), cases)
    if not data.classes:
        cases = [replace(case, label=None) for case in cases]
    domains = {side: PreparedDomain.of(domain, options) for side, domain in (("A", data.A), ("B", data.B))}
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.subject].append(case)
    steps, shared = Cache(cache or out / "cache"), None if cache is None else Cache(cache)
    subjects = [Subject(group, domains, data.classes, out, steps, shared) for group in groups.values()]
    domains = _learnt(subjects, domains, workers)
    subjects = [replace(subject, domains=domains) for subject in subjects]
    _, mistakes = _each(Subject.store, subjects, workers, "preprocess")
    _report(mistakes, len(subjects))
    stored = [
        StoredCase(case.subject, case.domain, case.split, out / case.domain / case.subject, case.image)
        for case in cases
    ]
    for side in domains:
        domains[side] = _summary(domains[side], [case for case in stored if case.domain == side])
    plain = {side: domain.model_dump(mode="json") for side, domain in domains.items()}
    write_index(out, stored, plain)
    if pictures:
        _draw(stored, domains, data.classes, out / "quality", workers)
        write_contact_sheet(out / "quality", stored, plain)


def _learnt(subjects: Sequence[Subject], domains: dict[str, PreparedDomain], workers: int) -> dict[str, PreparedDomain]:
    """The domains, their rules learnt from training cases (all cases, if none is for training) where they want that."""
    for side, domain in domains.items():
        rule = domain.unlearnt
        if rule is None:
            continue
        mine = [(subject, case.split) for subject in subjects for case in subject.cases if case.domain == side]
        seen = [subject for subject, split in mine if split == "train"] or [subject for subject, _ in mine]

        def look(subject: Subject, rule: Any = rule, side: str = side) -> Any:
            return subject.landmarks(rule, side)

        rows, mistakes = _each(look, seen, workers, f"learn {domain.name}")
        if not rows:
            _report(mistakes, len(seen))
        learnt = to_dict(rule.learnt(np.array(rows)))
        domains = {**domains, side: domain.model_copy(update={"rule": learnt})}
    return domains


def _draw(
    cases: Sequence[StoredCase], domains: dict[str, PreparedDomain], classes: dict[int, str], folder: Path, workers: int
) -> None:
    def draw(case: StoredCase) -> Path:
        assert case.original is not None
        modality = domains[case.domain].modality
        return draw_quality(case, case.original, folder, modality=modality, classes=classes)

    _, mistakes = _each(draw, cases, workers, "pictures")
    _report(mistakes, len(cases))


def _each(
    work: Callable[[Any], Result], things: Sequence[Any], workers: int, description: str
) -> tuple[list[Result], list[str]]:
    """What `work` makes of each, in order, and a line for each that it refuses: one does not stop the others."""
    jobs = (delayed(_attempt)(work, thing, place) for place, thing in enumerate(things))
    done = Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)
    outcomes = sorted(track(done, description=description, total=len(things)), key=lambda outcome: outcome[0])
    return (
        [cast(Result, result) for _, result, mistake in outcomes if mistake is None],
        [mistake for _, _, mistake in outcomes if mistake is not None],
    )


def _attempt(work: Callable[[Any], Result], thing: Any, place: int) -> tuple[int, Result | None, str | None]:
    try:
        return place, work(thing), None
    except InputError as mistake:
        return place, None, str(mistake)


def _report(mistakes: Sequence[str], count: int) -> None:
    if len(mistakes) == 1:
        raise InputError(mistakes[0])
    if mistakes:
        lines = "".join(f"\n  {line}" for line in mistakes)
        raise InputError(f"preprocess: {len(mistakes)} of {count} could not be prepared, the others are done:{lines}")


def _refuse_moves(stored: Sequence[StoredCase], cases: Sequence[Case]) -> None:
    """What a run was trained on stays what it was, and nobody held out then is anything else now."""
    before = {(case.subject, case.domain): case.split for case in stored}
    now: dict[tuple[str, str], str] = {(case.subject, case.domain): case.split for case in cases}
    for subject, domain in dict.fromkeys([*before, *now]):
        was, is_now = before.get((subject, domain)), now.get((subject, domain))
        if was != is_now and ("train" in (was, is_now) or (was and is_now)):
            raise InputError(
                f"data: {subject} (domain {domain}) was {was or 'absent'} when the run was trained, is "
                f"{is_now or 'absent'}; give every patient its old split, or name another run folder"
            )


def _summary(domain: PreparedDomain, cases: Sequence[StoredCase]) -> PreparedDomain:
    """The domain with what its training cases (all cases, if none is for training) have in common."""
    seen = [case for case in cases if case.split == "train"] or cases
    x, y, z = np.median([case.meta["spacing_mm"] for case in seen], axis=0).tolist()
    values = {
        **domain.model_dump(),
        "intensity": to_dict(typical([cast(Intensity, from_dict(case.meta["intensity"])) for case in seen])),
        "spacing_mm": (x, y, z),
    }
    return validate(PreparedDomain, values)
