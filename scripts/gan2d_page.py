"""The page of the two-dimensional study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan2d_films import draw_curve
from gan2d_layout import Run, Runs, table
from gan2d_sections import (
    digits_section,
    enlargement_section,
    films_section,
    points_section,
    slices_section,
    translation_section,
)

NOTES = Path("gan2d_notes.md")  # beside the page, written by hand, told as it stands


def write_page(results: Path, found: Runs, environment: Mapping[str, Any]) -> Path:
    """``gan2d.json`` with all scores and ``gan2d.md``, which tells them; pictures lie in ``gan2d/``."""
    (results / "gan2d.json").write_text(
        json.dumps({"environment": environment, "runs": found}, indent=1) + "\n", encoding="utf-8"
    )
    for run in found.get("stylegan2_slices", [])[:1]:
        scores = run["scores"]
        draw_curve(results / "gan2d" / "stylegan2_slices_kid.png", scores["curve"], scores["floor"]["mean"])
    theory = json.loads((results / "gan_theory.json").read_text(encoding="utf-8"))
    notes = results / NOTES
    sections = [
        _head(environment),
        _theory(theory),
        points_section(found),
        digits_section(found),
        enlargement_section(found),
        translation_section(found),
        slices_section(found),
        films_section(found),
        notes.read_text(encoding="utf-8").rstrip() if notes.exists() else "",
        _runs(found),
    ]
    page = results / "gan2d.md"
    page.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    return page


def _head(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in environment["packages"].items() if number)
    return f"""# The GAN family in two dimensions: what each recipe reaches

Every figure below comes from the configurations in `configs/`, trained and scored by

    python pipelines/gan_theory.py docs/results
    python pipelines/gan_2d.py runs/gan2d

and stands in [gan_theory.json](gan_theory.json) and [gan2d.json](gan2d.json) with its steps, seconds and verdict.
Trainings ran on one thread each, several at a time, on {environment["platform"]} with {environment["processors"]}
processors; {versions}; Python {environment["python"]}. Settings were looked for with seeds from 100 on; the seeds shown
were run with what was found. Scores on synthetic bodies are taken on bodies of a seed of their own, which no training
and no search for settings has seen."""


def _theory(theory: Mapping[str, Any]) -> str:
    rows = [list(row.values()) for row in theory["games"]]
    games = table(
        ["densities", *list(theory["games"][0])[1:]], [[row[0], *map("{:.3f}".format, row[1:])] for row in rows]
    )
    return f"""## Theory

D trained for {theory["steps"]} steps of {theory["samples"]} samples of each density (seed
{theory["environment"]["seed"]}), against what Goodfellow et al. 2014 derive; the support holds 99.5 % of both
densities' mixture. -log 4 = -1.386.

{games}

![D beside D*, and both games' gradients](gan_theory.png)"""


def _runs(found: Runs) -> str:
    rows = [
        [
            f"`{run['config']}`",
            str(run["seed"]),
            _steps(run),
            "" if run["seconds"] is None else f"{run['seconds'] / 60:.1f}",
            f"{run['parameters'] / 1e3:.0f}",
            run["verdict"],
        ]
        for runs in found.values()
        for run in runs
    ]
    head = ["configuration", "seed", "steps", "minutes", "thousand weights", "what the training said of itself"]
    return f"""## The runs

Minutes are of a shared machine, and left out where a training went on after an interruption.

{table(head, rows)}"""


def _steps(run: Run) -> str:
    """How long a training was, and of how long it was to be where it was interrupted."""
    asked = run["configuration"]["train"]["num_steps"]
    return str(asked) if run["steps"] == asked else f"{run['steps']} of {asked}"
