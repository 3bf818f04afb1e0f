"""``medgan preprocess``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.options import ExperimentFile, Overrides, RunFolder, Workers, begun


def preprocess(
    experiment: ExperimentFile,
    run: RunFolder,
    workers: Workers = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Shared by runs: what one has computed, another takes.", show_default=False
        ),
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw every case, for RUN/preprocess/quality.")] = False,
    overrides: Overrides = None,
) -> None:
    """Orient, resample, harmonise, crop, normalise and store every case once."""
    with begun(experiment, run, overrides) as (study, place):
        from medgan.preprocess import preprocess

        preprocess(study.cases, study.preprocess, Path(), place.preprocess, workers, cache=cache, pictures=pictures)
