"""What else a run's verbs have checked, as tables of the report's page: the audit of translations, and their seams."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from medgan.data.store import read_json
from medgan.page import table


def quality_html(run: Path) -> str:
    """Tables of ``translate/*/audit.csv`` and of the seam fields of ``translate/*/cases.json``, where there are any."""
    text = []
    for folder in sorted(path for path in (run / "translate").glob("*") if path.is_dir()):
        text += _audit(folder)
        text += _seams(folder)
    return "".join(text)


def _audit(folder: Path) -> list[str]:
    path = folder / "audit.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        heads, *rows = [*csv.reader(file)] or [[]]
    if not heads:
        return []
    return [f"<h3>Audit, {escape(folder.name)}</h3>", _sheet(heads, rows, f"{len(rows)} rows of {path.name}")]


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
