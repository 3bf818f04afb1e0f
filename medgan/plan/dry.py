"""A few real training steps on made-up cases, in a process of its own: what they take is what a training will take.

python -m medgan.plan.dry < SPEC.json           prints one line of JSON; called by `medgan.plan.probe`
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgan.config import Component, InputError, bind, validate
from medgan.data.grid import Triple, triple
from medgan.data.store import StoredCase, write_case, write_index
from medgan.plan.machine import peak_bytes
from medgan.recipes import RECIPES
from medgan.recipes.parts import ImagePool
from medgan.rundir import RunDir
from medgan.train import TrainOptions, train

STEPS = 5  # at 0, 1/5, ... 4/5 of the training: whatever starts by then takes part
_MARGIN = 8  # voxels by which a made-up case is larger than a patch


def run(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Train on cases made up for the purpose.

    Args:
        spec: ``recipe`` and ``train`` as in a configuration, ``device``, ``num_classes`` (0: no labels).

    Returns:
        ``peak_bytes``, ``seconds`` of a step, ``pool_images`` that the recipe would keep.
    """
    recipe = validate(Component, spec["recipe"])
    options = validate(TrainOptions, spec["train"] | _ONCE)
    pools = _pool_images(recipe)
    if pools:
        recipe = Component.model_validate({**recipe.model_dump(), "pool_size": 0})
    with tempfile.TemporaryDirectory(prefix="medgan-plan-") as folder:
        place = RunDir(Path(folder))
        _write_cases(place.preprocess, triple(options.patch_size), spec["num_classes"])
        train(recipe, options, place, seed=0, device=spec["device"])
        seconds = _seconds(place.train / "tensorboard")
    return {"peak_bytes": peak_bytes(spec["device"]), "seconds": seconds, "pool_images": pools}


_ONCE = {
    "num_steps": STEPS,
    "log_every": 1,
    "validate_every": STEPS,
    "preview_every": STEPS,
    "checkpoint_every": STEPS,
    "validation_patches": 1,
    "keep_every": None,
}


def _pool_images(choice: Component) -> int:
    """How many earlier translations the recipe keeps in all once its pools are full."""
    target, values = bind(choice, RECIPES, "recipe")
    if not values.get("pool_size"):
        return 0
    return sum(module.size for module in target(**values).modules() if isinstance(module, ImagePool))


def _write_cases(folder: Path, patch: Triple, num_classes: int) -> None:
    """Noise with blocks of labels, the same subject in both domains, one to learn from and one to look at."""
    rng = np.random.default_rng(0)
    shape = tuple(n if n == 1 else n + _MARGIN for n in patch)
    cases = []
    for split in ("train", "validation"):
        for domain in "AB":
            image = rng.uniform(-1, 1, shape).astype(np.float16)
            label = rng.integers(0, num_classes, shape, dtype=np.int16) if num_classes else None
            place = folder / domain / split
            body = np.ones(shape, dtype=np.bool_)
            write_case(place, image=image, label=label, body=body, meta={"spacing_mm": [1, 1, 1]})
            cases.append(StoredCase(split, domain, split, place))
    write_index(folder, cases, {domain: {"name": domain} for domain in "AB"})


def _seconds(board: Path) -> float:
    """Of a step, the median of the last three: the first ones warm up, or train one player only."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(board)).Reload()
    times: dict[int, float] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            if not tag.startswith("validation/"):
                times[event.step] = min(event.wall_time, times.get(event.step, event.wall_time))
    moments = [times[step] for step in sorted(times)]
    return float(np.median(np.diff(moments)[-3:]))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        print(json.dumps(run(json.load(sys.stdin))))
    except InputError as mistake:
        sys.exit(str(mistake))  # exit code 1
    except (MemoryError, torch.OutOfMemoryError):
        sys.exit("out of memory; make room, or narrow the networks")
