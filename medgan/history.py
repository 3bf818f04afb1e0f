"""How a training went, as a part of the report's page: curves of what was logged, and previews over time."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from medgan.page import curve


def history_html(folder: Path, previews: int) -> str:
    """Losses, validation scores and previews of a run's ``train`` folder; empty where it has none.

    Args:
        folder: of the training.
        previews: how many to show, evenly over the training; the latest is open.
    """
    text = []
    for name, title in (("validation.jsonl", "Validation"), ("losses.jsonl", "Losses")):
        lines = _read_lines(folder / name)
        for player, terms in groupby(sorted(_terms(lines)), key=lambda term: term.partition("/")[0] * ("/" in term)):
            curves = "".join(curve(term, [(x["step"], x[term]) for x in lines if term in x]) for term in terms)
            if curves:
                head = f"{title}{f', {escape(player)}' if player else ''}"
                text.append(f"<h3>{head}</h3><div class='curves'>{curves}</div>")
    return "".join(text) + _previews(folder / "previews", previews)


def _previews(folder: Path, number: int) -> str:
    found = sorted(folder.glob("*.png"))
    if not found or not number:
        return ""
    columns_file = folder / "columns.json"
    columns = json.loads(columns_file.read_text(encoding="utf-8")) if columns_file.is_file() else []
    told = f"<p class='quiet'>From left to right: {escape(', '.join(map(str, columns)))}</p>" if columns else ""
    kept = [found[i] for i in sorted({round(i) for i in np.linspace(0, len(found) - 1, number)})][::-1]
    text = [f"<h3>Previews over the training</h3>{told}"]
    for path in kept:
        uri, step = base64.b64encode(path.read_bytes()).decode(), path.stem.lstrip("0") or "0"
        text.append(
            f"<details class='preview'{' open' if path is kept[0] else ''}><summary>step {escape(step)}</summary>"
            f"<img alt='preview at step {escape(step)}' src='data:image/png;base64,{uri}'></details>"
        )
    return "".join(text)


def _read_lines(path: Path) -> list[dict[str, float]]:
    """The lines of a JSON-lines file; a last line that is still being written is left out."""
    lines: list[dict[str, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _terms(lines: Sequence[Mapping[str, float]]) -> set[str]:
    return {
        key
        for line in lines
        if "step" in line
        for key, value in line.items()
        if key != "step" and isinstance(value, int | float)
    }
