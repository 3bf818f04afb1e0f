"""Fit a study to its cases and to a machine: spacing, patch, batch, networks, steps, precision, workers.

Rules like nnU-Net's (`medgan.plan.rules`) propose, a model of a training step's memory and time (`medgan.plan.memory`),
drawn through dry steps on small patches (`medgan.plan.probe`), decides what fits (`medgan.plan.fitting`). What a user
has set stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from medgan.config import Component, StrictModel
from medgan.data.cases import DataOptions, load_cases
from medgan.device import is_bf16
from medgan.plan.decisions import Decision, Draft
from medgan.plan.facts import DomainFacts, domain_facts
from medgan.plan.fitting import NARROW, WIDE, Bounds, fit
from medgan.plan.machine import GIB, Machine, find_machine
from medgan.plan.memory import Sample, StepModel
from medgan.plan.probe import VOXELS_CPU, VOXELS_GPU
from medgan.plan.rules import Spacing, common_spacing, domain_spacing, is_one_grid, steps, steps_within, workers_beside
from medgan.preprocess import PreprocessOptions
from medgan.train import TrainOptions

_STEP_SECONDS_CPU = 10.0
_WORKER_BYTES = 0.4 * GIB  # of a process that cuts patches
_UNSEEN = 0.8  # of the memory of a GPU that is not here to try


class PlanOptions(StrictModel):
    """The ``plan:`` section."""

    device: str = Field("auto", description="that will train: auto, cpu, cuda; a GPU that is not here wants memory_gb")
    memory_gb: float | None = Field(None, gt=0, description="GiB that training may take; null: what is free now")
    headroom: float = Field(0.1, ge=0, lt=1, description="share of it that is left free")
    cores: int | None = Field(None, gt=0, description="processors; null: those of this machine")
    step_seconds: float | None = Field(None, gt=0, description="longest step; null: 10 on a processor, any on a GPU")
    hours: float | None = Field(None, gt=0, description="for the whole training; null: as the data want")


@dataclass(frozen=True)
class Plan:
    """What was decided, and on what grounds.

    Attributes:
        decisions: in the order of the file.
        peak_bytes: the largest memory of the training process, predicted.
        step_seconds: of a step, predicted.
        num_steps: of the training.
        machine: that it is for.
        model: of a step.
        samples: the dry steps.
        facts: of each domain.
        notes: what the reader should know beside.
    """

    decisions: tuple[Decision, ...]
    peak_bytes: float
    step_seconds: float
    num_steps: int
    machine: Machine
    model: StepModel
    samples: tuple[Sample, ...]
    facts: tuple[DomainFacts, ...]
    notes: tuple[str, ...] = ()


def plan(
    data: DataOptions,
    options: PlanOptions,
    *,
    preprocess: PreprocessOptions,
    recipe: Component,
    train: TrainOptions,
    given: Mapping[str, Any],
    root: Path,
) -> Plan:
    """Decide what a configuration leaves open.

    Args:
        data: which cases there are.
        options: the machine, and how long.
        preprocess: the section as it stands.
        recipe: what is trained, its options complete.
        train: the section as it stands.
        given: the configuration as its author wrote it; what stands in it is kept.
        root: where relative paths of `data` start.

    Raises:
        InputError: cases that cannot be read, a recipe that wants no cases, memory too small for the smallest patch.
    """
    cases = load_cases(data, root)
    facts = tuple(
        domain_facts([case for case in cases if case.domain == side], domain, preprocess)
        for side, domain in (("A", data.A), ("B", data.B))
    )
    machine = find_machine(options.device, options.memory_gb, options.cores)
    draft = Draft(given)
    spacing = _decide_spacing(draft, facts)
    body = [float(n) for n in np.min([one.body_mm for one in facts], axis=0) / spacing]
    bf16 = _decide_precision(draft, machine)
    budget = machine.memory_bytes * (1 - options.headroom)
    budget *= 1.0 if machine.is_here else _UNSEEN
    on_gpu = machine.device.startswith("cuda")
    workers = _decide_workers(draft, machine, on_gpu)
    if not on_gpu:
        budget -= workers * _WORKER_BYTES
    bounds = Bounds(
        device=machine.device if machine.is_here else "cpu",
        num_classes=len(data.classes),
        bytes=budget,
        seconds=options.step_seconds or (math.inf if on_gpu else _STEP_SECONDS_CPU),
        voxels=VOXELS_GPU if on_gpu and machine.is_here else VOXELS_CPU,
    )
    section = train.model_dump(mode="json") | {"precision": "bf16" if bf16 else "float32"}
    fitted = fit(
        draft,
        recipe,
        section,
        body=body,
        spacing_mm=spacing,
        proposals=(WIDE, NARROW) if on_gpu else (NARROW,),
        bounds=bounds,
    )
    patch, batch = fitted.patch, fitted.batch
    voxels, seconds = math.prod(patch), fitted.model.seconds(math.prod(patch), batch)
    peak = fitted.model.peak_bytes(voxels, batch)
    draft.decide("train.patch_size", list(patch), fitted.why_patch)
    draft.decide("train.batch_size", batch, fitted.why_batch)
    num_steps = _decide_steps(draft, facts, spacing, voxels, batch, seconds, options)
    if peak > budget:
        draft.notes.append(
            f"{peak / GIB:.1f} GiB are predicted and {budget / GIB:.1f} GiB allowed: what is given is kept"
        )
    if not machine.is_here:
        draft.notes.append(
            f"tried on this processor, not on {machine.device}: {1 - _UNSEEN:.0%} of the memory are left for what "
            "differs, and its time is not known; plan again on that machine"
        )
    return Plan(
        decisions=tuple(sorted(draft.decisions, key=lambda one: _ORDER.index(one.key.partition(".")[0]))),
        peak_bytes=peak,
        step_seconds=seconds,
        num_steps=num_steps,
        machine=machine,
        model=fitted.model,
        samples=fitted.samples,
        facts=facts,
        notes=tuple(draft.notes),
    )


_ORDER = ("preprocess", "recipe", "train")


def _decide_spacing(draft: Draft, facts: Sequence[DomainFacts]) -> Spacing:
    all_mm = np.concatenate([one.spacings_mm for one in facts])
    each = [domain_spacing(one.spacings_mm, one.shapes) for one in facts]
    spacing = common_spacing(each)
    said = draft.find("preprocess.spacing_mm")
    if said is None and is_one_grid(all_mm):
        draft.decide("preprocess.spacing_mm", None, f"all images have {_mm(spacing)}: nothing is interpolated")
        return spacing
    rounded = [round(mm, 3) for mm in spacing]
    x, y, z = draft.decide(
        "preprocess.spacing_mm",
        rounded,
        f"along each axis the coarser median, of {facts[0].name} ({_mm(each[0])}) or {facts[1].name} ({_mm(each[1])}): "
        "what is interpolated finer is blurred, and the discriminator would see that instead of the modality",
    )
    return float(x), float(y), float(z)


def _decide_precision(draft: Draft, machine: Machine) -> bool:
    place = torch.device(machine.device if machine.is_here else "cpu")
    bf16 = is_bf16("auto", place) if machine.is_here else True
    why = "bfloat16 multiplies faster here and halves the maps" if bf16 else "no fast bfloat16 here"
    return bool(draft.decide("train.precision", "bf16" if bf16 else "float32", why) != "float32")


def _decide_workers(draft: Draft, machine: Machine, on_gpu: bool) -> int:
    count = workers_beside(machine.cores, on_gpu)
    why = f"of {machine.cores} cores; " + (
        "the GPU must not wait for patches" if on_gpu else "the others train; cutting a patch costs little"
    )
    return int(draft.decide("train.workers", count, why))


def _decide_steps(
    draft: Draft,
    facts: Sequence[DomainFacts],
    spacing: Spacing,
    voxels: int,
    batch: int,
    seconds: float,
    options: PlanOptions,
) -> int:
    bodies = [float(np.prod(one.body_mm / spacing)) * max(1, one.training) for one in facts]
    wanted = steps(max(bodies), voxels, batch)
    count = steps_within(wanted, options.hours, seconds)
    times = count * voxels * batch / max(bodies)
    why = f"every voxel of the training bodies is seen about {times:.0f} times; 2000 steps at least, 100000 at most"
    if count < wanted:
        why = f"what {options.hours:g} hours hold at {seconds:.2g} s; the data want {wanted}"
    count = int(draft.decide("train.num_steps", count, why))
    every = min(1000, max(1, count // 20))
    for key in ("validate_every", "preview_every", "checkpoint_every"):
        draft.decide(f"train.{key}", every, "at least 20 times in all")
    return count


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing) + " mm"
