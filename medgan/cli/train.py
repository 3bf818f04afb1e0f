"""``medgan train``."""

from __future__ import annotations

import typer

from medgan.cli.options import Device, ExperimentFile, Overrides, RunFolder, begin


def train(experiment: ExperimentFile, run: RunFolder, device: Device = "auto", overrides: Overrides = None) -> None:
    """Train; the same command again goes on where it stopped."""
    study, place = begin(experiment, run, overrides)
    from medgan.train import train

    verdict = train(study.recipe, study.train, place, seed=study.seed, device=device, samples=study.samples)
    if verdict:
        typer.echo(f"training: {verdict}")
