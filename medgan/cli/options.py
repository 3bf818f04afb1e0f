"""Arguments and options that several verbs have, and what their words mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from medgan.experiment import Experiment
    from medgan.rundir import Direction, RunDir

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The study; see configs/.", show_default=False)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="section.key=value", help="Instead of what the file says; repeatable.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; auto takes a GPU where there is one.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes at a time.")]
WayThere = Annotated[
    str | None,
    typer.Option(metavar="AB|BA", help="A to B or B to A; without it, all that were trained.", show_default=False),
]


def direction_of(text: str) -> Direction:
    from medgan.config import InputError, suggest

    if text not in ("AB", "BA"):
        raise InputError(f"--direction {text}: unknown; {suggest(text, ('AB', 'BA'))}")
    return cast("Direction", text)


@contextmanager
def begun(experiment: Path, run: Path, overrides: list[str] | None) -> Iterator[tuple[Experiment, RunDir]]:
    """The study and its run, which no other process writes meanwhile."""
    from medgan.experiment import load_experiment
    from medgan.lock import hold
    from medgan.rundir import RunDir

    study, place = load_experiment(experiment, overrides or []), RunDir(run)
    with hold(run):
        study.begin(place)
        yield study, place
