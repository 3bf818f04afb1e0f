"""One HTML page about a run: numbers with their intervals, tables, curves, and every case in pictures.

Reads files, not models. The page loads nothing from anywhere, so that it can be sent and kept.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.progress import track

from medgan.config import InputError, StrictModel, read_yaml, suggest, validate
from medgan.data.store import read_json
from medgan.data.volume import Volume, read_volume
from medgan.page import curve, page, table
from medgan.results import ScoredCase, cases_html, facts, results_html, worst_first
from medgan.rundir import Direction, RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medgan.pictures import Style

_INK = "#808894"  # readable on white and on black


class ReportOptions(StrictModel):
    """The `report:` section."""

    max_cases: int = Field(12, ge=0, description="cases shown in pictures in each direction, the worst first")
    ct_window_hu: tuple[float, float] = Field((-250.0, 450.0), description="HU drawn black and white")
    difference_hu: float = Field(300.0, gt=0, description="HU off the truth at the ends of the colour bar")
    previews: int = Field(6, ge=0, description="training previews shown, evenly over the training")


def report(run: RunDir | Path | str, options: ReportOptions | None = None) -> Path:
    """Write ``report/index.html`` of a run from what its verbs have left so far, and return its path.

    Args:
        run: folder of the run.
        options: None takes the `report:` section of the run.

    Raises:
        InputError: no run there, or a file of it that cannot be read.
    """
    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    if not run.experiment_yaml.is_file():
        raise InputError(f"{run.path}: holds no run (no {run.experiment_yaml.name}); give the folder of one")
    settings = read_yaml(run.experiment_yaml)
    options = options or validate(ReportOptions, settings.get("report", {}), "report")
    summary_file = run.evaluate / "summary.json"
    summary = read_json(summary_file) if summary_file.is_file() else None
    environment = read_json(run.environment_json) if run.environment_json.is_file() else {}
    title = str(settings.get("name") or run.path.resolve().name)
    sections = [
        ("results", "Results", results_html(summary)),
        ("cases", "Cases", cases_html(summary)),
        ("pictures", "Pictures", "".join(_pictures(run, summary, options))),
        ("training", "Training", _training(run.train, options.previews)),
        ("run", "Run", _provenance(environment, run.experiment_yaml.read_text(encoding="utf-8"))),
    ]
    html = page(title, _subtitle(settings, environment), [section for section in sections if section[2]])
    run.report.mkdir(parents=True, exist_ok=True)
    target = run.report / "index.html"
    partial = target.with_name(f".index.html.{os.getpid()}")
    partial.write_text(html, encoding="utf-8")
    partial.replace(target)
    return target


def figure(
    run: RunDir | Path | str,
    case: str,
    direction: Direction | None = None,
    options: ReportOptions | None = None,
    *,
    ink: str = "#222222",
    ground: str = "white",
) -> Figure:
    """Three orthogonal cuts of a case's source, translation, truth, difference and outlines, for papers and pages.

    Args:
        run: folder of an evaluated run.
        case: the subject.
        direction: None takes the first in which the case was translated.
        options: windows of the pictures.
        ink: colour of the writing.
        ground: colour behind it, or "none".

    Raises:
        InputError: the run was not evaluated, has no such case, or a file of the case cannot be read.
    """
    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    summary_file = run.evaluate / "summary.json"
    if not summary_file.is_file():
        raise InputError(f"{run.path}: not evaluated; run `medgan evaluate {run.path}` first")
    summary = read_json(summary_file)
    found = {
        entry["subject"]: ScoredCase(part, entry)
        for way, part in reversed(summary["directions"].items())
        if direction in (None, way)
        for entry in part["cases"]
    }
    if case not in found:
        raise InputError(f"{run.path}: no case '{case}'; {suggest(case, found)}")
    return _draw(run, summary, found[case], options or ReportOptions(), ink, ground)


def _draw(
    run: RunDir, summary: Mapping[str, Any], shown: ScoredCase, options: ReportOptions, ink: str, ground: str
) -> Figure:
    from medgan.pictures import Panel, draw_cuts

    paths = {key: run.path / path for key, path in shown.case["files"].items()}
    volumes = {key: read_volume(path) for key, path in paths.items()}
    translation = volumes["translation"]
    mask = _mask_of(run, summary, shown, translation)
    source, target = shown.part["source"], shown.part["target"]

    def window(side: Mapping[str, str], key: str) -> tuple[float, float]:
        if side["modality"] == "ct":
            return options.ct_window_hu
        return _percentiles(volumes[key].array, mask)

    truth = "reference" if "reference" in volumes else "translation"
    span = window(target, truth)
    unit = _unit(target, span)
    panels = []
    if "source" in volumes:
        own = window(source, "source")
        panels.append(Panel(f"source ({source['name']})", volumes["source"].array, own, _unit(source, own)))
    panels.append(Panel(f"translation ({target['name']})", translation.array, span, unit))
    if "reference" in volumes:
        difference = translation.array.astype(np.float32) - volumes["reference"].array
        end = options.difference_hu if target["modality"] == "ct" else (span[1] - span[0]) / 2
        word = "HU" if target["modality"] == "ct" else "stored units"
        panels.append(Panel(f"truth ({target['name']})", volumes["reference"].array, span, unit))
        panels.append(
            Panel("translation - truth", difference, (-end, end), f"{word}, inside the mask", "RdBu_r", where=mask)
        )
    classes = {int(label): name for label, name in summary["classes"].items()}
    kinds: tuple[tuple[str, Style, str], ...] = (
        ("segmentation", "solid", "read off the translation"),
        ("reference_label" if "reference_label" in volumes else "label", "dotted", "label"),
    )
    outlines = tuple((volumes[key].array, style, word) for key, style, word in kinds if key in volumes)
    if outlines and classes:
        panels.append(Panel("outlines", translation.array, span, unit, outlines=outlines))
    centre = [int(np.median(where)) for where in np.nonzero(mask)]
    return draw_cuts(panels, translation.affine, centre, classes, ink=ink, ground=ground)


def _mask_of(run: RunDir, summary: Mapping[str, Any], shown: ScoredCase, like: Volume) -> NDArray[np.bool_]:
    """The mask that the case was scored in; everywhere if it was not kept."""
    way = next(way for way, part in summary["directions"].items() if part is shown.part)
    path = run.evaluate / way / f"{shown.case['subject']}_mask.nii.gz"
    return read_volume(path).array > 0 if path.is_file() else np.ones(like.array.shape, dtype=bool)


def _percentiles(image: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[float, float]:
    low, high = (float(value) for value in np.nanpercentile(image[mask], (0.5, 99.5)))
    return (low, high) if low < high else (low, low + 1)


def _unit(side: Mapping[str, str], window: tuple[float, float]) -> str:
    if side["modality"] == "ct":
        return f"HU, window {window[0]:g} to {window[1]:g}"
    return f"stored units, {window[0]:.0f} to {window[1]:.0f}"


def _pictures(run: RunDir, summary: Mapping[str, Any] | None, options: ReportOptions) -> Iterator[str]:
    for part in summary["directions"].values() if summary else ():
        shown = worst_first(part)
        yield f"<h3>{escape(part['title'])}</h3>"
        for one in track(shown[: options.max_cases], description=f"pictures, {part['title']}"):
            assert summary is not None
            drawn = _draw(run, summary, one, options, _INK, "none")
            subject, numbers = escape(one.case["subject"]), ", ".join(facts(one))
            yield (
                f"<figure class='case'>"
                f"<figcaption><b>{subject}</b> &nbsp; {numbers}</figcaption>"
                f"<img loading='lazy' alt='cuts of {subject}' src='{_data_uri(drawn)}'></figure>"
            )
        if len(shown) > options.max_cases:
            rest = len(shown) - options.max_cases
            yield f"<p class='quiet'>{rest} more cases are not shown; raise <code>report.max_cases</code>.</p>"


def _data_uri(drawn: Figure) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(drawn)
    file = io.BytesIO()
    drawn.savefig(file, format="webp", dpi=110, pil_kwargs={"quality": 88})
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _training(folder: Path, previews: int) -> str:
    text = []
    for name, title in (("losses.jsonl", "Losses"), ("validation.jsonl", "Validation")):
        lines = _read_lines(folder / name)
        for player, terms in groupby(sorted(_terms(lines)), key=lambda term: term.partition("/")[0] * ("/" in term)):
            curves = "".join(curve(term, [(x["step"], x[term]) for x in lines if term in x]) for term in terms)
            text.append(f"<h3>{title}{f', {escape(player)}' if player else ''}</h3><div class='curves'>{curves}</div>")
    found = sorted((folder / "previews").glob("*.png"))
    if found and previews:
        columns_file = folder / "previews" / "columns.json"
        columns = ", ".join(map(str, read_json(columns_file))) if columns_file.is_file() else ""
        kept = [found[i] for i in sorted({round(i) for i in np.linspace(0, len(found) - 1, previews)})][::-1]
        text.append(f"<h3>Previews</h3><p class='quiet'>From left to right: {escape(columns)}</p>" if columns else "")
        for path in kept:
            uri, step = base64.b64encode(path.read_bytes()).decode(), path.stem.lstrip("0") or "0"
            text.append(
                f"<details class='preview'{' open' if path is kept[0] else ''}><summary>step {step}</summary>"
                f"<img alt='preview at step {step}' src='data:image/png;base64,{uri}'></details>"
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
    return {key for line in lines for key, value in line.items() if key != "step" and isinstance(value, int | float)}


def _provenance(environment: Mapping[str, Any], configuration: str) -> str:
    packages = environment.get("packages") or {}
    facts = {key: value for key, value in environment.items() if key != "packages" and value not in (None, [], "")}
    facts |= {name: number for name, number in packages.items() if number}
    rows = [[escape(str(key)), f"<code>{escape(_plain(value))}</code>"] for key, value in facts.items()]
    listed = table(["what", "value"], rows, "What the run ran on", text=True) if rows else ""
    return (
        f"{listed}<details><summary>configuration, every default written out</summary>"
        f"<pre>{escape(configuration)}</pre></details>"
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _subtitle(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    recipe = settings.get("recipe")
    name = recipe.get("name") if isinstance(recipe, Mapping) else recipe
    versions = environment.get("packages") or {}
    facts = [name, f"medgan {versions['medgan']}" if versions.get("medgan") else None, environment.get("command")]
    return " &middot; ".join(escape(str(fact)) for fact in facts if fact)
