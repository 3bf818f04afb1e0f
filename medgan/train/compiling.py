"""`torch.compile` for the networks of a training, where it works; a training goes on without it where it does not."""

from __future__ import annotations

import sys

import torch

from medgan.recipes import Recipe


def compile_networks(recipe: Recipe, device: torch.device) -> bool:
    """Compile the networks that learn, each when it is first called; a part that cannot be compiled runs as it is.

    Returns:
        Whether this machine can compile at all; if not, a line on the error stream says why.
    """
    try:
        torch.compile(_trial)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compilers and their tools raise
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(f"medgan: train.compile: not possible here ({why}); training goes on without", file=sys.stderr)
        return False
    torch._dynamo.config.suppress_errors = True
    for network in recipe.children():
        if any(parameter.requires_grad for parameter in network.parameters()):
            network.compile(dynamic=False)  # else a backward pass would be compiled, and fail, outside the fallback
    return True


def _trial(x: torch.Tensor) -> torch.Tensor:
    return x.sin() * 2
