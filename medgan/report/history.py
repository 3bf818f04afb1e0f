"""How a run came about, as parts of the report's page: curves, previews over time, configuration, versions, command."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from medgan.report.page import curve, table


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


def provenance_html(environment: Mapping[str, Any], configuration: str) -> str:
    """The command, what it ran on, and the exact configuration."""
    packages = environment.get("packages") or {}
    told = {key: value for key, value in environment.items() if key != "packages" and value not in (None, [], "")}
    command = told.pop("command", None)
    told |= {name: number for name, number in packages.items() if number}
    rows = [[escape(str(key)), f"<code>{escape(_plain(value))}</code>"] for key, value in told.items()]
    listed = table(["what", "value"], rows, "What the run ran on", text=True) if rows else ""
    said = f"<p class='quiet'>Command</p><pre>{escape(str(command))}</pre>" if command else ""
    return (
        f"{said}<div class='facts'>{listed}</div><details><summary>Configuration, every default written out</summary>"
        f"<pre>{escape(configuration)}</pre></details>"
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def subtitle_html(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Recipe, version and seed, for below the title."""
    recipe = settings.get("recipe")
    name = recipe.get("name") if isinstance(recipe, Mapping) else recipe
    versions = environment.get("packages") or {}
    told = [name, f"medgan {versions['medgan']}" if versions.get("medgan") else None]
    told += [f"seed {environment['seed']}" if environment.get("seed") is not None else None]
    return " &middot; ".join(escape(str(fact)) for fact in told if fact)


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
