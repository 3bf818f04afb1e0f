"""``medgan export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from medgan.cli.options import Device, Overrides, RunFolder, direction_of


def export(
    run: RunFolder,
    kind: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="bundle, onnx, torchscript, torch_export or nnunet.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder; else RUN/export/FORMAT.", show_default=False)
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="AB|BA", help="Without it, into CT; of programs, both.", show_default=False)
    ] = None,
    dataset: Annotated[
        int | None, typer.Option(metavar="N", help="Of nnunet: the number of the dataset.", show_default=False)
    ] = None,
    with_real: Annotated[
        bool, typer.Option("--with-real", help="Of nnunet: real images of the target domain beside translations.")
    ] = False,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """The run as something that other tools open: a MONAI bundle, bare networks, an nnU-Net dataset."""
    from medgan.config import InputError, suggest
    from medgan.experiment import run_experiment
    from medgan.export import Format, export_model
    from medgan.rundir import RunDir

    if kind not in get_args(Format):
        raise InputError(f"--format {kind}: unknown; {suggest(kind, get_args(Format))}")
    place = RunDir(run)
    study = run_experiment(place, overrides or [])
    way = direction_of(direction) if direction else None
    folder = output or place.export / kind
    options, translating = study.export, study.translate
    classes = study.cases.classes if study.samples is None else {}
    if kind == "nnunet":
        from medgan.data.cases import load_cases
        from medgan.export.nnunet import export_nnunet

        if dataset is None:
            raise InputError("export: nnU-Net numbers its datasets; add --dataset, such as 501")
        cases = load_cases(study.cases, Path())
        typer.echo(
            export_nnunet(
                place,
                folder if output else place.export,
                cases,
                dataset=dataset,
                with_real=with_real,
                direction=way,
                options=options,
                translating=translating,
                classes=classes,
                device=device,
            )
        )
        return
    if dataset is not None or with_real:
        raise InputError("export: --dataset and --with-real go with --format nnunet; leave them out")
    of_kind = cast("Any", kind)
    typer.echo(
        export_model(
            place, folder, kind=of_kind, direction=way, options=options, translating=translating, classes=classes
        )
    )
