"""`medgan check`: what is wrong with these data, and how to mend it, before hours are spent on them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medgan.check.findings import Finding, counts, finding, grouped
from medgan.check.inputs import Item, case_items, expand, namesakes, volumes_below
from medgan.check.labels import label_findings
from medgan.check.repair import Mended, mend
from medgan.check.series import examine_series
from medgan.check.table import print_check, write_check
from medgan.check.together import Known, case_findings, volume_findings
from medgan.check.volumes import Facts, examine_image, examine_label, refused
from medgan.config import InputError
from medgan.data.cases import Case, Modality, Side, table_cases, table_domains
from medgan.data.inside import unpack_zip
from medgan.data.names import named_modality

__all__ = [
    "Checked",
    "Facts",
    "Finding",
    "Mended",
    "counts",
    "grouped",
    "mend",
    "print_check",
    "refused",
    "run_check",
    "volumes_below",
    "write_check",
]

_SIDES: tuple[Side, ...] = ("A", "B")
_ALONE = 16  # volumes that are not worth a second process


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        findings: most severe first.
        volumes: what is known of each volume that could be read.
    """

    findings: tuple[Finding, ...]
    volumes: tuple[Facts, ...]

    @property
    def has_errors(self) -> bool:
        return any(one.severity == "error" for one in self.findings)


def run_check(
    inputs: Sequence[Path | str | Case],
    classes: Mapping[int, str] | None = None,
    *,
    table: Path | None = None,
    modalities: Mapping[Side, Modality] | None = None,
    names: Mapping[Side, str] | None = None,
    deep: bool = False,
    workers: int = 1,
    show_progress: bool = False,
) -> Checked:
    """What is wrong with files, with all volumes below folders, globs and zips, or with cases and those of a `table`.

    Of cases also: label maps against `classes` (0..K-1, -1 for unlabelled; any whole number without classes), patients
    in two splits, copies, outliers, and how the two domains differ.

    Args:
        inputs: files, folders, globs, or cases.
        classes: label values and names.
        table: a case table, its cases beside those of `inputs`.
        modalities: of the domains; without it, names of files tell.
        names: of the domains, for messages.
        deep: read every voxel, not headers alone.
        workers: processes.
        show_progress: a bar on stderr.

    Raises:
        InputError: nothing to check.
    """
    cases = [one for one in inputs if isinstance(one, Case)]
    findings: list[Finding] = []
    if table is not None:
        try:
            cases += table_cases(table)
            names = names or dict(zip(_SIDES, table_domains(table), strict=False))
            modalities = modalities or _modalities(names)
        except InputError as error:
            findings.append(refused(table, error))
    with ExitStack() as stack:
        items, found = expand([Path(one) for one in inputs if not isinstance(one, Case)])
        items, unpacked, of_zips = _unpacked(items, stack)
        findings += [*found, *of_zips]
        items = [*items, *case_items(cases, modalities or {})]
        if not items and not findings:
            raise InputError("check: nothing to check; give files, folders or a table of cases")
        looked = _look(items, deep=deep, workers=workers, show_progress=show_progress)
        facts = {item: known for item, (known, _) in zip(items, looked, strict=True)}
        findings += [one for _, some in looked for one in some]
        findings += _beside(facts)
    findings += _of_cases(cases, facts, dict(classes or {}), names)
    volumes = tuple(one for known in facts.values() for one in known)
    shown = tuple(_shown(one, unpacked) for group in grouped(findings) for one in group.findings)
    return Checked(shown, tuple(replace(one, place=_place(one.place, unpacked)) for one in volumes))


def _modalities(names: Mapping[Side, str]) -> dict[Side, Modality]:
    """What the names of the domains say of their modalities."""
    return {side: known for side, name in names.items() if (known := named_modality(name)) is not None}


def _unpacked(items: Sequence[Item], stack: ExitStack) -> tuple[list[Item], dict[str, str], list[Finding]]:
    """The items with zips replaced by what is in them, and the temporary folders with the zips they stand for."""
    kept, folders, findings = [], {}, []
    for item in items:
        if item.path.suffix.lower() != ".zip":
            kept.append(item)
            continue
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medgan-")))
        try:
            unpack_zip(item.path, folder)
        except InputError as error:
            findings.append(refused(item.path, error))
            continue
        inner, _ = expand([folder])
        inner = [one for one in inner if one.path.suffix.lower() != ".zip"]
        folders[str(folder)] = str(item.path)
        kind = "archive" if inner else "nothing"
        findings.append(finding(kind, item.path, f"volumes and DICOM folders in it: {len(inner)}"))
        kept += inner
    return kept, folders, findings


def _look(
    items: Sequence[Item], *, deep: bool, workers: int, show_progress: bool
) -> list[tuple[list[Facts], list[Finding]]]:
    """Every item examined, in the order of the items."""
    columns = (TextColumn("check"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not show_progress, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("check", total=len(items))
        jobs = 1 if len(items) < _ALONE else workers
        results = []
        for result in joblib.Parallel(n_jobs=jobs, return_as="generator")(
            joblib.delayed(examine)(item, deep=deep) for item in items
        ):
            results.append(result)
            progress.advance(task)
    return results


def examine(item: Item, *, deep: bool) -> tuple[list[Facts], list[Finding]]:
    """What is known of one item, and what is wrong with it by itself."""
    if item.path.is_dir():
        return examine_series(item.path, item.modality, deep=deep, is_case=item.case is not None)
    if item.is_label:
        known, findings = examine_label(item.path, deep=deep)
        if item.case is None and any(one.kind == "not_whole" for one in findings):  # only its name says label map
            known, findings = examine_image(item.path, None, deep=deep)
    else:
        known, findings = examine_image(item.path, item.modality, deep=deep)
    return [] if known is None else [known], findings


def _beside(facts: Mapping[Item, Sequence[Facts]]) -> list[Finding]:
    """What is odd between volumes that belong to no cases: label maps beside images, copies, outliers."""
    alone = {item.path: known[0] for item, known in facts.items() if item.case is None and known}
    images = {path: one for path, one in alone.items() if not one.is_label}
    findings = []
    for path, label in alone.items():
        if label.is_label:
            near = namesakes(path, images)
            findings += label_findings(label, [images[one] for one in near], {}, is_sure=len(near) == 1)
    series = [one for item, known in facts.items() if item.case is None for one in known[1:]]
    return findings + volume_findings([*images.values(), *series])


def _of_cases(
    cases: Sequence[Case],
    facts: Mapping[Item, Sequence[Facts]],
    classes: Mapping[int, str],
    names: Mapping[Side, str] | None,
) -> list[Finding]:
    """What is wrong with label maps of cases, and between cases."""
    if not cases:
        return []
    of = {item.path: known[0] for item, known in facts.items() if item.case is not None and known}
    known = [Known(case, of.get(case.image), of.get(case.label) if case.label else None) for case in cases]
    findings = []
    seen = set()
    for one in known:
        if one.label is not None and one.label.place not in seen:
            seen.add(one.label.place)
            findings += label_findings(one.label, [one.image] if one.image else [], classes, is_sure=True)
    sides = names or {side: side for side in sorted({case.domain for case in cases})}
    return findings + case_findings(known, classes, sides)


def _shown(one: Finding, unpacked: Mapping[str, str]) -> Finding:
    return replace(one, place=_place(one.place, unpacked), what=_place(one.what, unpacked))


def _place(text: str, unpacked: Mapping[str, str]) -> str:
    for folder, archive in unpacked.items():
        text = text.replace(folder, archive)
    return text
