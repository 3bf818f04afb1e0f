"""Strict YAML to frozen, typed models: what a user may write, and one clear line when it is wrong.

A verb's section of a configuration is a `StrictModel`. A choice of a class with its options (a network, a recipe, an
intensity map) is a `Component`, ``{name: unet, channels: 16}``, checked against the signature that the name stands for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Model = TypeVar("Model", bound=BaseModel)


class InputError(ValueError):
    """A mistake that the user can mend. The message is one line: the place, the value, the way out."""


class StrictModel(BaseModel):
    """A section of a configuration: frozen, and no key that nobody reads. A section left empty holds the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, values: Any) -> Any:
        return {} if values is None else values


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
    function = target.__init__ if inspect.isclass(target) else target
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
    """Marks a field as a component of one table; the manual of a configuration reads the table from here.

    `settled` are options without a default that need not be written, since other sections settle them.
    """

    def __init__(self, table: Table, kind: str, settled: Iterable[str] = ()) -> None:
        self.table = table
        self.kind = kind
        self.settled = frozenset(settled)

    def fill(self, component: Component) -> Component:
        """The component with every default written out, so that a resolved configuration is complete."""
        model = signature_model(resolve(component.name, self.table, self.kind))
        try:
            options = model.model_validate(component.options)
        except ValidationError as error:
            raise _OptionsError(error, model) from None
        return Component.model_validate({"name": component.name, **options.model_dump(mode="json")})

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A bare name, or a mapping whose keys depend on the name, for editors to complete."""
        mappings: list[JsonSchemaValue] = []
        for name, target in self.table.items():
            options = _inlined(signature_model(target).model_json_schema())
            options["properties"] = {"name": {"const": name}, **options.get("properties", {})}
            required = [name for name in options.get("required", []) if name not in self.settled]
            options["required"] = ["name", *required]
            mappings.append({**options, "title": name, "description": summary(target)})
        dotted = {"type": "string", "pattern": r"\."}
        elsewhere = {"type": "object", "properties": {"name": dotted}, "required": ["name"], "title": "dotted name"}
        return {"anyOf": [{"enum": list(self.table)}, dotted, *mappings, elsewhere]}


class _OptionsError(ValueError):
    """Mistakes in the options of a component, with the model that they were checked against."""

    def __init__(self, error: ValidationError, model: type[BaseModel]) -> None:
        super().__init__(str(error))
        self.error, self.model = error, model


def summary(target: Callable[..., Any]) -> str:
    """The first paragraph of a docstring, on one line, without marks of code."""
    paragraph = (inspect.getdoc(target) or "").partition("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split())


def _inlined(schema: JsonSchemaValue) -> JsonSchemaValue:
    """A JSON Schema without ``$defs``: each reference replaced by what it names."""
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            rest = {key: inline(value) for key, value in part.items() if key != "$ref"}
            return {**inline(definitions[name]), **rest} if name else rest
        return part

    inlined: JsonSchemaValue = inline(schema)
    return inlined


def component(table: Table, kind: str, settled: Iterable[str] = ()) -> Any:
    """A field type: a component of `table`, checked when the configuration is read; `settled` as in `Choices`.

    ``Generator = component(GENERATORS, "generator")`` then serves as an annotation.
    """
    choices = Choices(table, kind, settled)

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
    # A misspelt key is also a missing one: name the cause, not the consequence.
    first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
    if first["type"] == "extra_forbidden":
        path, section = _trace(model, first["loc"][:-1])
        key = str(first["loc"][-1])
        return f"{'.'.join(filter(None, [place, *path, key]))}: unknown key; {suggest(key, section.model_fields)}"
    path, _ = _trace(model, first["loc"])
    where = ".".join(filter(None, [place, *path]))
    if first["type"] == "missing":
        return f"{where}: missing; give it a value"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, _OptionsError):
        return _first_mistake(cause.error, cause.model, where)
    message = str(cause) if cause is not None else first["msg"][0].lower() + first["msg"][1:]
    value = repr(first["input"])
    message += f"; got {value}" if cause is None and len(value) < 80 else ""
    return " ".join(f"{where or 'configuration'}: {message}".split())


def _trace(model: type[BaseModel], location: Iterable[str | int]) -> tuple[list[str], type[BaseModel]]:
    """A location as the keys that the user wrote (pydantic adds the members of unions), and the section at its end."""
    path: list[str] = []
    section, annotation = model, cast(Any, model)
    for part in location:
        members = list(members_of(annotation))
        container = next((member for member in members if get_origin(member) in (list, tuple, dict)), None)
        if _model_in(annotation) and part in section.model_fields:
            annotation = section.model_fields[str(part)].annotation
        elif container:
            annotation = get_args(container)[-1]
        elif len(members) > 1:
            continue
        path.append(str(part))
        section = _model_in(annotation) or section
    return path, section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    members = members_of(annotation)
    return next((member for member in members if inspect.isclass(member) and issubclass(member, BaseModel)), None)


def members_of(annotation: Any) -> Iterator[Any]:
    """The types of a union, without the wrapping of `Annotated`; any other type is its own only member."""
    if get_origin(annotation) is Annotated:
        yield from members_of(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from members_of(member)
    else:
        yield annotation


def choices_of(annotation: Any) -> Iterator[Choices]:
    """The tables that members of a union are components of."""
    for part in (annotation, *get_args(annotation)):
        yield from (mark for mark in getattr(part, "__metadata__", ()) if isinstance(mark, Choices))


def suggest(wrong: str, right: Iterable[str]) -> str:
    """'did you mean ...?' where one name is near, else the list of all names."""
    right = sorted(str(name) for name in right)
    near = difflib.get_close_matches(wrong, right, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(right)}"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: PyYAML reads ``2e-4`` as text, this reads it as a number. A key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written: list[object] = []
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in written:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
            written.append(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?([eE][-+]?\d+)?|\.inf|\.nan)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A YAML mapping from a file, with ``section.key=value`` overrides written into it.

    Raises:
        InputError: no such file, not YAML, not a mapping, or an override that does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a YAML file, such as those in configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); give a YAML file in UTF-8") from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a mapping of sections; see the files in configs/")
    for override in overrides:
        write_over(values, override)
    return values


def write_over(values: dict[str, Any], override: str) -> None:
    """Write one ``section.key=value`` into a configuration.

    Raises:
        InputError: it does not fit.
    """
    key, equals, value = override.partition("=")
    *sections, last = key.split(".")
    if not equals or not all((*sections, last)):
        raise InputError(f"--set {override}: not of the form section.key=value")
    inner = values
    for section in sections:
        chosen = inner.get(section)
        if isinstance(chosen, str):  # the bare name of a component, which may take options
            chosen = {"name": chosen}
        if not isinstance(chosen, dict | None):
            raise InputError(f"--set {override}: '{section}' is a value, not a section; set it as a whole")
        inner[section] = chosen or {}
        inner = inner[section]
    inner[last] = _parse(value, f"--set {override}")


def _parse(text: str, place: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{place}{line}: not valid YAML ({problem}); mend it there") from None


def write_yaml(path: Path, model: BaseModel) -> None:
    """The resolved configuration, every default written out; the file is replaced whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
