"""``medgan report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.options import Overrides, direction_of


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run's folder; several are compared.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; else in the (first) run's report folder.", show_default=False),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.pdf", help="A figure for papers instead; or .svg, .png.", show_default=False),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(help="A row of the figure; repeatable. Else best, median, worst.", show_default=False),
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="AB|BA", help="Of the figure; else the first.", show_default=False)
    ] = None,
    overrides: Overrides = None,
) -> None:
    """One self-contained HTML page with curves, tables, pictures and volumes, or a figure for papers."""
    from medgan.config import InputError
    from medgan.report import report, report_options, report_runs, save_figure

    options = report_options(runs[0], overrides or ())
    if figure is not None:
        if len(runs) > 1 or output is not None:
            raise InputError("report: --figure goes with one RUN and without --output")
        way = direction_of(direction) if direction else None
        typer.echo(save_figure(runs[0], figure, case or (), way, options))
        return
    if case or direction:
        raise InputError("report: --case and --direction go with --figure; leave them out")
    if len(runs) > 1:
        typer.echo(report_runs(runs, output, options))
    else:
        page = report(runs[0], options, output)
        typer.echo(page)
        _track(runs[0], page)


def _track(run: Path, page: Path) -> None:
    """Keep the page with the run, where a tracker that keeps files knows it."""
    if not (run / "train" / "trackers.json").is_file():
        return
    from medgan.experiment import run_experiment
    from medgan.rundir import RunDir
    from medgan.train.trackers import track_report

    for name in track_report(RunDir(run), run_experiment(RunDir(run)).train.trackers, page):
        typer.echo(f"kept by {name}", err=True)
