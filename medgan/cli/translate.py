"""``medgan translate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan.cli.options import Device, Overrides, RunFolder, WayThere, Workers, direction_of

if TYPE_CHECKING:
    from medgan.rundir import Direction
    from medgan.translate.outputs import Output


def translate(
    run: RunFolder,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT", help="Volumes or folders; without any, the run's test cases.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where translations of INPUT go.", show_default=False)
    ] = None,
    direction: WayThere = None,
    force: Annotated[bool, typer.Option("--force", help="Write over translations of INPUT that stand.")] = False,
    segmentor: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run, whose segmentor reads the labels.", show_default=False),
    ] = None,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also a DICOM series on the slices of each INPUT that is one.")
    ] = False,
    keep_patient: Annotated[
        bool, typer.Option("--keep-patient", help="Keep patient and study of INPUT in the DICOM series.")
    ] = False,
    workers: Workers = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Every n-th INPUT only, from the i-th.", show_default=False)
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Then compare organs with those of the sources: audit.csv.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Then map the spread over networks, and the way back's error.")
    ] = False,
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="RUN", help="Another run for --uncertainty; repeatable.", show_default=False),
    ] = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Volumes in the other modality, on their own grids."""
    from medgan.config import InputError
    from medgan.data.cases import load_cases
    from medgan.experiment import run_experiment
    from medgan.rundir import RunDir
    from medgan.translate import directions, translate, translate_run
    from medgan.translate.outputs import plan_outputs, share

    place = RunDir(run)
    study = run_experiment(place, overrides or [])
    ways = [direction_of(direction)] if direction else directions(place, study.translate.checkpoint)
    by = RunDir(segmentor) if segmentor else None
    if others and not uncertainty:
        raise InputError("translate: --with goes with --uncertainty; add it, or leave the runs out")

    def inspect(way: Direction, outputs: Sequence[Output] | None) -> None:
        """What --audit and --uncertainty ask for, of these translations, or of the run's own."""
        if audit:
            from medgan.translate.audit import audit_files, audit_run

            cases, options = load_cases(study.cases, Path()), study.translate
            if outputs is None:
                told = audit_run(place, cases, direction=way, segmentor=by, options=options, device=device)
            else:
                told = audit_files(place, cases, outputs, direction=way, segmentor=by, options=options, device=device)
            typer.echo(told)
        if uncertainty:
            from medgan.translate.uncertainty import load_uncertainty, targets_of, write_uncertainty

            runs = [RunDir(path) for path in others or ()]
            maps = load_uncertainty(place, way, options=study.translate, device=device, others=runs)
            for path in write_uncertainty(maps, targets_of(place, way, outputs), force=force):
                typer.echo(path)

    if not inputs:
        if output or force or dicom or shard or workers > 1:
            raise InputError(
                "translate: --output, --force, --dicom, --workers and --shard go with INPUT; name volumes, or leave "
                "them out"
            )
        cases = load_cases(study.cases, Path())
        for way in ways:
            index = translate_run(place, cases, direction=way, options=study.translate, device=device, segmentor=by)
            typer.echo(index)
            inspect(way, None)
        return
    if output is None:
        raise InputError("translate: INPUT without --output; name a folder to write into")
    if keep_patient and not dicom:
        raise InputError("translate: --keep-patient goes with --dicom; NIfTI names no patient")
    if len(ways) > 1:
        raise InputError(f"translate: the run translates {' and '.join(ways)}; add --direction")
    part = _shard(shard) if shard else None
    mistake: InputError | None = None
    try:
        for path in translate(
            place,
            inputs,
            output,
            direction=ways[0],
            options=study.translate,
            device=device,
            force=force,
            segmentor=by,
            dicom=dicom,
            keep_patient=keep_patient,
            workers=workers,
            shard=part,
        ):
            typer.echo(path)
    except InputError as error:
        mistake = error
    outputs = share(plan_outputs(inputs, output, as_dicom=dicom), part) if audit or uncertainty else []
    if standing := [one for one in outputs if one.image.exists()]:
        inspect(ways[0], standing)
    if mistake:
        raise mistake


def _shard(text: str) -> tuple[int, int]:
    from medgan.config import InputError

    index, _, count = text.partition("/")
    if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise InputError(f"--shard {text}: not i/n; write 1/4 for the first of four shares")
    return int(index), int(count)
