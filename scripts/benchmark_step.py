"""Seconds and memory of training steps: one job in a process of its own, called by benchmark.py.

python3 scripts/benchmark_step.py '{"recipe": "seg_cyclegan", "way": "medgan", "patch": [64, 64, 64]}'     prints JSON
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from plain_step import PlainStep
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medgan.config import Component, bind
from medgan.networks.blocks import recompute_blocks
from medgan.networks.compiled import compile_networks
from medgan.networks.fast_convolutions import fast_convolutions
from medgan.recipes import RECIPES, CycleGAN, Recipe, SegCycleGAN

NETS = {
    "generator_net": {"name": "unet", "channels": 16, "levels": 2},
    "discriminator_net": {"name": "patchgan", "channels": 16, "layers": 2},
    "segmentor_net": {"name": "segresnet", "channels": 8},
}  # of configs/demo.yaml
WAYS = {
    "medgan": {"bf16": False},
    "medgan bf16": {"bf16": True},
    "medgan recompute": {"bf16": False, "recompute": True},
    "medgan compile": {"bf16": False, "compile": True},
    "medgan bf16 contiguous": {"bf16": True, "contiguous": True},
    "medgan bf16 compile": {"bf16": True, "compile": True},
    "plain": {"plain": True, "bf16": False},
    "plain autocast": {"plain": True, "bf16": True},
}
_PROGRESS = 0.45  # every term of the demo is on
Step = Callable[[Mapping[str, Tensor]], Mapping[str, Any]]


def build(name: str, channels: int) -> Recipe:
    """A recipe over the demo's networks, `channels` wide."""
    values: dict[str, Any] = {"name": name, **NETS, "pool_size": 0}
    values["generator_net"] = {**NETS["generator_net"], "channels": channels}
    if name == "seg_cyclegan":
        values |= {"num_classes": 8, "beta_seg": 2.0, "seg_start": 0.0, "seg_ramp": 0.0, "seg_fakes_start": 0.4}
    else:
        del values["segmentor_net"]
    if name == "pix2pix":
        del values["pool_size"]
    torch.manual_seed(0)
    target, options = bind(Component.model_validate(values), RECIPES, "recipe")
    recipe: Recipe = target(**options)
    recipe.clip_norm = 1.0
    return recipe


def batch_of(patch: list[int], size: int, device: torch.device) -> dict[str, Tensor]:
    """Noise with labels, the same at each call."""
    draw = torch.Generator().manual_seed(0)
    shape = (size, 1, *patch)
    images = {key: torch.rand(shape, generator=draw) * 2 - 1 for key in "AB"}
    labels = {f"label_{key}": torch.randint(0, 8, shape, generator=draw) for key in "AB"}
    return {key: value.to(device) for key, value in (images | labels).items()}


def step_of(recipe: Recipe, way: str, device: torch.device) -> Step:
    """One step of a way of `WAYS`."""
    choice = WAYS[way]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    recipe.to(device).train()
    if choice.get("contiguous"):
        recipe.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if choice.get("recompute"):
        recompute_blocks(recipe)
    if choice.get("plain"):
        assert isinstance(recipe, CycleGAN | SegCycleGAN)
        inner: Step = PlainStep(recipe)
    else:
        fast_convolutions(recipe)
        if choice.get("compile"):
            compile_networks(recipe.networks())
        inner = lambda batch: recipe.training_step(batch, _PROGRESS)  # noqa: E731

    def step(batch: Mapping[str, Tensor]) -> Mapping[str, Any]:
        with torch.autocast(device.type, torch.bfloat16, enabled=choice["bf16"]):
            return inner(batch)

    return step


def seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """Of one call, by CUDA events on a GPU."""
    if device.type != "cuda":
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    step()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int) -> float:
    """Operations per second of a matrix product, the best of several."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = min(seconds_of(lambda: left @ right, device) for _ in range(8))
    return 2 * size**3 / best


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of several steps, the peak memory, the operations of a step and its losses."""
    device = torch.device(job.get("device", "cpu"))
    patch, size = list(job["patch"]), job.get("batch_size", 1)
    recipe = build(job["recipe"], job.get("channels", 16))
    step, batch = step_of(recipe, job["way"], device), batch_of(patch, size, device)
    is_compiled = "compile" in job["way"]  # then operations cannot be counted
    begin = time.perf_counter()
    with nullcontext() if is_compiled else FlopCounterMode(display=False) as counter:
        losses = {name: torch.as_tensor(loss).item() for name, loss in step(batch).items()}
    first_s = time.perf_counter() - begin
    seconds, busy = [], []
    for _ in range(job.get("repeats", 3)):
        begin = time.process_time()
        seconds.append(seconds_of(lambda: step(batch), device))
        busy.append(time.process_time() - begin)
    facts = {
        **job,
        "seconds": seconds,
        "cpu_seconds": busy,
        "median_s": statistics.median(seconds),
        "peak_gib": peak_gib(device),
        "operations": counter.get_total_flops() if counter else None,
        "first_s": first_s,
        "is_compiled": any(network._compiled_call_impl is not None for network in recipe.networks()),
        "losses": losses,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if job.get("rates"):
        side = 8192 if device.type == "cuda" else 1024
        facts["rates"] = {name: matrix_rate(getattr(torch, name), device, side) for name in ("float32", "bfloat16")}
    return facts


def peak_gib(device: torch.device) -> float:
    """Of this process, or of its memory on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 2**30 if platform.system() == "Darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
