"""``medgan sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from medgan.cli.options import Device, Overrides, RunFolder


def sample(
    run: RunFolder,
    output: Annotated[Path, typer.Option(metavar="FILE", help="A .png, or .npy for the numbers.", show_default=False)],
    number: Annotated[int, typer.Option("-n", help="Samples, or rows of walks and pairs.", min=1)] = 64,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="grid, walk, classes, pairs or points.", show_default=False)
    ] = None,
    classes: Annotated[
        list[int] | None, typer.Option("--class", help="Ask for this class; repeatable.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same samples.", min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that stands.")] = False,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """New images of a generative run, or translations of a 2D run beside their sources, as a picture."""
    from medgan.config import InputError, suggest
    from medgan.experiment import run_experiment
    from medgan.rundir import RunDir
    from medgan.sample import KINDS, sample

    if kind is not None and kind not in KINDS:
        raise InputError(f"--kind {kind}: unknown; {suggest(kind, KINDS)}")
    place = RunDir(run)
    options = run_experiment(place, overrides or []).sample
    of_kind = cast("Any", kind)
    asked = classes or []
    typer.echo(
        sample(
            place,
            output,
            kind=of_kind,
            count=number,
            classes=asked,
            seed=seed,
            options=options,
            device=device,
            force=force,
        )
    )
