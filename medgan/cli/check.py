"""``medgan check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan.cli.options import Overrides

if TYPE_CHECKING:
    from medgan.check import Finding


def check(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", help="CASES.csv, EXPERIMENT.yaml, volumes or folders of volumes.", show_default=False
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="Also write the findings as JSON.", show_default=False)] = None,
    overrides: Overrides = None,
) -> None:
    """What is wrong with these data, and how to mend it."""
    from medgan.check import print_check, run_check, write_check

    findings = []
    for path in inputs:
        if path.suffix.lower() in (".yaml", ".yml"):
            findings += _check_experiment(path, overrides)
        elif path.suffix.lower() in (".csv", ".tsv"):
            findings += run_check([], table=path, show_progress=True)
        else:
            findings += run_check([path], show_progress=True)
    print_check(findings)
    if output is not None:
        write_check(output, findings)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _check_experiment(path: Path, overrides: list[str] | None) -> list[Finding]:
    from medgan.check import run_check
    from medgan.data.cases import load_cases
    from medgan.experiment import load_experiment

    data = load_experiment(path, overrides or []).cases
    return run_check(
        load_cases(data, Path()),
        data.classes,
        modalities={"A": data.A.modality, "B": data.B.modality},
        show_progress=True,
    )
