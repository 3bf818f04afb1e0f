"""What only shows between volumes: patients in two splits, copies, outliers, and domains that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from medgan.check.findings import Finding, finding
from medgan.check.volumes import AIR_HU, Facts
from medgan.data.cases import Case, Side, leakage

_FEWEST = 5  # volumes that tell what is usual
_SPREADS = 5.0  # median absolute deviations, of logarithms
_SPACING_RATIO, _EXTENT_RATIO = 1.5, 1.5  # no outlier below this, whatever the spread
_DOMAIN_RATIO = 1.5
_BALANCE_RATIO, _BALANCE_SHARE = 3.0, 0.01  # of the labelled volume


@dataclass(frozen=True)
class Known:
    """What is known of a case: facts are None for what could not be read."""

    case: Case
    image: Facts | None
    label: Facts | None


def case_findings(known: Sequence[Known], classes: Mapping[int, str], names: Mapping[Side, str]) -> list[Finding]:
    """What is wrong between cases of two domains.

    Args:
        known: the cases.
        classes: label values and names, {} when not known.
        names: of the domains.
    """
    cases = [one.case for one in known]
    findings = [finding("patient_in_two_splits", "cases", line) for line in leakage(cases)]
    findings += _copies(known)
    for side in names:
        images = [one.image for one in known if one.case.domain == side and one.image is not None]
        findings += outliers(images, f"domain {names[side]}")
    findings += _domains(known, names)
    findings += _classes(known, classes, names)
    labelled = sum(case.label is not None for case in cases)
    if 0 < labelled < len(cases):
        findings.append(
            finding("unlabelled", "cases", f"{len(cases) - labelled} of {len(cases)} cases have no label map")
        )
    return findings


def _copies(known: Sequence[Known]) -> list[Finding]:
    """Images of the same content, of several cases."""
    same: dict[str, list[Case]] = {}
    for one in known:
        if one.image is not None and one.image.digest is not None:
            same.setdefault(one.image.digest, []).append(one.case)
    findings = []
    for copies in same.values():
        if len(copies) > 1:
            kind = "image_in_two_splits" if len({case.split for case in copies}) > 1 else "same_image"
            others = ", ".join(f"{case.image} ({case.split})" for case in copies[1:])
            findings.append(finding(kind, copies[0].image, f"({copies[0].split}) the same voxels as {others}"))
    return findings


def volume_findings(images: Sequence[Facts]) -> list[Finding]:
    """What is odd between volumes of which no more is known than that they lie in the same folders."""
    findings = []
    same: dict[str, list[Facts]] = {}
    for one in images:
        if one.digest is not None:
            same.setdefault(one.digest, []).append(one)
    for copies in same.values():
        if len(copies) > 1:
            others = ", ".join(f"{copy.place} ({copy.orientation})" for copy in copies[1:])
            findings.append(
                finding("same_image", copies[0].place, f"({copies[0].orientation}) the same voxels as {others}")
            )
    for modality in ("ct", "mr"):
        alike = [one for one in images if one.modality == modality]
        findings += outliers(alike, modality.upper())
    return findings


def outliers(images: Sequence[Facts], group: str) -> list[Finding]:
    """Volumes whose spacing or extent is unlike that of the others in their group, and what else is mixed there."""
    findings = []
    usual_mm: list[tuple[str, float, Callable[[Facts], tuple[float, float, float]], str]] = [
        ("spacing_outlier", _SPACING_RATIO, _patient_spacing_mm, "spacing"),
        ("extent_outlier", _EXTENT_RATIO, lambda one: one.extent_mm, "field of view"),
    ]
    for kind, least, measure, word in usual_mm:
        if len(images) < _FEWEST:
            continue
        table = np.log([measure(one) for one in images])
        middle = np.median(table, axis=0)
        spread = 1.4826 * np.median(np.abs(table - middle), axis=0)
        far = np.abs(table - middle) > np.maximum(np.log(least), _SPREADS * spread)
        shown = _mm(np.exp(middle))
        findings += [
            finding(kind, one.place, f"{word} {_mm(measure(one))}, usual in {group} {shown}")
            for one, odd in zip(images, far.any(axis=1), strict=True)
            if odd
        ]
    floors = sorted({one.low for one in images if one.low is not None and one.modality != "mr" and one.low <= AIR_HU})
    if len(floors) > 1:
        findings.append(finding("floors", group, f"lowest values {', '.join(f'{low:g}' for low in floors[:6])}"))
    turned: dict[str, int] = {}
    for one in images:
        turned[one.orientation] = turned.get(one.orientation, 0) + 1
    if len(turned) > 1:
        findings.append(
            finding("orientations", group, ", ".join(f"{count} {axes}" for axes, count in sorted(turned.items())))
        )
    return findings


def _patient_spacing_mm(one: Facts) -> tuple[float, float, float]:
    """The spacing along the patient's axes, so that orientations can be compared."""
    axes = np.abs(np.array(one.affine)[:3, :3]).argmax(axis=0)
    ordered = [0.0, 0.0, 0.0]
    for axis, length in zip(axes, one.spacing_mm, strict=True):
        ordered[axis] = length
    return (ordered[0], ordered[1], ordered[2]) if min(ordered) > 0 else one.spacing_mm


