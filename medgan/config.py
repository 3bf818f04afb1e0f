"""Strict YAML to frozen, typed models: what a user may write, and one clear line when it is wrong.

A verb's section of a configuration is a `StrictModel`. A choice of a class with its options (a network, a recipe, an
intensity map) is a `Component`: ``{name: unet, channels: 16}``, checked against the signature of what the name stands for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_type_hints

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo


Model = TypeVar("Model", bound=BaseModel)


class InputError(ValueError):
    """A mistake that the user can mend. The message is one line: the place, the value, the way out."""


class StrictModel(BaseModel):
    """A section of a configuration: frozen, and no key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Component(BaseModel):
    """A class chosen by name, with its keyword options: ``{name: unet, channels: 16}`` or just ``unet``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="a name from the table, or the dotted name of an importable class")

    @property
    def options(self) -> dict[str, Any]:
        """The options beside the name."""
        return dict(self.model_extra or {})


Table = Mapping[str, Callable[..., Any]]


def resolve(name: str, table: Table, kind: str) -> Callable[..., Any]:
    """What `name` stands for: an entry of `table`, or any importable class or function by dotted name.

    Raises:
        InputError: nothing of that name; the nearest names are suggested.
    """
    if name in table:
        return table[name]
    module, dot, attribute = name.rpartition(".")
    if not dot:
        raise InputError(f"unknown {kind} '{name}'; {suggest(name, table)}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{kind} '{name}' cannot be imported ({error}); check the dotted name") from None
    if not callable(found):
        raise InputError(f"{kind} '{name}' is not a class or a function")
    return found  # type: ignore[no-any-return]


@cache
def signature_model(target: Callable[..., Any]) -> type[StrictModel]:
    """The keyword-only parameters of `target` as a strict model, with the meanings that stand in its signature."""
    function = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return create_model(target.__name__, __base__=StrictModel, **fields)


def bind(component: Component, table: Table, kind: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The class that a component names and its checked options, defaults filled in.

    Raises:
        InputError: an unknown name or option, or a value of the wrong type or range.
    """
    target = resolve(component.name, table, kind)
    model = validate(signature_model(target), component.options, component.name)
    return target, {name: getattr(model, name) for name in type(model).model_fields}


class Choices:
    """Marks a field as a component of one table; `medgan config` reads the table from here."""

    def __init__(self, table: Table, kind: str) -> None:
        self.table = table
        self.kind = kind

    def fill(self, component: Component) -> Component:
        """The component with every default written out, so that a resolved configuration is complete."""
        target = resolve(component.name, self.table, self.kind)
        model = signature_model(target).model_validate(component.options)
        return Component.model_validate({"name": component.name, **model.model_dump(mode="json")})


def component(table: Table, kind: str) -> Any:
    """A field type: a component of `table`, checked when the configuration is read.

    ``Generator = component(GENERATORS, "generator")`` then serves as an annotation.
    """
    choices = Choices(table, kind)

    def from_name(value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    return Annotated[Component, BeforeValidator(from_name), AfterValidator(choices.fill), choices]


def validate(model: type[Model], values: object, place: str = "") -> Model:
    """`values` as a `model`.

    Raises:
        InputError: one line for the first mistake: its place, the value and the way out.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(_first_mistake(error, model, place)) from None


def _first_mistake(error: ValidationError, model: type[BaseModel], place: str) -> str:
    first = error.errors()[0]
    where = ".".join(filter(None, [place, *(str(part) for part in first["loc"])]))
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        return f"{where}: unknown key; {suggest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"{where}: missing; give it a value"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):  # options of a component, checked against another model
        return _first_mistake(cause, model, where)
    message = str(cause) if cause is not None else first["msg"][0].lower() + first["msg"][1:]
    value = repr(first["input"])
    return f"{where or 'configuration'}: {message}" + (f"; got {value}" if cause is None and len(value) < 80 else "")


def _known_keys(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (inspect.isclass(inner) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


def suggest(wrong: str, right: Iterable[str]) -> str:
    """'did you mean ...?' where one name is near, else the list of all names."""
    right = sorted(str(name) for name in right)
    near = difflib.get_close_matches(wrong, right, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(right)}"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: PyYAML reads ``2e-4`` as text, this reads it as a number. A key written twice is an error."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:float"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key '{twice[0]}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?([eE][-+]?\d+)?|\.inf|\.nan)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A YAML mapping from a file, with ``section.key=value`` overrides written into it.

    Raises:
        InputError: no such file, not YAML, not a mapping, or an override without ``=``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); give a YAML file") from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a mapping of sections; see the files in configs/")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise InputError(f"--set {override}: not of the form section.key=value")
        *sections, last = key.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise InputError(f"--set {override}: '{section}' is a value, not a section")
        inner[last] = _parse(value, f"--set {override}")
    return values


def _parse(text: str, place: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{place}{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from None


def write_yaml(path: Path, model: BaseModel) -> None:
    """The resolved configuration, every default written out."""
    path.write_text(yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True), encoding="utf-8")


class Meaning(StrictModel):
    """One line of `medgan config`: a field, its type, its default and what it means."""

    key: str
    kind: str
    default: str
    text: str

    @classmethod
    def of(cls, key: str, field: FieldInfo) -> Self:
        """The meaning of one pydantic field."""
        kind = getattr(field.annotation, "__name__", str(field.annotation))
        if "[" in str(field.annotation) or "|" in str(field.annotation):
            kind = str(field.annotation).replace("typing.", "").replace("NoneType", "None").replace("pathlib._local.", "")
        choices = next((mark for mark in field.metadata if isinstance(mark, Choices)), None)
        if choices:
            kind = " | ".join(choices.table)
        default = "required" if field.is_required() else _show(field.get_default(call_default_factory=True))
        return cls(key=key, kind=kind, default=default, text=field.description or "")


def _show(value: object) -> str:
    if isinstance(value, Component):
        return " ".join([value.name, *(f"{key}={option}" for key, option in value.options.items())])
    return str(value)


def meanings(model: type[BaseModel], prefix: str = "") -> list[Meaning]:
    """Every field of a model, nested sections and the choices of each component included, in the order of the file."""
    lines: list[Meaning] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = field.annotation
        if inspect.isclass(inner) and issubclass(inner, BaseModel) and inner is not Component:
            lines += meanings(inner, f"{key}.")
            continue
        lines.append(Meaning.of(key, field))
        for mark in field.metadata:
            if isinstance(mark, Choices):
                for choice, target in mark.table.items():
                    lines += meanings(signature_model(target), f"{key}[{choice}].")
    return lines
