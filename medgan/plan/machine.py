"""What there is to compute with: memory, cores, and what a process has taken of them."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from medgan.config import InputError
from medgan.device import choose_device

GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")


def peak_bytes(device: str) -> int:
    """The most memory that this process has held at a time: of the GPU where it computes on one, else main memory."""
    if torch.device(device).type == "cuda":
        free, total = torch.cuda.mem_get_info()
        context = total - free - torch.cuda.memory_reserved()  # the driver's own
        return torch.cuda.max_memory_reserved() + max(0, context)
    return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The largest resident set of this process. Linux tells it apart from that of the process it was forked from."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Machine:
    """Where a training is to run.

    Attributes:
        device: "cpu", "cuda", ...
        memory_bytes: that a training may take.
        cores: processors.
        is_here: whether it is this machine; if not, what a step takes can only be tried on the processor.
        source: where the memory's figure comes from, in words.
    """

    device: str
    memory_bytes: float
    cores: int
    is_here: bool
    source: str


def find_machine(device: str, memory_gb: float | None, cores: int | None) -> Machine:
    """This machine, or the one that is asked for.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...; a GPU that is not here needs `memory_gb`.
        memory_gb: GiB that may be taken; None: what is free now.
        cores: processors; None: those that this process may use.

    Raises:
        InputError: the memory of a GPU that is not here is not given, or no such device.
    """
    cores = cores or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    is_here = device == "auto" or not device.startswith("cuda") or torch.cuda.is_available()
    if not is_here:
        if memory_gb is None:
            raise InputError(f"plan.device: no GPU here for '{device}'; say how much memory it has, --memory-gb 24")
        return Machine(device, memory_gb * GIB, cores, False, "as given")
    place = choose_device(device)
    if memory_gb is not None:
        return Machine(str(place), memory_gb * GIB, cores, True, "as given")
    if place.type == "cuda":
        return Machine(str(place), float(torch.cuda.mem_get_info(place)[0]), cores, True, "free on the GPU now")
    return Machine(str(place), float(_available_bytes()), cores, True, "free in main memory now")


def _available_bytes() -> int:
    """What a new process may take: free and freeable memory, or what is left of this container's share."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        return min(available, limit - used)
    except (OSError, ValueError):  # no container, or none that is limited
        return available
