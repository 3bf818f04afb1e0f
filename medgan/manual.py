"""The manual of a configuration: every field with its meaning, type, unit and default, read off the models."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from medgan.config import Choices, Component, StrictModel, choices_of, members_of, resolve, signature_model, summary

_WORDS = {NoneType: "null", str: "text", Path: "path", Any: "anything"}
_UNITS = {"mm": "mm", "hu": "HU", "every": "steps", "steps": "steps"}


@dataclass(frozen=True)
class Meaning:
    """One entry of the manual. A heading has no type and no default."""

    key: str
    kind: str
    unit: str
    default: str
    text: str


def print_manual(model: type[BaseModel], choices: Mapping[str, str]) -> None:
    """The manual on a terminal of any width: keys on the left, whole, so that they can be searched for; see `manual`.

    Raises:
        InputError: a choice that is not in its table.
    """
    console = Console(width=None if sys.stdout.isatty() else 160)
    lines = list(manual(model, choices))
    width = max(len(line.key) for line in lines if line.kind)
    section = ""
    for line in lines:
        parent = line.key.rpartition(".")[0] if line.kind else line.key
        if line.kind and parent != section.partition(":")[0]:
            console.print()
        section = parent if line.kind else line.key
        if not line.kind:
            console.print(Padding(Text.assemble((line.key, "bold"), f" - {line.text}"), (1, 1, 0, 1)))
            continue
        row = Table.grid(padding=(0, 2))
        row.add_column(width=width)
        row.add_row(Text(line.key), _told(line))
        console.print(Padding(row, (0, 1)))


def _told(line: Meaning) -> Text:
    """``meaning (type, range, unit; default)``."""
    kind = ", ".join(filter(None, (line.kind, line.unit)))
    default = ("required", "red") if line.default == "required" else (f"default {line.default}", "green")
    return Text.assemble(line.text, " (" if line.text else "(", (kind, "cyan"), "; ", default, ")")


def manual(model: type[BaseModel], choices: Mapping[str, str]) -> Iterator[Meaning]:
    """Every field of a configuration in the order of the file, nested sections and the options of components included.

    Args:
        model: the whole configuration.
        choices: for a component's key, the one name of its table to explain; "" for none, only a line for each;
            without an entry all are explained.

    Raises:
        InputError: a choice that is not in its table.
    """
    yield from _section(model, "", choices, {})


def _section(
    model: type[BaseModel], prefix: str, choices: Mapping[str, str], told: dict[object, str]
) -> Iterator[Meaning]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        mark = next((mark for mark in field.metadata if isinstance(mark, Choices)), None)
        models = [member for member in members_of(field.annotation) if _is_section(member)]
        if mark is not None:
            yield _meaning(key, field, " | ".join(mark.table))
            yield from _component(mark, key, choices, told)
        elif models and models[0] in told:
            yield Meaning(
                key, "section", "", _default(field), f"{field.description}; its keys are those of {told[models[0]]}"
            )
        elif models:
            told[models[0]] = key
            yield Meaning(key, "", "", "", field.description or summary(models[0]))
            yield from _section(models[0], f"{key}.", choices, told)
            for choice in choices_of(field.annotation):
                yield from _component(choice, key, choices, told)
        else:
            yield _meaning(key, field, kind(field.annotation, field.metadata))
            for member in members_of(field.annotation):
                for inner in get_args(member)[1:] if get_origin(member) is dict else ():
                    if _is_section(inner):
                        yield from _section(inner, f"{key}.NAME.", choices, told)


def _component(mark: Choices, key: str, choices: Mapping[str, str], told: dict[object, str]) -> Iterator[Meaning]:
    choice = choices.get(key)
    if choice:
        target = resolve(choice, mark.table, mark.kind)
        yield Meaning(f"{key}: {choice}", "", "", "", summary(target))
        yield from _section(signature_model(target), f"{key}.", choices, told)
        return
    for name, target in mark.table.items():
        if target in told:
            continue
        yield Meaning(f"{key}: {name}", "", "", "", summary(target))
        if choice is None:
            told[target] = key
            yield from _section(signature_model(target), f"{key}.", choices, told)


def _is_section(member: Any) -> bool:
    return inspect.isclass(member) and issubclass(member, StrictModel)


def _meaning(key: str, field: FieldInfo, kind: str) -> Meaning:
    unit = _UNITS.get(key.rpartition(".")[2].rpartition("_")[2], "")
    return Meaning(key, kind, unit, _default(field), field.description or "")


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else _value(field.get_default(call_default_factory=True))


def _value(value: Any) -> str:
    """A value as one would write it in YAML."""
    if isinstance(value, Component):
        return value.name if not value.options else f"{{name: {value.name}, {_value(value.options)[1:]}"
    if isinstance(value, bool | None):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, BaseModel):
        return "see its keys"
    return str(value)


def kind(annotation: Any, metadata: list[Any]) -> str:
    """A type in words, with its range: ``float, >= 0``, ``[int, int, int]``, ``lsgan | hinge``, ``text or null``."""
    bounds = [
        f"{sign} {getattr(mark, name)}"
        for mark in metadata
        for bound, name, sign in (
            (annotated_types.Ge, "ge", ">="),
            (annotated_types.Gt, "gt", ">"),
            (annotated_types.Le, "le", "<="),
            (annotated_types.Lt, "lt", "<"),
        )
        if isinstance(mark, bound)
    ]
    return ", ".join([" or ".join(map(_type, members_of(annotation))), *bounds])


def _type(annotation: Any) -> str:
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    inner = [" or ".join(map(_type, members_of(argument))) for argument in arguments if argument is not Ellipsis]
    if origin is dict:
        return f"{{{inner[0]}: {inner[1]}}}"
    if origin is not None:
        return f"[{', '.join(inner)}{', ...' if origin is list or Ellipsis in arguments else ''}]"
    return _WORDS.get(annotation) or str(getattr(annotation, "__name__", annotation))
