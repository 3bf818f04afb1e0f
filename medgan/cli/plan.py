"""``medgan plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medgan.cli.options import Overrides


def plan(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="EXPERIMENT.yaml, CASES.csv, or two folders of volumes: A, then B.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where experiment.yaml and plan.json go.")] = Path(
        "plan"
    ),
    memory_gb: Annotated[
        float | None, typer.Option(help="GiB that training may take; without it, what is free now.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="That will train: auto, cpu, cuda, here or not.", show_default=False)
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="For the whole training; without it, as the data want.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an earlier plan.")] = False,
    overrides: Overrides = None,
) -> None:
    """Fit spacing, patch, networks, batch and steps to the cases and to a machine's memory; says why."""
    from medgan.config import InputError, validate
    from medgan.experiment import Experiment
    from medgan.plan import plan
    from medgan.plan.page import plan_json, plan_yaml, print_plan

    target = output / "experiment.yaml"
    if target.exists() and not force:
        raise InputError(f"{target}: stands already; --force writes over it, --output names another folder")
    values = _values(inputs, overrides or [])
    said = {"memory_gb": memory_gb, "device": device, "hours": hours}
    values["plan"] = {**(values.get("plan") or {}), **{key: value for key, value in said.items() if value is not None}}
    study = validate(Experiment, values)
    made = plan(
        study.cases,
        study.plan,
        preprocess=study.preprocess,
        recipe=study.recipe,
        train=study.train,
        given=values,
        root=Path(),
    )
    for decision in made.decisions:
        _put(values, decision.key, decision.value)
    planned = validate(Experiment, values)
    print_plan(made)
    output.mkdir(parents=True, exist_ok=True)
    command = f"medgan preprocess {target} RUN && medgan train {target} RUN"
    target.write_text(plan_yaml(planned.moved(Path(), output), made, command=command), encoding="utf-8")
    (output / "plan.json").write_text(plan_json(made), encoding="utf-8")
    typer.echo(f"{target}: {command}")


def _values(inputs: list[Path], overrides: list[str]) -> dict[str, Any]:
    """The configuration as given, or one drafted from cases, its relative paths starting here."""
    from medgan.config import read_yaml, write_over
    from medgan.experiment import load_experiment
    from medgan.plan.draft import draft

    if len(inputs) == 1 and inputs[0].suffix.lower() in (".yaml", ".yml"):
        values = read_yaml(inputs[0], overrides)
        values["data"] = load_experiment(inputs[0], overrides).data.model_dump(mode="json")
        return values
    values = draft(inputs)
    for override in overrides:
        write_over(values, override)
    return values


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    section, _, last = key.partition(".")
    chosen = values.get(section)
    values[section] = {"name": chosen} if isinstance(chosen, str) else dict(chosen or {})
    values[section][last] = value