def _mm(lengths: Iterable[float]) -> str:
    return " x ".join(f"{length:.3g}" for length in lengths) + " mm"


def _domains(known: Sequence[Known], names: Mapping[Side, str]) -> list[Finding]:
    """Spacing and field of view that differ between the domains."""
    if len(names) != 2:
        return []
    (a, first), (b, second) = names.items()
    findings = []
    measures: list[tuple[str, Callable[[Facts], tuple[float, float, float]]]] = [
        ("spacing_domains", _patient_spacing_mm),
        ("extent_domains", lambda one: one.extent_mm),
    ]
    for kind, measure in measures:
        of = {
            side: [measure(one.image) for one in known if one.case.domain == side and one.image is not None]
            for side in (a, b)
        }
        if not of[a] or not of[b]:
            continue
        one, other = (np.median(of[side], axis=0) for side in (a, b))
        if np.abs(np.log(one / other)).max() > np.log(_DOMAIN_RATIO):
            findings.append(finding(kind, "cases", f"median {_mm(one)} in {first}, {_mm(other)} in {second}"))
    return findings


def _classes(known: Sequence[Known], classes: Mapping[int, str], names: Mapping[Side, str]) -> list[Finding]:
    """Classes that no map has, that one domain lacks, or whose share of the labelled volume differs."""
    shares = {side: _shares([one.label for one in known if one.case.domain == side]) for side in names}
    if not any(shares.values()):
        return []
    listed = classes or {value: "" for table in shares.values() for value in table if value > 0}
    findings = []
    for value, name in sorted(listed.items()):
        told = f"class {value} ({name})" if name else f"class {value}"
        present = [side for side in names if value in shares[side]]
        if not present:
            findings.append(finding("class_absent", "cases", f"{told} is in no label map"))
        elif len(present) < len(names) and all(shares.values()):
            absent = next(names[side] for side in names if side not in present)
            findings.append(finding("class_in_one_domain", "cases", f"{told} is in no label map of {absent}"))
        elif len(present) == 2 and value > 0:
            one, other = (shares[side][value] for side in names)
            ratio = max(one, other) / max(min(one, other), 1e-9)
            if ratio > _BALANCE_RATIO and max(one, other) > _BALANCE_SHARE:
                each = ", ".join(f"{100 * shares[side][value]:.2g} % in {names[side]}" for side in names)
                findings.append(finding("class_balance", "cases", f"{told}: {each} (median share of what is labelled)"))
    return findings


def _shares(labels: Sequence[Facts | None]) -> dict[int, float]:
    """The median share of what is labelled, of each value that any map has; the background's is 0 or more."""
    maps = [dict(label.values) for label in labels if label is not None and label.values]
    values = {value for one in maps for value in one}
    shares = {}
    for value in values:
        of = []
        for one in maps:
            total = sum(count for key, count in one.items() if key > 0)
            of.append(one.get(value, 0) / total if total else 0.0)
        shares[value] = median(of)
    return shares
