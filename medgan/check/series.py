"""DICOM folders: every series by its UID, and why its slices form no volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medgan.check.findings import Finding, finding
from medgan.check.volumes import Facts, ranges, refused, value_facts, value_findings, voxel_findings
from medgan.config import InputError
from medgan.data import geometry
from medgan.data.cases import Modality
from medgan.data.geometry import RefusedError
from medgan.data.series import check_stack_size, ordered, read_values, stack_affine, stack_faults, values_dtype
from medgan.data.slices import Slice, read_slice, series_files

_OF_HEADER: dict[str, Modality] = {"CT": "ct", "MR": "mr"}
_MOST_VALUES = 4_000_000  # of a series without a grid, from which its range is told


def examine_series(
    folder: Path, modality: Modality | None, *, deep: bool, is_case: bool
) -> tuple[list[Facts], list[Finding]]:
    """What is known of every DICOM image series in a folder, and what is wrong with it.

    Args:
        folder: that holds the slices, of one series or of several.
        modality: by configuration or name.
        deep: whether pixels are read.
        is_case: whether the folder stands for one image; then no series is an error.
    """
    try:
        names = series_files(folder)
    except InputError as error:
        return [], [refused(folder, error)]
    if not names:
        return [], [finding("nothing", folder, "no DICOM image series")] if is_case else []
    findings = []
    if len(names) > 1:
        findings.append(finding("several_series", folder, f"{len(names)} series: {', '.join(sorted(names))}"))
    facts = []
    for uid, files in sorted(names.items()):
        place = str(folder) if len(names) == 1 else f"{folder} (series {uid})"
        known, found = _examine(folder, place, uid, files, modality, deep=deep)
        findings += found
        if known is not None:
            facts.append(known)
    return facts, findings


def _examine(
    folder: Path, place: str, uid: str, files: Sequence[Path], modality: Modality | None, *, deep: bool
) -> tuple[Facts | None, list[Finding]]:
    slices, findings = _headers(place, files)
    if not slices:
        return None, findings
    findings += _modality(place, slices, modality)
    known = _OF_HEADER.get(slices[0].modality, modality)
    faults = stack_faults(slices)
    if any(fault.kind in ("series_mixed", "series_no_place") for fault in faults):
        findings += [finding(fault.kind, place, fault.reason, fault.way_out) for fault in faults]
        return None, findings
    slices = ordered(slices)
    affine = stack_affine(slices)
    shape = (slices[0].layout.columns, slices[0].layout.rows, len(slices))
    dtype = values_dtype(slices)
    rows = tuple(tuple(float(number) for number in row) for row in affine)
    facts = Facts(str(folder), False, known, shape, rows, str(dtype), series=uid)
    try:
        if not faults:
            geometry.check_affine(affine, folder)
        check_stack_size(folder, slices)
    except RefusedError as error:
        return None, [*findings, finding(error.kind, place, error.reason, error.way_out)]
    findings += [finding(fault.kind, place, fault.reason, fault.way_out) for fault in faults]
    if deep:
        facts, found = _voxels(place, slices, facts, has_grid=not faults)
        findings += found
    return facts, findings


def _headers(place: str, files: Sequence[Path]) -> tuple[list[Slice], list[Finding]]:
    """The slices whose headers can be read, and one finding for all others of a kind."""
    slices, bad = [], Counter[tuple[str, str, str]]()
    for file in files:
        try:
            slices.append(read_slice(file))
        except RefusedError as error:
            bad[error.kind, error.reason, error.way_out] += 1
    return slices, [
        finding(kind, place, f"{count} of {len(files)} slices: {reason}", way_out)
        for (kind, reason, way_out), count in bad.items()
    ]


def _modality(place: str, slices: Sequence[Slice], modality: Modality | None) -> list[Finding]:
    """A header that says another modality than the configuration or the name."""
    told = _OF_HEADER.get(slices[0].modality)
    if told is None or modality not in ("ct", "mr") or told == modality:
        return []
    return [finding("modality", place, f"named as {modality.upper()}, its DICOM header says {slices[0].modality}")]


def _voxels(place: str, slices: Sequence[Slice], facts: Facts, *, has_grid: bool) -> tuple[Facts, list[Finding]]:
    """What pixels say: of a volume where there is a grid, else of slices one by one."""
    dtype = np.dtype(facts.dtype)
    low, high, empty, sample = np.inf, -np.inf, [], []
    step = max(1, int(np.ceil(np.prod(facts.shape) / _MOST_VALUES)))
    volume = np.empty(facts.shape, dtype) if has_grid else None
    try:
        for index, values in enumerate(read_values(slices, dtype)):
            if volume is not None:
                volume[:, :, index] = values
                continue
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            sample.append(values.ravel()[::step])
            if (values == values.flat[0]).all():
                empty.append(index)
    except RefusedError as error:
        return facts, [finding(error.kind, place, error.reason, error.way_out)]
    if volume is not None:
        facts = replace(facts, **value_facts(volume, np.array(facts.affine)))
        return facts, voxel_findings(place, volume, facts)
    facts = replace(facts, low=low, high=high)
    findings = value_findings(place, np.concatenate(sample), facts)
    if empty:
        findings.append(finding("empty_slices", place, f"{len(empty)} of {len(slices)} slices ({ranges(empty)})"))
    return facts, findings
