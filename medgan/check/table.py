"""Findings as a table, the most severe first and what many files share in one row, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from medgan.check.findings import KINDS, SEVERITIES, Finding, Severity, counts, grouped
from medgan.check.volumes import Facts

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS: dict[Severity, str] = {"error": "●", "warning": "▲", "note": "·"}
_EXAMPLES = 3


def print_check(findings: Sequence[Finding], volumes: Sequence[Facts] = (), console: Console | None = None) -> None:
    """What there is, what is wrong with it, and the count of findings in one last line."""
    console = console or Console()
    root = _common_folder([*(one.place for one in findings), *(one.place for one in volumes)])
    if any(one.series for one in volumes):
        console.print(_series_table([one for one in volumes if one.series], root))
    if volumes:
        console.print(_inventory(volumes))
    if findings:
        console.print(_findings_table(findings, root))
    if root:
        console.print(Text(f"places start at {root}", style="dim"))
    console.print(_last_line(findings))


def write_check(path: Path, findings: Sequence[Finding], volumes: Sequence[Facts] = ()) -> None:
    """Findings and what is known of each volume, as JSON: counts, findings (most severe first), volumes."""
    values = {
        "counts": counts(findings),
        "findings": [
            {"severity": one.severity, **asdict(one)} for group in grouped(findings) for one in group.findings
        ],
        "volumes": [one.summary() for one in volumes],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _findings_table(findings: Sequence[Finding], root: str) -> RenderableType:
    """A row for each kind of finding: what it is and the way out, how often, and where."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=False)
    table.add_column("finding", ratio=4, min_width=30)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("where", ratio=5, min_width=30, overflow="fold")
    for group in grouped(findings):
        severity = KINDS[group.kind].severity
        title = Text(f"{_MARKS[severity]} {KINDS[group.kind].title}", _STYLES[severity])
        way_out = Padding(Text(_way_out(group.findings), "dim"), (0, 0, 0, 2))
        count = Text(str(len(group.findings)), _STYLES[severity])
        table.add_row(Group(title, way_out), count, _where(group.findings, root))
        table.add_row()
    return Padding(table, (1, 0, 0, 0))


def _where(findings: Sequence[Finding], root: str) -> RenderableType:
    """The first places with what was found there; one line for what all of them share."""
    shared = len(findings) > 1 and len({one.what for one in findings}) == 1
    names = [_short(one.place, root) for one in findings[:_EXAMPLES]]
    more = f"and {len(findings) - _EXAMPLES} more"
    if shared:
        lines = [Text(_short(findings[0].what, root)), Text(", ".join(names), "bold")]
    else:
        lines = []
        for name, one in zip(names, findings, strict=False):
            lines.append(Text.assemble((name, "bold"), f"  {_short(one.what, root)}"))
    return Group(*lines, *([Text(more, "dim")] if len(findings) > _EXAMPLES else []))


def _way_out(findings: Sequence[Finding]) -> str:
    """What to do: of the one kind of finding, or of its first where they differ."""
    return findings[0].way_out if len({one.way_out for one in findings}) == 1 else KINDS[findings[0].kind].way_out


def _inventory(volumes: Sequence[Facts]) -> RenderableType:
    """How many volumes of which kind, and the range of their shapes, spacings and values."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("volumes", "count", "shape", "spacing in mm", "values"):
        table.add_column(name, justify="right" if name == "count" else "left")
    for word in ("CT", "MR", "images", "label maps"):
        of = [one for one in volumes if _word(one) == word]
        if of:
            values = [number for one in of if one.low is not None for number in (one.low, one.high or 0.0)]
            table.add_row(
                word,
                str(len(of)),
                " x ".join(_span([one.shape[axis] for one in of]) for axis in range(3)),
                " x ".join(_span([one.spacing_mm[axis] for one in of]) for axis in range(3)),
                f"{min(values):g} to {max(values):g}" if values else "not read",
            )
    return Padding(table, (1, 0, 0, 0))


def _series_table(series: Sequence[Facts], root: str) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("DICOM series", "", "shape", "spacing in mm"):
        table.add_column(name, overflow="fold")
    for one in series:
        shape = " x ".join(map(str, one.shape))
        spacing = " x ".join(f"{length:.3g}" for length in one.spacing_mm)
        place = Text.assemble((_short(one.place, root), "bold"), f"\n{one.series}")
        table.add_row(place, (one.modality or "").upper(), shape, spacing)
    return Padding(table, (1, 0, 0, 0))


def _word(one: Facts) -> str:
    if one.is_label:
        return "label maps"
    return {"ct": "CT", "mr": "MR"}.get(one.modality or "", "images")


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g}-{high:.3g}"


def _last_line(findings: Sequence[Finding]) -> Text:
    line = Text()
    found = counts(findings)
    for severity in SEVERITIES:
        word = f"{found[severity]} {severity}{'s' * (found[severity] != 1)}"
        line.append(word, style=_STYLES[severity] if found[severity] else "dim")
        line.append("" if severity == SEVERITIES[-1] else ", ")
    return line


def _common_folder(places: Sequence[str]) -> str:
    """The folder that all places have in common, where that shortens them; what is no path is left out."""
    folders = [str(Path(place).parent) for place in places if os.sep in place]
    if len(folders) < 2 or len({Path(folder).is_absolute() for folder in folders}) > 1:
        return ""
    common = os.path.commonpath(folders)
    return common if common not in ("", ".", os.sep) else ""


def _short(text: str, root: str) -> str:
    return text.replace(root + os.sep, "") if root else text
