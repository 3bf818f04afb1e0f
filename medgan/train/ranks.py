"""Processes that train together: how they were started, what each draws, how their gradients meet."""

from __future__ import annotations

import os

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor


def launch(device: torch.device, bf16: bool) -> Fabric:
    """This process among its ranks, as ``torchrun`` or SLURM started them; a single one otherwise."""
    nodes, per_node = _ranks()
    kind, _, index = str(device).partition(":")
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index and per_node == 1 else per_node,
        num_nodes=nodes,
        strategy="ddp" if nodes * per_node > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    return fabric


def seed_step(seed: int, step: int, rank: int) -> None:
    """Noise within a step is a function of (seed, step, rank): nothing about it has to be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


def average_gradients(fabric: Fabric, gradients: list[Tensor]) -> None:
    """One reduction for a player's gradients, in place."""
    if fabric.world_size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    mean = fabric.all_reduce(flat, reduce_op="mean")
    assert isinstance(mean, Tensor)
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):  # type: ignore[no-untyped-call]
        gradient.copy_(part.view_as(gradient))


def average(fabric: Fabric, value: Tensor) -> float:
    """The mean of a scalar over the ranks."""
    mean = fabric.all_reduce(value, reduce_op="mean") if fabric.world_size > 1 else value
    assert isinstance(mean, Tensor)
    return mean.item()


def _ranks() -> tuple[int, int]:
    """Number of nodes, and of ranks on each."""
    if "WORLD_SIZE" in os.environ:
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return int(os.environ["WORLD_SIZE"]) // per_node, per_node
    nodes = int(os.environ.get("SLURM_NNODES", "1"))
    return nodes, int(os.environ.get("SLURM_NTASKS", "1")) // nodes
