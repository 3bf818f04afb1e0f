"""``medgan train``."""

from __future__ import annotations

from typing import Annotated

import typer

from medgan.cli.options import Device, ExperimentFile, Overrides, RunFolder, begun

OnNan = Annotated[
    str | None,
    typer.Option(
        metavar="stop|skip",
        help="At a loss that is not finite: stop, or go on without that batch, train.max_skipped times.",
        show_default=False,
    ),
]


def train(
    experiment: ExperimentFile,
    run: RunFolder,
    device: Device = "auto",
    on_nan: OnNan = None,
    overrides: Overrides = None,
) -> None:
    """Train; the same command again goes on where it stopped, also after SIGTERM or SIGUSR1, which save first."""
    changes = [*(overrides or []), *([f"train.on_nan={on_nan}"] if on_nan else [])]
    with begun(experiment, run, changes) as (study, place):
        from medgan.train import train

        verdict = train(study.recipe, study.train, place, seed=study.seed, device=device, samples=study.samples)
    if verdict:
        typer.echo(f"training: {verdict}")
