"""One HTML page about a run: numbers with their intervals, tables, curves, and every case to look through.

Reads files, not models. The page loads nothing from anywhere, so that it can be sent and kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from rich.progress import track

from medgan.config import InputError, StrictModel, read_yaml, suggest, validate
from medgan.data.store import read_json
from medgan.history import history_html
from medgan.page import page, picture, table
from medgan.quality import quality_html
from medgan.results import ScoredCase, cases_html, facts, read_summary, results_html, worst_first
from medgan.rundir import Direction, RunDir
from medgan.viewer import viewer_html, viewer_scripts
from medgan.views import Views, load_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#747d89"  # readable on white and on black


class ReportOptions(StrictModel):
    """The `report:` section."""

    max_cases: int = Field(12, ge=0, description="cases shown in pictures in each direction, the worst first")
    ct_window_hu: tuple[float, float] = Field((-250.0, 450.0), description="HU drawn black and white")
    difference_hu: float = Field(300.0, gt=0, description="HU off the truth at the ends of the colour bar")
    previews: int = Field(6, ge=0, description="training previews shown, evenly over the training")
    viewer_voxels: int = Field(
        8_000_000,
        ge=0,
        description="voxels of each kind of image that the page holds, over all cases; volumes beyond it are reduced "
        "by whole factors; 0 leaves the viewer out",
    )


def report(run: RunDir | Path | str, options: ReportOptions | None = None) -> Path:
    """Write ``report/index.html`` of a run from what its verbs have left so far, and return its path.

    Args:
        run: folder of the run.
        options: None takes the `report:` section of the run.

    Raises:
        InputError: no run there, or a file of it that cannot be read.
    """
    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    settings = _settings(run)
    options = options or validate(ReportOptions, settings.get("report", {}), "report")
    summary = read_summary(run.path)
    environment = read_json(run.environment_json) if run.environment_json.is_file() else {}
    title = str(settings.get("name") or run.path.resolve().name)
    shown = _shown(summary, options.max_cases)
    sections = [
        ("results", "Results", results_html(summary)),
        ("cases", "Cases", cases_html(summary, {one.key for one in shown})),
        ("pictures", "Pictures", "".join(_pictures(run, summary, shown, options))),
        ("quality", "Quality", quality_html(run.path)),
        ("training", "Training", history_html(run.train, options.previews)),
        ("run", "Run", _provenance(environment, run.experiment_yaml.read_text(encoding="utf-8"))),
    ]
    scripts = viewer_scripts() if shown and options.viewer_voxels else ""
    html = page(title, _subtitle(settings, environment), [section for section in sections if section[2]], scripts)
    return _written(run.report / "index.html", html)


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
    from medgan.plates import draw_views

    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    found = {one.subject: one for one in reversed(_evaluated(run)) if direction in (None, one.way)}
    if case not in found:
        raise InputError(f"{run.path}: no case '{case}'; {suggest(case, found)}")
    return draw_views(_views(run, found[case], options or ReportOptions()), ink=ink, ground=ground)


def _settings(run: RunDir) -> dict[str, Any]:
    if not run.experiment_yaml.is_file():
        raise InputError(f"{run.path}: holds no run (no {run.experiment_yaml.name}); give the folder of one")
    return read_yaml(run.experiment_yaml)


def _evaluated(run: RunDir) -> list[ScoredCase]:
    """Every scored case of a run, the worst of each direction first."""
    summary = read_summary(run.path)
    if summary is None:
        raise InputError(f"{run.path}: not evaluated; run `medgan evaluate {run.path}` first")
    return [one for way in summary["directions"] for one in worst_first(summary, way)]


def _shown(summary: Mapping[str, Any] | None, most: int) -> list[ScoredCase]:
    """The cases that are shown in pictures: the worst of each direction."""
    return [one for way in summary["directions"] for one in worst_first(summary, way)[:most]] if summary else []


def _views(run: RunDir, one: ScoredCase, options: ReportOptions) -> Views:
    window, error = options.ct_window_hu, options.difference_hu
    return load_views(run.path, one.way, one.part, one.case, one.classes, ct_window_hu=window, error_hu=error)


def _pictures(
    run: RunDir, summary: Mapping[str, Any] | None, shown: Sequence[ScoredCase], options: ReportOptions
) -> Iterator[str]:
    if not summary or not shown:
        return
    from medgan.pictures import label_colours
    from medgan.plates import draw_views

    limit = options.viewer_voxels // len(shown)
    way = None
    for one in track(shown, description="pictures"):
        if one.way != way:
            way = one.way
            yield f"<h3>{escape(one.part['title'])}</h3>"
            rest = len(one.part["cases"]) - options.max_cases
            if rest > 0:
                yield (
                    f"<p class='quiet'>The worst {options.max_cases} of {len(one.part['cases'])}; {rest} more cases "
                    "are not shown; raise <code>report.max_cases</code>.</p>"
                )
        views = _views(run, one, options)
        drawn = picture(draw_views(views, ink=_INK, ground="none"), f"cuts of {one.subject}")
        files: dict[str, str] = {view.kind: one.case["files"][view.kind] for view in views.images if view.path}
        scroll = viewer_html(views, limit, label_colours(views.classes), files) if limit else ""
        yield (
            f"<figure class='case' id='{escape(one.anchor)}'>"
            f"<figcaption><b>{escape(one.subject)}</b><span>{' &middot; '.join(facts(one))}</span></figcaption>"
            f"{drawn}{scroll}</figure>"
        )


def _provenance(environment: Mapping[str, Any], configuration: str) -> str:
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


def _subtitle(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    recipe = settings.get("recipe")
    name = recipe.get("name") if isinstance(recipe, Mapping) else recipe
    versions = environment.get("packages") or {}
    told = [name, f"medgan {versions['medgan']}" if versions.get("medgan") else None]
    told += [f"seed {environment['seed']}" if environment.get("seed") is not None else None]
    return " &middot; ".join(escape(str(fact)) for fact in told if fact)


def _written(target: Path, html: str) -> Path:
    """Write a page so that a reader finds the old or the new one, and return its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(html, encoding="utf-8")
    partial.replace(target)
    return target
