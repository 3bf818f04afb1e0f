"""One HTML page about a run: numbers with their intervals, tables, curves, and every case to look through.

Reads files, not models. The page loads nothing from anywhere, so that it can be sent and kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from rich.progress import track

from medgan.config import InputError, StrictModel, read_yaml, suggest, validate
from medgan.data.store import read_json
from medgan.report.history import history_html, provenance_html, subtitle_html
from medgan.report.page import page, picture, written
from medgan.report.quality import quality_html
from medgan.report.results import ScoredCase, cases_html, facts, read_summary, results_html, worst_first
from medgan.report.side_by_side import cases_table, differences_html, means_html, merged, shared_cases, shared_ways
from medgan.report.viewer import viewer_scripts
from medgan.report.viewer.beside import VolumesBeside
from medgan.report.views import Views, load_views
from medgan.rundir import Direction, RunDir, differences

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
    full_volumes: bool = Field(
        True, description="whether volumes that the page holds reduced lie beside it in full, to be loaded on request"
    )


def report_options(run: RunDir | Path | str, overrides: Sequence[str] = ()) -> ReportOptions:
    """The `report:` section of a run, ``report.key=value`` overrides written into it.

    Nothing else of the configuration is looked at, so that runs of other versions have reports too.

    Raises:
        InputError: no run there, an override of another section, or one that does not fit.
    """
    for override in overrides:
        if not override.startswith("report."):
            raise InputError(f"--set {override}: a report depends on its own section alone; set report.key=value")
    return validate(ReportOptions, _settings(_place(run), overrides).get("report", {}), "report")


def report(run: RunDir | Path | str, options: ReportOptions | None = None, output: Path | None = None) -> Path:
    """Write ``report/index.html`` of a run from what its verbs have left so far, and return its path.

    Args:
        run: folder of the run.
        options: None takes the `report:` section of the run.
        output: another place for the page.

    Raises:
        InputError: no run there, or a file of it that cannot be read.
    """
    run = _place(run)
    settings = _settings(run)
    options = options or report_options(run)
    summary = read_summary(run.path)
    environment = read_json(run.environment_json) if run.environment_json.is_file() else {}
    title = str(settings.get("name") or run.path.resolve().name)
    shown = _shown(summary, options.max_cases)
    target = output or run.report / "index.html"
    beside = VolumesBeside(target, wanted=options.full_volumes)
    sections = [
        ("results", "Results", results_html(summary)),
        ("cases", "Cases", cases_html(summary, {one.key for one in shown})),
        ("pictures", "Pictures", "".join(_pictures(run, summary, shown, options, beside))),
        ("quality", "Quality", quality_html(run.path, summary)),
        ("training", "Training", history_html(run.train, options.previews)),
        ("run", "Run", provenance_html(environment, run.experiment_yaml.read_text(encoding="utf-8"))),
    ]
    scripts = viewer_scripts() if shown and options.viewer_voxels else ""
    html = page(title, subtitle_html(settings, environment), [section for section in sections if section[2]], scripts)
    return beside.tidied(written(target, html))


def report_runs(
    runs: Sequence[RunDir | Path | str], output: Path | None = None, options: ReportOptions | None = None
) -> Path:
    """Write one page that shows evaluated runs side by side, and return its path.

    Args:
        runs: at least two folders of runs.
        output: the page; None puts it into the report of the first run, ``against_<others>.html``.
        options: None takes the `report:` section of the first run.

    Raises:
        InputError: a run that was not evaluated, runs without a direction in common, two of the same name.
    """
    places = [_place(run) for run in runs]
    names = [place.path.resolve().name for place in places]
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)}: two runs of one name; compare copies under other names")
    by_name = dict(zip(names, places, strict=True))
    settings = {name: _settings(place) for name, place in by_name.items()}
    options = options or report_options(places[0])
    summaries = {name: _evaluation(place) for name, place in by_name.items()}
    ways = shared_ways([*summaries.values()])
    if not ways:
        raise InputError(f"{', '.join(names)}: no direction in common; evaluate one that all translate")
    shared = {
        name: {**one, "directions": {way: one["directions"][way] for way in ways}} for name, one in summaries.items()
    }
    changes = {name: differences(settings[names[0]], settings[name]) for name in names[1:]}
    target = output or places[0].report / f"against_{'_'.join(names[1:])}.html"
    beside = VolumesBeside(target, wanted=options.full_volumes)
    pictures = "".join(
        text for way in ways for text in _pictures_side_by_side(by_name, shared, way, len(ways), options, beside)
    )
    titles = {way: escape(shared[names[0]]["directions"][way]["title"]) for way in ways}
    sections = [
        ("results", "Results", _compared(shared)),
        ("cases", "Cases", "".join(f"<h3>{titles[way]}</h3>{cases_table(shared, way)}" for way in ways)),
        ("pictures", "Pictures", pictures),
        ("run", "Configurations", differences_html(changes, names[0])),
    ]
    told = " &middot; ".join(f"{escape(name)}: {subtitle_html(settings[name], {})}" for name in names)
    scripts = viewer_scripts() if options.viewer_voxels else ""
    html = page(", ".join(names), told, [section for section in sections if section[2]], scripts)
    return beside.tidied(written(target, html))


def _compared(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    from medgan.evaluate.comparison import compare

    try:
        return means_html(compare(summaries))
    except InputError as reason:  # each run has numbers of its own, even where they do not compare
        text = f"<p class='warning'>No differences are shown: {escape(str(reason))}</p>"
        return text + "".join(f"<h3>{escape(name)}</h3>{results_html(one)}" for name, one in summaries.items())


def _pictures_side_by_side(
    runs: Mapping[str, RunDir],
    summaries: Mapping[str, Mapping[str, Any]],
    way: str,
    number_of_ways: int,
    options: ReportOptions,
    beside: VolumesBeside,
) -> Iterator[str]:
    from medgan.pictures import label_colours
    from medgan.report.plates import draw_views

    cases = shared_cases(summaries, way, options.max_cases)
    yield f"<h3>{escape(next(iter(summaries.values()))['directions'][way]['title'])}</h3>" if cases else ""
    for scored in track(cases, description="pictures"):
        views = merged({name: _views(runs[name], one, options) for name, one in scored.items()})
        subject = next(iter(scored.values())).subject
        if views is None:
            yield f"<p class='quiet'>{escape(subject)}: its translations lie on different grids.</p>"
            continue
        limit = options.viewer_voxels // (len(cases) * number_of_ways)
        drawn = picture(
            draw_views(replace(views, labels={}), ink=_INK, ground="none"), f"cuts of {subject} in each run"
        )
        scroll = beside.viewer(f"{way}_{subject}", views, limit, label_colours(views.classes), {})
        told = "".join(f"<span>{escape(name)}: {' &middot; '.join(facts(one))}</span>" for name, one in scored.items())
        yield f"<figure class='case'><figcaption><b>{escape(subject)}</b>{told}</figcaption>{drawn}{scroll}</figure>"


def save_figure(
    run: RunDir | Path | str,
    path: Path,
    cases: Sequence[str] = (),
    direction: Direction | None = None,
    options: ReportOptions | None = None,
) -> Path:
    """Write a figure for papers, a row of axial cuts per case, and return its path.

    Args:
        run: folder of an evaluated run.
        path: the file; its ending says the format, .pdf or .svg for vector text.
        cases: subjects, in this order; none takes the best, the median and the worst.
        direction: None takes the first that was evaluated.
        options: None takes the `report:` section of the run.

    Raises:
        InputError: the run was not evaluated, has no such case or direction, or the format is not known.
    """
    from medgan.report.plates import plate, save_plate

    run = _place(run)
    options = options or report_options(run)
    summary = _evaluation(run)
    way: str = direction or next(iter(summary["directions"]))
    if way not in summary["directions"]:
        raise InputError(f"{run.path}: not evaluated in direction {way}; it has {', '.join(summary['directions'])}")
    ranked = worst_first(summary, way)
    found = {one.subject: one for one in ranked}
    for case in cases:
        if case not in found:
            raise InputError(f"{run.path}: no case '{case}'; {suggest(case, found)}")
    spread = dict.fromkeys((ranked[-1].subject, ranked[len(ranked) // 2].subject, ranked[0].subject))
    shown = [found[case] for case in cases or spread]
    save_plate(plate([_views(run, one, options) for one in shown], [one.subject for one in shown]), path)
    return path


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
    from medgan.report.plates import draw_views

    run = _place(run)
    found = {one.subject: one for one in reversed(_evaluated(run)) if direction in (None, one.way)}
    if case not in found:
        raise InputError(f"{run.path}: no case '{case}'; {suggest(case, found)}")
    return draw_views(_views(run, found[case], options or ReportOptions()), ink=ink, ground=ground)


def _place(run: RunDir | Path | str) -> RunDir:
    return run if isinstance(run, RunDir) else RunDir(Path(run))


def _settings(run: RunDir, overrides: Sequence[str] = ()) -> dict[str, Any]:
    if not run.experiment_yaml.is_file():
        raise InputError(f"{run.path}: not a run (no {run.experiment_yaml.name}); name the folder of one")
    return read_yaml(run.experiment_yaml, overrides)


def _evaluated(run: RunDir) -> list[ScoredCase]:
    """Every scored case of a run, the worst of each direction first."""
    summary = _evaluation(run)
    return [one for way in summary["directions"] for one in worst_first(summary, way)]


def _evaluation(run: RunDir) -> dict[str, Any]:
    summary = read_summary(run.path)
    if summary is None:
        raise InputError(f"{run.path}: not evaluated; run `medgan evaluate {run.path}` first")
    return summary


def _shown(summary: Mapping[str, Any] | None, most: int) -> list[ScoredCase]:
    """The cases that are shown in pictures: the worst of each direction."""
    return [one for way in summary["directions"] for one in worst_first(summary, way)[:most]] if summary else []


def _views(run: RunDir, one: ScoredCase, options: ReportOptions) -> Views:
    window, error = options.ct_window_hu, options.difference_hu
    return load_views(run.path, one.way, one.part, one.case, one.classes, ct_window_hu=window, error_hu=error)


def _pictures(
    run: RunDir,
    summary: Mapping[str, Any] | None,
    shown: Sequence[ScoredCase],
    options: ReportOptions,
    beside: VolumesBeside,
) -> Iterator[str]:
    if not summary or not shown:
        return
    from medgan.pictures import label_colours
    from medgan.report.plates import draw_views

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
        scroll = beside.viewer(f"{one.way}_{one.subject}", views, limit, label_colours(views.classes), files)
        yield (
            f"<figure class='case' id='{escape(one.anchor)}'>"
            f"<figcaption><b>{escape(one.subject)}</b><span>{' &middot; '.join(facts(one))}</span></figcaption>"
            f"{drawn}{scroll}</figure>"
        )
