"""A network as MONAI's configuration names it: the class to call and its arguments."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from medgan.config import InputError
from medgan.networks.background import KeepBackground
from medgan.networks.built import blueprint
from medgan.networks.slicewise import SliceBySlice

PACKAGE = "scripts"


def definition(network: nn.Module) -> dict[str, Any]:
    """``{"_target_": "scripts.medgan.networks.unet.UNetGenerator", ...}``, which makes the network again, untrained.

    Raises:
        InputError: it is no network of medgan's, whose code a bundle could carry.
    """
    if isinstance(network, KeepBackground):
        return {"_target_": _dotted(network), "network": definition(network.network)}
    if isinstance(network, SliceBySlice):
        return {"_target_": _dotted(network), "network": definition(network.network), "axis": network.axis}
    made = blueprint(network)
    if made is None or not type(network).__module__.startswith("medgan.networks."):
        raise InputError(
            f"export: a bundle carries the code of medgan's own networks, and {type(network).__qualname__} is none; "
            "use --format torchscript or onnx"
        )
    names = ("spatial_dims", "in_channels", "out_channels")
    return {"_target_": _dotted(network), **dict(zip(names, made.facts, strict=True)), **made.options}


def modules_of(defined: dict[str, Any]) -> list[str]:
    """The modules of medgan that a definition names."""
    inner = cast("dict[str, Any] | None", defined.get("network"))
    module = str(defined["_target_"]).rpartition(".")[0].removeprefix(f"{PACKAGE}.")
    return [module, *(modules_of(inner) if inner else [])]


def _dotted(network: nn.Module) -> str:
    return f"{PACKAGE}.{type(network).__module__}.{type(network).__qualname__}"
