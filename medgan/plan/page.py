"""A plan for people: the configuration with a comment beside every value, and a table for the terminal."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medgan.manual import manual
from medgan.plan import Plan
from medgan.plan.decisions import Decision
from medgan.plan.machine import GIB

_WIDTH = 118


def plan_yaml(experiment: BaseModel, plan: Plan, *, command: str) -> str:
    """The whole configuration as YAML. Planned values stand under their reasons, the others beside their meanings.

    Args:
        experiment: with the plan's decisions.
        plan: why.
        command: that trains with it, for the head of the file.
    """
    values = experiment.model_dump(mode="json")
    meanings = _meanings(type(experiment), values)
    reasons = {decision.key: decision.why for decision in plan.decisions}
    head = [*_headline(plan), "", *plan.notes, f"  {command}"]
    lines = [f"# {line}".rstrip() for text in head for line in (textwrap.wrap(text, _WIDTH - 2) or [""])]
    if head[-1].startswith("  "):
        lines[-1] = f"#   {command}"
    return "\n".join([*lines, *_section(values, "", meanings, reasons)]) + "\n"


def _headline(plan: Plan) -> list[str]:
    machine = plan.machine
    cases = " and ".join(f"{one.cases} {one.name} ({one.training} to learn from)" for one in plan.facts)
    hours = plan.num_steps * plan.step_seconds / 3600
    return [
        f"Made by medgan plan from {cases}.",
        f"For {machine.device}, {machine.memory_bytes / GIB:.1f} GiB ({machine.source}), {machine.cores} cores: "
        f"{plan.peak_bytes / GIB:.2f} GiB predicted, {plan.step_seconds:.2g} s a step, {hours:.1f} h in all.",
    ]


def _meanings(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, str]:
    """What each key means, by the manual; of a component, the options of the one that was chosen."""
    choices = {key: str(value["name"]) for key, value in _mappings(values, "") if "name" in value}
    found: dict[str, str] = {}
    for line in manual(model, choices):
        found.setdefault(line.key, line.text)
    return found


def _mappings(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{prefix}{key}", value
            yield from _mappings(value, f"{prefix}{key}.")


def _section(
    values: Mapping[str, Any], prefix: str, meanings: Mapping[str, str], reasons: Mapping[str, str]
) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, value in values.items():
        place = f"{prefix}{key}"
        if place in reasons:
            yield from (f"{indent}# {line}" for line in textwrap.wrap(reasons[place], _WIDTH - len(indent) - 2))
        if isinstance(value, Mapping) and value and not prefix:
            yield f"{key}:"
            yield from _section(value, f"{place}.", meanings, reasons)
        elif isinstance(value, Mapping) and _is_large(value):
            yield f"{indent}{key}:"
            yield from _section(value, f"{place}.", meanings, reasons)
        else:
            line = f"{indent}{key}: {_flow(value)}"
            meaning = "" if place in reasons else meanings.get(place, "")
            yield f"{line}  # {meaning}" if meaning and len(line) + len(meaning) + 4 <= _WIDTH else line


def _is_large(value: Mapping[str, Any]) -> bool:
    """Whether a mapping wants a line per key."""
    return len(_flow(value)) > 80 or any(isinstance(inner, Mapping) and inner for inner in value.values())


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def plan_json(plan: Plan) -> str:
    """The plan in full: decisions, prediction, model, dry steps, facts."""
    values = {
        "decisions": [asdict(decision) for decision in plan.decisions],
        "predicted": {
            "peak_gib": plan.peak_bytes / GIB,
            "step_seconds": plan.step_seconds,
            "num_steps": plan.num_steps,
        },
        "model": asdict(plan.model),
        "dry_steps": [asdict(sample) | {"voxels": sample.voxels} for sample in plan.samples],
        "machine": asdict(plan.machine),
        "facts": [
            {
                "domain": one.name,
                "cases": one.cases,
                "training": one.training,
                "labelled": one.labelled,
                "median_spacing_mm": _medians(one.spacings_mm),
                "median_shape": _medians(one.shapes),
                "body_mm": one.body_mm.tolist(),
            }
            for one in plan.facts
        ],
        "notes": list(plan.notes),
    }
    return json.dumps(values, indent=1) + "\n"


def _medians(rows: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.median(rows, axis=0)]


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """The decisions as a table, and what is predicted."""
    console = console or Console()
    table = Table("", "value", "why", title="plan", expand=False)
    for decision in plan.decisions:
        table.add_row(
            Text(decision.key), Text(_shown(decision)), Text(decision.why, "dim" if decision.why == "as given" else "")
        )
    console.print(table)
    for line in (*_headline(plan)[1:], *plan.notes):
        console.print(line, highlight=False)


def _shown(decision: Decision) -> str:
    value = decision.value
    if isinstance(value, Mapping):
        return ", ".join(f"{inner}" if key == "name" else f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return _flow(value)
