"""Dry steps: a recipe trained for a moment on small patches, each size in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rich.progress import track

from medgan.config import Component, InputError
from medgan.data.grid import Triple, triple
from medgan.plan.memory import Sample, StepModel

VOXELS_CPU = (16_000, 32_000, 64_000)  # of the patches tried: seconds each on a processor
VOXELS_GPU = (260_000, 520_000, 1_000_000)  # 64, 80 and 100 voxels along each axis


def probe(
    recipe: Component, train: dict[str, Any], patches: Sequence[Triple], *, device: str, num_classes: int
) -> tuple[StepModel, list[Sample]]:
    """The model of a recipe's steps, and what it was drawn through.

    Args:
        recipe: what is to be trained.
        train: the `train:` section, JSON values; its patch size is replaced.
        patches: the sizes to try, at least two.
        device: where.
        num_classes: of the labels; 0 without.

    Raises:
        InputError: a recipe that cannot take a step, or no memory even for that.
    """
    samples, pool_images = [], 0
    for patch in track(patches, description="plan: dry steps", transient=True):
        spec = {
            "recipe": recipe.model_dump(mode="json"),
            "train": {**train, "patch_size": list(patch), "batch_size": 1, "workers": 0},
            "device": device,
            "num_classes": num_classes,
        }
        took = _in_own_process(spec, patch)
        samples.append(Sample(patch, took["peak_bytes"], took["seconds"]))
        pool_images = took["pool_images"]
    return StepModel.fit(samples, pool_images), samples


def _in_own_process(spec: dict[str, Any], patch: Triple) -> dict[str, Any]:
    command = [sys.executable, "-m", "medgan.plan.dry"]
    done = subprocess.run(command, input=json.dumps(spec), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    size = " x ".join(map(str, patch))
    last = (done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"])[-1]
    if done.returncode == 1:
        raise InputError(f"plan: a dry step of {size} voxels is refused: {last}")
    raise RuntimeError(f"plan: a dry step of {size} voxels failed\n{done.stderr}")


def probe_sizes(target: Triple, multiple: int, least: int, voxels: Sequence[int]) -> list[Triple]:
    """At least two patches of about so many voxels each, in the proportions of the `target`, hardly any larger."""
    bottom = multiple * math.ceil(least / multiple)
    sizes: list[Triple] = []
    for wanted in voxels:
        scale = min(1.0, (wanted / math.prod(target)) ** (1 / 3))
        sizes.append(triple(min(n, max(bottom, multiple * round(n * scale / multiple))) for n in target))
    if len(set(sizes)) < 2:
        sizes.append(triple(n + multiple if n > 1 else 1 for n in target))
    return sorted(set(sizes), key=math.prod)
