"""``medgan slicer``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.options import Device, direction_of


def slicer(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)] = None,
    source: Annotated[Path | None, typer.Argument(metavar="INPUT", help="The volume.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT.nii.gz", help="Its translation.", show_default=False)
    ] = None,
    segmentation: Annotated[
        Path | None, typer.Option(metavar="FILE.nii.gz", help="Also the labels.", show_default=False)
    ] = None,
    direction: Annotated[str, typer.Option(metavar="auto|AB|BA", help="auto: the only one, or into CT.")] = "auto",
    device: Device = "auto",
    xml: Annotated[bool, typer.Option("--xml", help="Tell 3D Slicer the parameters, and stop.")] = False,
    install: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the module for Slicer into a folder, and stop.", show_default=False),
    ] = None,
) -> None:
    """Translation as a command line module of 3D Slicer."""
    from medgan.config import InputError
    from medgan.slicer import description, translate_for_slicer
    from medgan.slicer import install as write_module

    if xml:
        typer.echo(description(), nl=False)
        return
    if install is not None:
        for path in write_module(install):
            typer.echo(path)
        return
    if run is None or source is None or output is None:
        raise InputError("slicer: RUN, INPUT and OUTPUT are needed; or --install FOLDER, which makes Slicer's module")
    way = None if direction == "auto" else direction_of(direction)
    translate_for_slicer(run, source, output, segmentation=segmentation, direction=way, device=device)
