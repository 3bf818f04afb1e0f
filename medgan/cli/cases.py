"""``medgan cases``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cases(
    table: Annotated[Path, typer.Argument(metavar="CASES.csv", help="The table to write.", show_default=False)],
    a: Annotated[
        str, typer.Option("--A", metavar="FOLDER[:WHAT]", help="Domain A, such as Task03:CT.", show_default=False)
    ],
    b: Annotated[
        str, typer.Option("--B", metavar="FOLDER[:WHAT]", help="Domain B, such as bids:T1w.", show_default=False)
    ],
    same_patients: Annotated[
        bool, typer.Option("--same-patients", help="A name means the same patient in both folders.")
    ] = False,
) -> None:
    """A case table from folders of nnU-Net, the Medical Segmentation Decathlon or BIDS."""
    from medgan.cases import write_cases

    for side, listing in zip("AB", write_cases(table, a, b, same_patients=same_patients), strict=True):
        labelled = sum(one.label is not None for one in listing.images)
        typer.echo(f"{side}: {listing.layout}, {len(listing.images)} images, {labelled} with labels", err=True)
        if listing.classes:
            named = ", ".join(f"{value}: {name}" for value, name in listing.classes.items())
            typer.echo(f"{side}: classes: {{{named}}}", err=True)
    typer.echo(table)
