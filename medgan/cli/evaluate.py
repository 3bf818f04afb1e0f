"""``medgan evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan.cli.options import Overrides, WayThere, Workers, direction_of

if TYPE_CHECKING:
    from medgan.evaluate import EvaluateOptions


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="A run, or with --reference a folder of volumes from anywhere; several are compared.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What the volumes should be; same names.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to compare; same names.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the numbers go.", show_default=False)
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also by a challenge's figures, for CT; repeatable.", show_default=False),
    ] = None,
    direction: WayThere = None,
    workers: Workers = 1,
    overrides: Overrides = None,
) -> None:
    """Translations against the truth, per case and in summary."""
    from medgan.config import InputError
    from medgan.evaluate import (
        EvaluateOptions,
        comparison_table,
        distances_table,
        evaluate_folders,
        evaluate_run,
        evaluate_several,
        presets_table,
        summary_table,
        volumes_folder,
    )

    way = direction_of(direction) if direction else None
    if mask and reference is None:
        raise InputError("evaluate: --mask goes with --reference; leave it out")
    if overrides and reference is not None:
        raise InputError("evaluate: --set goes with runs, which have a configuration; leave --reference out")
    if output is None and (reference is not None or len(predictions) > 1):
        raise InputError("evaluate: --reference or several runs without --output; name a folder to write into")
    if output is not None and reference is None and len(predictions) == 1:
        raise InputError("evaluate: one run writes into itself; leave --output out")
    if reference is None:
        options = [_with_presets(_evaluate_options(path, overrides), preset) for path in predictions]
    else:
        options = [_with_presets(EvaluateOptions(), preset)] * len(predictions)
    if len(predictions) > 1 and output is not None:
        compared = evaluate_several(
            predictions, output, reference=reference, mask=mask, options=options, direction=way, workers=workers
        )
        _print_table(*comparison_table(compared))
        typer.echo(output)
        return
    (path,), (chosen,) = predictions, options
    if reference is not None and output is not None:
        volumes = volumes_folder(path, way)
        summary, folder = evaluate_folders(volumes, reference, output, mask, chosen, workers=workers), output
    else:
        summary, folder = evaluate_run(path, chosen, direction=way, workers=workers), path / "evaluate"
    _print_table(*summary_table(summary))
    _print_table(*presets_table(summary))
    _print_table(*distances_table(summary))
    typer.echo(folder)


def _evaluate_options(run: Path, overrides: list[str] | None) -> EvaluateOptions:
    from medgan.experiment import run_experiment
    from medgan.rundir import RunDir

    return run_experiment(RunDir(run), overrides or []).evaluate


def _with_presets(options: EvaluateOptions, presets: list[str] | None) -> EvaluateOptions:
    from medgan.config import validate

    if not presets:
        return options
    asked = list(dict.fromkeys([*options.presets, *presets]))
    return validate(type(options), {**options.model_dump(), "presets": asked}, "--preset")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
