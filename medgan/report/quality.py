"""What else a run's verbs have found out, as tables of the report's page: organ volumes, distances, audits, seams."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from medgan.data.store import read_json
from medgan.report.page import table

_SETS = {"real": "real images of others", "translation": "translations", "source": "sources, untranslated"}


def quality_html(run: Path, summary: Mapping[str, Any] | None) -> str:
    """What there is of: organ volumes, distances without pairs, ``translate/*/audit.csv``, seams in ``cases.json``."""
    text = _volumes(run / "evaluate" / "volumes.csv")
    for part in summary["directions"].values() if summary else ():
        text += _distances(part)
    for folder in sorted(path for path in (run / "translate").glob("*") if path.is_dir()):
        text += _audit(folder)
        text += _hidden(folder)
        text += _seams(folder)
    return "".join(text)


def _volumes(path: Path) -> list[str]:
    rows = _read(path)
    told = "Bland and Altman: mean difference from the reference in ml, limits of agreement, 95 % intervals; a row each"
    return ["<h3>Volumes of organs</h3>", _sheet(rows[0], rows[1:], told)] if len(rows) > 1 else []


def _distances(part: Mapping[str, Any]) -> list[str]:
    """Distances of features from real images, a row per plane and set."""
    rows, heads = [], ["plane", "set"]
    for plane, sets in (part.get("distances") or {}).items():
        for name, measures in sets.items():
            heads += [key for key in measures if key not in heads]
            values = [_text(measures.get(key)) for key in heads[2:]]
            rows.append([plane, _SETS.get(name, name), *values])
    if not rows:
        return []
    told = "From real images of the target, by features; the row of other real images is the floor"
    return [f"<h3>Distances without pairs, {escape(part['title'])}</h3>", _sheet(heads, rows, told)]


def _read(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row]


def _audit(folder: Path) -> list[str]:
    path = folder / "audit.csv"
    heads, *rows = _read(path) or [[]]
    if not heads:
        return []
    return [f"<h3>Audit, {escape(folder.name)}</h3>", _sheet(heads, rows, f"{len(rows)} rows of {path.name}")]


def _hidden(folder: Path) -> list[str]:
    """The error of the way back for each level of noise on the translation."""
    path = folder / "audit.json"
    found = read_json(path).get("hidden") if path.is_file() else None
    if not found:
        return []
    rows = [[_text(noise), _text(error)] for noise, error in zip(found["noise"], found["error"], strict=True)]
    told = f"Validation cases: {found['cases']}. One that multiplies under the least noise: the cycle hides the source"
    heads = ["noise on the translation", "error of the way back"]
    return [f"<h3>Way back under noise, {escape(folder.name)}</h3>", _sheet(heads, rows, told)]


def _seams(folder: Path) -> list[str]:
    path = folder / "cases.json"
    if not path.is_file():
        return []
    told = [(str(row.get("subject", "")), _flat(row)) for row in read_json(path)]
    heads = list(dict.fromkeys(key for _, row in told for key in row))
    if not heads:
        return []
    rows = [[subject, *(_text(row.get(key)) for key in heads)] for subject, row in told]
    return [
        f"<h3>Seams, {escape(folder.name)}</h3>",
        _sheet(["case", *heads], rows, "What was measured where windows meet"),
    ]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are about seams, nested ones by their path."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if "seam" not in str(key):
            continue
        if isinstance(value, Mapping):
            found |= {f"{key} {inner}": one for inner, one in value.items()}
        else:
            found[str(key)] = value
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _sheet(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    words = [escape(head.replace("_", " ")) for head in heads]
    cells = [[f"<!--{escape(value)}-->{escape(_short(value))}" for value in row] for row in rows]
    return table(words, cells, caption, sortable=True)


def _short(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return value
    return value if number.is_integer() else f"{number:.4g}"
