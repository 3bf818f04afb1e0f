"""Where networks run, and how precisely."""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal

import torch

from medgan.config import InputError

logger = logging.getLogger(__name__)

Precision = Literal["auto", "bf16", "float32"]


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is a GPU where there is one.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"device '{name}': not on this machine; use auto or cpu") from None
    return device


def is_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether networks run in bfloat16: as asked, or for "auto" where that is faster.

    A processor must have AMX tiles for that: with AVX-512's instruction alone, oneDNN reaches little more than half of
    float32's rate (docs/performance.md).
    """
    if precision == "bf16" and device.type == "cpu" and not has_bf16():
        _warn_of_bf16()
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def has_bf16() -> bool:
    """Whether this processor has instructions for bfloat16."""
    is_here: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_here and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def _warn_of_bf16() -> None:
    """Once in a process."""
    logger.warning("precision=bf16: this processor has no instructions for it; float32 is ten times as fast, or more")
