"""Processes that train together: how they were started, what each draws, how they meet."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from medgan.config import InputError

Item = TypeVar("Item")


def launch(device: torch.device, bf16: bool) -> Fabric:
    """This process among its ranks, as ``torchrun`` or SLURM started them; a single one otherwise."""
    nodes, per_node = started()
    kind, _, index = str(device).partition(":")
    _meet_anew(kind)
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index and per_node == 1 else per_node,
        num_nodes=nodes,
        strategy="ddp" if nodes * per_node > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
        plugins=None if nodes * per_node > 1 else LightningEnvironment(),
    )
    fabric.launch()
    return fabric


def seed_step(seed: int, step: int, rank: int) -> None:
    """Noise within a step is a function of (seed, step, rank): nothing about it has to be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


class Ranks:
    """This process among those that train together.

    Gradients meet where they lie, on the devices. Everything else, flags and what a checkpoint holds of each rank, goes
    through main memory, so that asking costs no device its pace.

    Attributes:
        rank: of this process.
        count: of the processes.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.rank, self.count = fabric.global_rank, fabric.world_size
        self._group = dist.new_group(backend="gloo") if self.count > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def average_gradients(self, gradients: list[Tensor]) -> None:
        """One reduction for a player's gradients, in place."""
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        mean = self.fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(mean, Tensor)
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):  # type: ignore[no-untyped-call]
            gradient.copy_(part.view_as(gradient))

    def average(self, value: Tensor) -> float:
        """The mean of a scalar over the ranks."""
        mean = self.fabric.all_reduce(value, reduce_op="mean") if self.count > 1 else value
        assert isinstance(mean, Tensor)
        return mean.item()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._group)
        return bool(flags)

    def gathered(self, item: Item) -> list[Item]:
        """Every rank's item, in their order, on the first rank; nothing on the others."""
        if self.count == 1:
            return [item]
        found: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(item, found, dst=0, group=self._group)
        return found or []

    def of_the_first(self, item: Item) -> Item:
        """The first rank's item, on every rank."""
        if self.count == 1:
            return item
        carried = [item]
        dist.broadcast_object_list(carried, src=0, group=self._group)
        return carried[0]


def _meet_anew(kind: str) -> None:
    """Let ranks that ``torchrun`` has started again meet under a name of this attempt.

    It keeps its store of addresses from attempt to attempt, and those of dead ranks would be waited for without end
    (pytorch issue 135712). Attempts are counted on each node by itself: only a single node can do without its switch.

    Raises:
        InputError: started again on several nodes without that switch.
    """
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if not attempt or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if count != int(os.environ["LOCAL_WORLD_SIZE"]):
        raise InputError(
            "torchrun: ranks on several nodes cannot meet again, as it keeps the addresses of dead ones; set the "
            "environment variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on every node and run the same command again"
        )
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, store=PrefixStore(f"attempt_{attempt}", store), rank=rank, world_size=count)


def started() -> tuple[int, int]:
    """How many nodes ``torchrun`` or SLURM has started ranks on, and how many on each."""
    if "WORLD_SIZE" in os.environ:
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return int(os.environ["WORLD_SIZE"]) // per_node, per_node
    if "SLURM_STEP_NUM_TASKS" not in os.environ:  # within a job, but not started by srun: a single process
        return 1, 1
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    return nodes, int(os.environ["SLURM_STEP_NUM_TASKS"]) // nodes
