"""The page of the translation study, from its numbers: one function for each section, in the order of the page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

HEAD = """# Translations without seams, in bounded memory

<!-- Written by scripts/translation_study.py. -->
"""
SEAMS = """## 1. Windows moved by half, and the untiled volume

MR to CT, test cases of each run, windows of {window} voxels. Seams need no quality, and some runs were stopped early:
*steps* is how long the network shown was trained. Rows without are of earlier trainings under these names, measured
before sweeps were made faster. *Moved*: root mean square difference in the body between
two runs whose windows lie half a window apart. *Untiled*: the same against the network over the whole volume in one
piece. *Jump*: mean absolute difference of neighbours across the borders of windows, over that inside; 1 is no seam.
Means over cases. `medgan` sweeps slab by slab, `medgan, windows` throws a halo away, MONAI blends with Gaussian
weights. Where a network has instance norm, medgan freezes its statistics, and *untiled* is the network with these; for
the others it is the network with those of the whole volume.

{table}
"""
SEGMENTORS = """## 2. Segmentors, whose norms look at their window

Real CT of the test cases. Mean Dice over classes and cases; *changed*: share of the body's voxels that get another
label when the windows move by half. Frozen statistics are averages over patches of the training's size (`frozen_for`).

{table}
"""
COSTS = """## 3. Memory and time of whole volumes

Synthetic bodies, run `{run}`, float32, one thread, a process of its own for each time. *Seconds* are the processor's,
those in which the thread was at work, as other programs ran on the machine: medians of *times* measurements, without
the loading of networks. Peaks are of the resident set, with all that Python and its libraries take. Windows are of
96 x 96 x 96 voxels; the number behind MONAI is its overlap; all are given the bounding box of the body. Where a share
is told, MONAI was given two windows along X only: its seconds are scaled up to all windows, its peak is of that part.
*As long*: how many times as long as `medgan` it took. *To medgan*: root mean square difference in the body to what
`medgan` makes, which is what the whole volume in one piece gives (section 1). A file is read, prepared, translated,
read by the segmentor and written. MONAI at the larger size was not timed to its end unless it stands here.

{table}
"""

AUDIT = """## 4. Faults planted in translations

Synthetic bodies that no run has seen (`make_phantom`, seeds {seeds}), MR to CT, run `{run}`. In the translation, in HU,
an organ (liver, a lung, the heart's blood, the spine, in turn) is *erased* (filled with the median of what surrounds
it, and noise), *doubled* (a copy pasted elsewhere in the body), *shifted* by 8 mm in any direction, or given the
*contrast* of another tissue (at least 100 HU away). The segmentor then reads the faulty translation. Limits are
learnt on {limits} other bodies; the score is that of `medgan translate --audit` ([audit.md](../audit.md)). AUROC
against {sound} sound translations, with 95 % intervals of a bootstrap over bodies; columns of organs: the same for
faults in that organ. The measures were chosen on bodies of another seed (44), none of which is scored here.

{table}

Of the sound ones {passed} pass, {looked} are to be looked at, {failed} fail (limits {look:.1f} and {fail:.1f} usual
spreads).
"""
GEOMETRY = """## 5. Drawn headers

{count} NIfTI files with drawn headers, read, sent through a network that changes nothing, and written by what
`medgan translate` consists of. Largest displacement of any voxel between input and output: {affine:.1g} mm by the
affine, {forms:.1g} mm by qform and sform one by one. Shape on disk, codes of qform and sform and units are equal in
{same} of {count}. Where the network worked on the file's own grid ({values} files), values differ by {value:.2g} HU at
most: every voxel comes back to its place.

{table}
"""
DICOM = """## 6. DICOM in and out

Run `{run}`, the soft-tissue sarcoma patient STS_025. *SimpleITK*: largest displacement of a voxel between the grids of
the source and of the derived series; *pydicom*: largest difference of slice positions; *NIfTI*: displacement from the
derived series to the NIfTI file beside it, whose header holds 32-bit numbers. *Values*: largest difference to that
file's, in HU or in units of MR, read by either. *Naming*: elements of the derived series that hold a name, number, date
or UID of the source, frame of reference apart.

{table}

The head CT with a tilted gantry is refused, and {left} is left behind:

