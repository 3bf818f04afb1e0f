"""What is decided, and what the author of a configuration has decided already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decision:
    """One value of the configuration, and why it is that.

    Attributes:
        key: dotted.
        value: as YAML holds it.
        why: a sentence without a full stop.
    """

    key: str
    value: Any
    why: str


@dataclass
class Draft:
    """A plan in the making.

    Attributes:
        given: the configuration as its author wrote it.
        decisions: so far.
        notes: what the reader should know beside.
    """

    given: Mapping[str, Any]
    decisions: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, key: str) -> Any:
        """What the author has said of a dotted key; None where nothing."""
        values: Any = self.given
        for part in key.split("."):
            values = values.get(part) if isinstance(values, Mapping) else None
        return values

    def decide(self, key: str, value: Any, why: str) -> Any:
        """The author's value of `key`, else this one."""
        said = self.find(key)
        self.decisions.append(Decision(key, value, why) if said is None else Decision(key, said, "as given"))
        return self.decisions[-1].value
