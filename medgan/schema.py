"""The JSON Schema of a configuration, for editors to complete and check it by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

_LEAST = 200  # characters of JSON below which a part is repeated rather than named


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of `model`, draft 2020-12, with whatever stands in it more than once written once, under ``$defs``."""
    schema = model.model_json_schema()
    named = _Named(schema.pop("$defs", {}), schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **named.whole(schema)}


class _Named:
    """Parts of a schema that occur several times, each under a name of its own."""

    def __init__(self, definitions: dict[str, Any], schema: dict[str, Any]) -> None:
        count = Counter(_key(part) for part in _parts([definitions, schema]) if _is_nameable(part))
        self.repeated = {key for key, times in count.items() if times > 1 and len(key) >= _LEAST}
        self.names: dict[str, str] = {}
        self.definitions: dict[str, Any] = {}
        self.taken = set(definitions)
        self.given = definitions

    def whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with references in place of repeated parts, and what they refer to."""
        main = {key: self._shortened(value) for key, value in schema.items()}
        given = {name: self._shortened(part, is_named=True) for name, part in self.given.items()}
        return {**main, "$defs": dict(sorted({**given, **self.definitions}.items()))}

    def _shortened(self, part: Any, *, is_named: bool = False) -> Any:
        if isinstance(part, list):
            return [self._shortened(item) for item in part]
        if not isinstance(part, dict):
            return part
        if not is_named and _is_nameable(part) and (key := _key(part)) in self.repeated:
            return {"$ref": f"#/$defs/{self._name(key, part)}"}
        return {key: self._shortened(value) for key, value in part.items()}

    def _name(self, key: str, part: dict[str, Any]) -> str:
        if key not in self.names:
            title = "_".join(str(part["title"]).split())
            name, number = title, 2
            while name in self.taken:
                name, number = f"{title}_{number}", number + 1
            self.taken.add(name)
            self.names[key] = name
            self.definitions[name] = self._shortened(part, is_named=True)
        return self.names[key]


def _is_nameable(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("title"), str) and "properties" in part


def _parts(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(inner)


def _key(part: Any) -> str:
    return json.dumps(part, sort_keys=True)
