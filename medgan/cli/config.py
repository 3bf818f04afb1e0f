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

        typer.echo(
            json.dumps(
                {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}, indent=2
            )
        )
        return
    from medgan.manual import print_manual

    print_manual(Experiment, {"recipe": recipe or ""})
