"""``medgan check``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan.cli.options import Overrides

if TYPE_CHECKING:
    from medgan.check import Checked


def check(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Volumes, folders, globs, zips, DICOM folders, CASES.csv, EXPERIMENT.yaml.",
            show_default=False,
        ),
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Read every voxel, not headers alone.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the findings as JSON.", show_default=False)] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write mended copies there of what can be mended without a guess.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes at a time; 0 is one for each core.")] = 0,
    overrides: Overrides = None,
) -> None:
    """What is wrong with these data, and how to mend it. Exit code 1 where there are errors."""
    from rich.console import Console

    from medgan.check import Checked, mend, print_check, run_check, write_check

    workers = workers or os.cpu_count() or 1
    plain = [path for path in inputs if path.suffix.lower() not in (*_EXPERIMENTS, *_TABLES)]
    parts = []
    if plain:
        parts.append(run_check(plain, deep=deep, workers=workers, show_progress=True))
    for path in inputs:
        if path.suffix.lower() in _EXPERIMENTS:
            parts.append(_check_experiment(path, overrides, deep=deep, workers=workers))
        elif path.suffix.lower() in _TABLES:
            parts.append(run_check([], table=path, deep=deep, workers=workers, show_progress=True))
    checked = Checked(
        tuple(one for part in parts for one in part.findings), tuple(one for part in parts for one in part.volumes)
    )
    console = Console()
    print_check(checked.findings, checked.volumes, console)
    if not deep:
        console.print("headers only; --deep reads every voxel", style="dim")
    if output is not None:
        write_check(output, checked.findings, checked.volumes)
    if fix is not None:
        for one in mend(checked.findings, fix):
            console.print(f"{one.copy}: {'; '.join(one.done)}", highlight=False, soft_wrap=True)
    if checked.has_errors:
        raise typer.Exit(1)


_EXPERIMENTS, _TABLES = (".yaml", ".yml"), (".csv", ".tsv")


def _check_experiment(path: Path, overrides: list[str] | None, *, deep: bool, workers: int) -> Checked:
    from medgan.check import Checked, refused, run_check
    from medgan.config import InputError
    from medgan.data.cases import load_cases
    from medgan.experiment import load_experiment

    data = load_experiment(path, overrides or []).cases
    try:
        cases = load_cases(data, Path())
    except InputError as error:
        return Checked((refused(path, error),), ())
    return run_check(
        cases,
        data.classes,
        modalities={"A": data.A.modality, "B": data.B.modality},
        names={"A": data.A.name, "B": data.B.name},
        deep=deep,
        workers=workers,
        show_progress=True,
    )
