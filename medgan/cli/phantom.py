"""``medgan phantom``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where they go.", show_default=False)],
    number: Annotated[int, typer.Option("-n", help="Training subjects of each domain.", min=1)] = 12,
    test: Annotated[int, typer.Option(help="Test subjects, seen by both scanners.", min=0)] = 4,
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels along x, y and z.")] = (48, 48, 24),
    seed: Annotated[int, typer.Option(help="The same seed makes the same bodies.", min=0)] = 0,
) -> None:
    """Synthetic CT and MR cases with labels, to try things on."""
    from medgan.data.phantom import write_phantoms

    table = write_phantoms(folder, subjects_per_domain=number, test_subjects=test, shape=shape, seed=seed)
    typer.echo(table)
