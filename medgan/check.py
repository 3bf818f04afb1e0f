"""`medgan check`: what is wrong with these data, and how to mend it, before hours are spent on them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from medgan.config import InputError
from medgan.data import geometry, itk
from medgan.data.cases import Case, Modality, Side, leakage, table_cases
from medgan.data.volume import IMAGE_SUFFIXES, Volume, read_volume

Severity = Literal["error", "warning", "note"]

_COLOURS: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "cyan"}
_SHEAR_DEGREES = 0.5
_UNLABELLED = -1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd. An error stops a study; a warning may spoil it; a note is worth knowing.

    Attributes:
        severity: "error", "warning" or "note".
        place: the file, folder or table.
        what: what was found there.
        way_out: what to do about it.
    """

    severity: Severity
    place: str
    what: str
    way_out: str


def run_check(
    inputs: Sequence[Path | str | Case],
    classes: Mapping[int, str] | None = None,
    *,
    table: Path | None = None,
    modalities: Mapping[Side, Modality] | None = None,
    show_progress: bool = False,
) -> list[Finding]:
    """What is wrong with files, with all volumes below folders, or with cases and those of a `table`; errors first.

    Every volume is read whole, one at a time: header, geometry, finite values, empty slices. Of cases also the label
    map: its grid, and its values against `classes` (0..K-1, -1 for unlabelled; any whole number without classes); of
    all cases together: patients in two splits, and one image under two names. With `modalities`, CT is expected in HU.

    Raises:
        InputError: nothing to check.
    """
    findings: list[Finding] = []
    cases = [one for one in inputs if isinstance(one, Case)]
    if table is not None:
        try:
            cases += table_cases(table)
        except InputError as error:
            findings.append(_refused(table, error))
    paths: list[Path] = []
    for one in inputs:
        if not isinstance(one, Case):
            found = volumes_below(Path(one))
            paths += found
            if not found:
                findings.append(
                    Finding("error", str(one), "no volume in this folder", f"give one of {', '.join(IMAGE_SUFFIXES)}")
                )
    if not cases and not paths and not findings:
        raise InputError("check: nothing to check; give files, folders or a table of cases")
    digests: dict[str, list[Case]] = {}
    seen: Counter[int] = Counter()
    with Progress(disable=not show_progress, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("check", total=len(paths) + len(cases))
        for path in paths:
            findings += _check_image(path, None)[0]
            progress.advance(task)
        for case in cases:
            found_here, image = _check_image(case.image, (modalities or {}).get(case.domain))
            findings += found_here
            if image is not None:
                digests.setdefault(_digest(image), []).append(case)
            if case.label is not None:
                findings += _check_label(case.label, image, classes or {}, seen)
            progress.advance(task)
    findings += _check_together(cases, digests, classes or {}, seen)
    order: list[Severity] = list(_COLOURS)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def volumes_below(path: Path) -> list[Path]:
    """`path` itself if it is a file, else the volumes below the folder: files by their suffix, and folders that hold
    DICOM images (not those with an RTSTRUCT alone)."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, _, names in os.walk(path):
        files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        found += [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
        if any(_is_dicom(file) for file in files) and itk.series_files(Path(folder)):
            found.append(Path(folder))
    return sorted(found)


def write_check(path: Path, findings: Sequence[Finding]) -> None:
    """The findings as JSON: the count of each severity, and every finding."""
    values = {"counts": _counts(findings), "findings": [asdict(finding) for finding in findings]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_check(findings: Sequence[Finding], console: Console | None = None) -> None:
    """The findings as a table, and their count in one last line."""
    console = console or Console()
    if findings:
        table = Table("", "where", "what", "way out", title="check", expand=False)
        for finding in findings:
            colour = _COLOURS[finding.severity]
            table.add_row(
                Text(finding.severity, colour),
                Text(finding.place, overflow="fold"),
                Text(finding.what),
                Text(finding.way_out),
            )
        console.print(table)
    console.print(", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in _counts(findings).items()))


def _counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    found = Counter(finding.severity for finding in findings)
    return {severity: found[severity] for severity in _COLOURS}


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _refused(place: Path, error: InputError) -> Finding:
    """A refusal as a finding: its line taken apart again into place, reason and way out."""
    what, _, way_out = str(error).removeprefix(f"{place}: ").rpartition("; ")
    return Finding("error", str(place), what or way_out, way_out)


def _check_image(path: Path, modality: Modality | None) -> tuple[list[Finding], Volume | None]:
    try:
        volume = read_volume(path)
    except InputError as error:
        return [_refused(path, error)], None
    place = str(path)
    findings = _check_geometry(volume, place)
    array = volume.array
    finite = np.isfinite(array)
    if not finite.all():
        count = int(finite.size - finite.sum())
        findings.append(
            Finding(
                "warning", place, f"{count} voxels are NaN or infinite", "they count as background; mend them if not"
            )
        )
    if not finite.any():
        findings.append(Finding("error", place, "no voxel is finite", "export it again"))
        return findings, volume
    low, high = float(array[finite].min()), float(array[finite].max())
    if low == high:
        findings.append(Finding("error", place, f"every voxel is {low:g}", "leave it out, or export it again"))
        return findings, volume
    empty = [index for index in range(array.shape[2]) if _is_constant(array[:, :, index])]
    if empty:
        findings.append(
            Finding(
                "warning",
                place,
                f"{len(empty)} of {array.shape[2]} slices of the third axis are empty ({_ranges(empty)})",
                "crop them off, or leave them out of scores",
            )
        )
    if modality == "ct" and low >= 0:
        findings.append(
            Finding(
                "warning", place, f"CT without a value below 0 HU ({low:g} to {high:g})", "apply the rescale intercept"
            )
        )
    return findings, volume


def _check_geometry(volume: Volume, place: str) -> list[Finding]:
    findings = []
    shear = geometry.shear_degrees(volume.affine)
    if shear > _SHEAR_DEGREES:
        findings.append(
            Finding(
                "warning",
                place,
                f"voxel axes are {shear:.1f} degrees off a right angle",
                "it is read so; resample it if that is not meant",
            )
        )
    header = volume.header
    if header is not None and int(header["qform_code"]) <= 0 and int(header["sform_code"]) <= 0:
        findings.append(
            Finding(
                "warning",
                place,
                "neither qform nor sform holds, so left and right are unknown (nibabel's default is taken)",
                "convert it again from DICOM, or set the sform",
            )
        )
    if volume.disk_shape != volume.array.shape:
        findings.append(
            Finding(
                "note",
                place,
                f"shape {volume.disk_shape} on disk is read as {volume.array.shape}",
                "nothing to do; what is written has the shape on disk",
            )
        )
    return findings


def _is_constant(plane: npt.NDArray[Any]) -> bool:
    finite = plane[np.isfinite(plane)]
    return finite.size == 0 or bool((finite == finite[0]).all())


def _ranges(indices: Sequence[int]) -> str:
    """Sorted indices in short: 0-2, 7."""
    starts = [index for index in indices if index - 1 not in indices]
    ends = [index for index in indices if index + 1 not in indices]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _check_label(path: Path, image: Volume | None, classes: Mapping[int, str], seen: Counter[int]) -> list[Finding]:
    """What is wrong with a label map; its values are counted into `seen`."""
    try:
        label = read_volume(path, dtype=np.int32)
    except InputError as error:
        return [_refused(path, error)]
    place, findings = str(path), []
    if image is not None:
        findings += _check_same_grid(label, image, place)
    values = [int(value) for value in np.unique(label.array)]
    seen.update(values)
    known = {*classes, _UNLABELLED} if classes else set(range(_UNLABELLED, max(values) + 1))
    foreign = [value for value in values if value not in known]
    if foreign:
        listed = ", ".join(map(str, foreign[:8])) + (", ..." if len(foreign) > 8 else "")
        allowed = f"0 to {max(classes)}, or -1 for unlabelled" if classes else "0 or more, or -1 for unlabelled"
        findings.append(
            Finding("error", place, f"label values {listed} are not {allowed}", "add them to classes, or renumber them")
        )
    if set(values) <= {0, _UNLABELLED}:
        findings.append(Finding("warning", place, "nothing is labelled", "leave the label map out, or draw it"))
    return findings


def _check_same_grid(label: Volume, image: Volume, place: str) -> list[Finding]:
    way_out = "resample the label map onto the image's grid, with nearest neighbours"
    if label.array.shape != image.array.shape:
        what = f"label map of shape {label.array.shape} on an image of shape {image.array.shape}"
        return [Finding("error", place, what, way_out)]
    apart = geometry.largest_displacement_mm(label.affine, image.affine, label.array.shape)
    if apart > min(image.spacing_mm) / 2:
        return [Finding("error", place, f"label map lies up to {apart:.1f} mm off its image", way_out)]
    return []


def _digest(volume: Volume) -> str:
    digest = hashlib.sha256(f"{volume.array.shape} {volume.array.dtype}".encode())
    digest.update(np.ascontiguousarray(volume.array).data)
    return digest.hexdigest()


def _check_together(
    cases: Sequence[Case], digests: Mapping[str, Sequence[Case]], classes: Mapping[int, str], seen: Mapping[int, int]
) -> list[Finding]:
    findings = [Finding("error", "cases", line, "keep each patient in one split") for line in leakage(cases)]
    for same in digests.values():
        if len(same) > 1:
            is_leak = len({case.split for case in same}) > 1
            others = ", ".join(str(case.image) for case in same[1:])
            where = " and they are in different splits" if is_leak else ""
            findings.append(
                Finding(
                    "error" if is_leak else "warning",
                    str(same[0].image),
                    f"the same voxels as {others}{where}",
                    "keep one, or give the copies one subject",
                )
            )
    labelled = sum(case.label is not None for case in cases)
    if labelled:
        for value, name in classes.items():
            if value not in seen:
                findings.append(
                    Finding(
                        "warning",
                        "cases",
                        f"class {value} ({name}) is in no label map",
                        "remove it, or check the numbers",
                    )
                )
        if labelled < len(cases):
            findings.append(
                Finding(
                    "note",
                    "cases",
                    f"{len(cases) - labelled} of {len(cases)} cases have no label map",
                    "nothing to do; they count where no label is needed",
                )
            )
    return findings
