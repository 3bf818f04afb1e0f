"""Networks that remember how they were made, so that they can be made again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn


@dataclass(frozen=True)
class Blueprint:
    """The call that made a network.

    Attributes:
        target: the class or function that was called.
        facts: its positional arguments.
        options: its keyword arguments.
    """

    target: Callable[..., nn.Module]
    facts: tuple[Any, ...]
    options: dict[str, Any]


def built(target: Callable[..., Any], *facts: Any, **options: Any) -> nn.Module:
    """``target(*facts, **options)``, which remembers this call; see `blueprint`."""
    network = cast(nn.Module, target(*facts, **options))
    network._blueprint = Blueprint(target, facts, options)  # type: ignore[assignment]
    return network


def blueprint(network: nn.Module) -> Blueprint | None:
    """The call that made a network through `built`; a copy of the network remembers it, too."""
    return cast("Blueprint | None", network.__dict__.get("_blueprint"))
