"""``medgan config``."""

from __future__ import annotations

from typing import Annotated

import typer


def config(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Name of a recipe: explain its options too.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="A JSON Schema, for editors to complete and check.")] = False,
) -> None:
    """Every field of a configuration: meaning, type, unit and default."""
    from medgan.experiment import Experiment

    if schema:
        import json

        from medgan.schema import json_schema

        typer.echo(json.dumps(json_schema(Experiment), indent=1))
        return
    from medgan.manual import print_manual

    print_manual(Experiment, {"recipe": recipe or ""})