> {refused}
"""


def write_page(page: Path, study: Mapping[str, Any]) -> None:
    """The sections whose numbers are in `study`, behind one another."""
    parts = [HEAD, *(section(study[part]) for part, section in SECTIONS.items() if part in study)]
    page.write_text("\n".join(parts), encoding="utf-8")


def _seams(part: Mapping[str, Any]) -> str:
    keys = ("run", "steps", "generator", "norm", "method")
    table = [["run", "steps", "generator", "norm", "cases", "method", "moved, HU", "untiled, HU", "jump"]]
    for (*about, method), rows in _groups(part["rows"], *keys).items():
        means = [_mean(rows, key) for key in ("shift_rms_hu", "whole_rms_hu", "jump_ratio")]
        table.append([*about, str(len(rows)), method, *means])
    return SEAMS.format(window=" x ".join(map(str, part["window"])), table=_table(table)) + _footer(part)


def _segmentors(part: Mapping[str, Any]) -> str:
    table = [["run", "cases", "method", "Dice", "changed"]]
    for (run, method), rows in _groups(part["rows"], "run", "method").items():
        table.append([run, str(len(rows)), method, _mean(rows, "dice"), _mean(rows, "changed_share")])
    return SEGMENTORS.format(table=_table(table)) + _footer(part)


def _costs(part: Mapping[str, Any]) -> str:
    table = [["volume", "what", "method", "times", "seconds", "as long", "peak, GiB", "to medgan, HU"]]
    for row in part["rows"]:
        own = [one["seconds"] for one in part["rows"] if one["size"] == row["size"] and one["method"] == "medgan"]
        is_network, share = "shape" in row, f", {row['share']:.0%} timed" if "share" in row else ""
        cells = [" x ".join(map(str, row["size"])), row["what"], row["method"] + share, str(row["repeats"])]
        cells += [f"{row['seconds']:.1f}", f"{row['seconds'] / own[0]:.1f}" if is_network and own else ""]
        table.append([*cells, f"{row['peak_gib']:.2f}", f"{row['rms_hu']:.2g}" if "rms_hu" in row else ""])
    return COSTS.format(run=part["run"], table=_table(table)) + _footer(part)


def _audit(part: Mapping[str, Any]) -> str:
    organs = list(dict.fromkeys(row["organ"] for row in part["rows"]))
    table = [["fault", "bodies", "AUROC", *organs, "pass", "look", "fail"]]
    for row in part["figures"]:
        area = f"{row['auroc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        by_organ = [f"{row['organs'][organ]:.3f}" if organ in row["organs"] else "" for organ in organs]
        verdicts = [str(row["verdicts"][verdict]) for verdict in ("pass", "look", "fail")]
        table.append([row["fault"], str(row["count"]), area, *by_organ, *verdicts])
    sound = [row["verdict"] for row in part["rows"] if row["kind"] == "sound"]
    counts = dict(zip(("passed", "looked", "failed"), map(sound.count, ("pass", "look", "fail")), strict=True))
    facts = {key: part[key] for key in ("run", "seeds", "limits", "look", "fail")}
    return AUDIT.format(**facts, **counts, sound=len(sound), table=_table(table)) + _footer(part)


def _geometry(part: Mapping[str, Any]) -> str:
    table = [["what was drawn", "files"], *([trait, str(count)] for trait, count in part["covered"].items())]
    return GEOMETRY.format(
        count=part["count"],
        affine=part["affine_mm"],
        forms=part["forms_mm"],
        same=part["same_grid"],
        values=part["values"]["count"],
        value=part["values"]["largest_hu"],
        table=_table(table),
    ) + _footer(part)


def _dicom(part: Mapping[str, Any]) -> str:
    head = [
        "from",
        "to",
        "voxels",
        "SimpleITK, mm",
        "pydicom, mm",
        "NIfTI, mm",
        "values, SimpleITK",
        "pydicom",
        "naming",
    ]
    keys = ("itk_mm", "pydicom_mm", "nifti_mm", "itk_values", "pydicom_values")
    table = [head]
    for row in part["rows"]:
        size = " x ".join(map(str, row["shape"]))
        naming = ", ".join(row["naming"]) or "none"
        table.append([row["scan"], row["modality"], size, *(f"{row[key]:.2g}" for key in keys), naming])
    left = "a part of it" if part["left"] else "nothing"
    return DICOM.format(run=part["run"], table=_table(table), left=left, refused=part["refused"]) + _footer(part)


SECTIONS = {
    "seams": _seams,
    "segmentors": _segmentors,
    "costs": _costs,
    "audit": _audit,
    "geometry": _geometry,
    "dicom": _dicom,
}


def _groups(rows: Rows, *keys: str) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(key, "")) for key in keys), []).append(row)
    return groups


def _mean(rows: Rows, key: str) -> str:
    values = [row[key] for row in rows if row[key] is not None]
    return f"{statistics.fmean(values):.3g}" if values else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def _footer(part: Mapping[str, Any]) -> str:
    facts = part["environment"]
    packages = facts["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "monai", "numpy") if packages.get(name))
    return f"\n`{facts['command']}`; Python {facts['python']}, {versions}; {facts['platform']}.\n"
