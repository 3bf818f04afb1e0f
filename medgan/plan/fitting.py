"""Networks, patch and batch that fit: proposals from the largest down, judged by the model of a step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgan.config import Component, InputError, resolve
from medgan.data.grid import Triple, triple
from medgan.plan.decisions import Draft
from medgan.plan.machine import GIB
from medgan.plan.memory import Sample, StepModel
from medgan.plan.probe import probe, probe_sizes
from medgan.plan.rules import halvings, least_patch, patches
from medgan.recipes import RECIPES

Networks = Mapping[str, Mapping[str, Any]]

WIDE: Networks = {
    "generator_net": {"name": "unet", "channels": 32, "levels": 4},
    "discriminator_net": {"name": "patchgan", "channels": 64, "layers": 3},
    "segmentor_net": {"name": "segresnet", "channels": 16, "levels": 3},
}
NARROW: Networks = {
    "generator_net": {"name": "unet", "channels": 16, "levels": 3},
    "discriminator_net": {"name": "patchgan", "channels": 16, "layers": 2},
    "segmentor_net": {"name": "segresnet", "channels": 16, "levels": 2},
}
_WHY = {
    "generator_net": "widths are multiples of 16, which bfloat16 wants; the coarsest map keeps 4 voxels of the body",
    "discriminator_net": "judges pieces as large as an organ's edge, not whole bodies",
    "segmentor_net": "as deep as the body allows",
}
_LARGEST_BATCH = 4
_ENOUGH_VOXELS = 80  # along the two longer axes of the body: networks are narrowed where the patch would be smaller
_UNKNOWN_HALVINGS = 4  # of a network that does not say


@dataclass(frozen=True)
class Bounds:
    """What a training may take.

    Attributes:
        device: where dry steps are taken.
        num_classes: of the labels; 0 without.
        bytes: of memory.
        seconds: of a step.
        voxels: what dry steps are tried on.
    """

    device: str
    num_classes: int
    bytes: float
    seconds: float
    voxels: tuple[int, ...]


@dataclass(frozen=True)
class Fitted:
    """What fits, and why it is no more.

    Attributes:
        recipe: with its networks.
        patch: voxels.
        batch: patches.
        model: of a step.
        samples: the dry steps.
        why_patch: what stopped it from being larger.
        why_batch: likewise.
    """

    recipe: Component
    patch: Triple
    batch: int
    model: StepModel
    samples: tuple[Sample, ...]
    why_patch: str
    why_batch: str


def fit(
    draft: Draft,
    recipe: Component,
    train: dict[str, Any],
    *,
    body: Sequence[float],
    spacing_mm: Sequence[float],
    proposals: Sequence[Networks],
    bounds: Bounds,
) -> Fitted:
    """The first of the proposed networks whose patch shows enough, or the last.

    Args:
        draft: what is given is kept; the decisions on networks are added.
        recipe: what is trained, its options complete.
        train: the `train:` section, JSON values.
        body: median voxels along each axis.
        spacing_mm: of the working grid.
        proposals: networks, the widest first.
        bounds: what a training may take.

    Raises:
        InputError: not even the smallest patch fits.
    """
    for networks in proposals:
        chosen, keys = _with_networks(draft, recipe, networks, body)
        try:
            fitted = _fit_patch(draft, chosen, train, body, spacing_mm, bounds)
        except InputError:
            if networks is proposals[-1]:
                raise
            continue
        enough = [min(n, _ENOUGH_VOXELS) for n in body]
        short = sum(n < wanted for n, wanted in zip(fitted.patch, enough, strict=True))
        if short <= 1 or draft.find("train.patch_size") or networks is proposals[-1]:
            break
    for key in keys:
        draft.decide(f"recipe.{key}", chosen.options[key], _WHY[key])
    return fitted


def _with_networks(
    draft: Draft, recipe: Component, networks: Networks, body: Sequence[float]
) -> tuple[Component, list[str]]:
    """The recipe with these networks, where it has them and its author named none, and the keys of all of them."""
    parameters = inspect.signature(resolve(recipe.name, RECIPES, "recipe")).parameters
    keys = [key for key in networks if key in parameters]
    options = recipe.options
    for key in keys:
        if draft.find(f"recipe.{key}") is None:
            network = dict(networks[key])
            if "levels" in network:
                network["levels"] = halvings(body, network["levels"])
            options[key] = network
    return Component.model_validate({"name": recipe.name, **options}), keys


def _fit_patch(
    draft: Draft,
    recipe: Component,
    train: dict[str, Any],
    body: Sequence[float],
    spacing_mm: Sequence[float],
    bounds: Bounds,
) -> Fitted:
    levels, layers = _depths(recipe)
    multiple, least = 2**levels, least_patch(levels, layers)
    candidates = list(patches(body, spacing_mm, multiple, least))
    said = draft.find("train.patch_size")
    candidates = [triple(said)] if said else candidates
    sizes = probe_sizes(candidates[0], multiple, least, bounds.voxels)
    model, samples = probe(recipe, train, sizes, device=bounds.device, num_classes=bounds.num_classes)
    said_batch = draft.find("train.batch_size")
    batch = said_batch or 1

    def fits(patch: Triple, batch: int) -> bool:
        voxels = math.prod(patch)
        return model.peak_bytes(voxels, batch) <= bounds.bytes and model.seconds(voxels, batch) <= bounds.seconds

    patch = next((one for one in candidates if fits(one, batch)), candidates[-1])
    needed = model.peak_bytes(math.prod(patch), batch)
    if not said and needed > bounds.bytes:
        raise InputError(
            f"plan: the smallest patch, {_times(patch)}, takes {needed / GIB:.2f} GiB and {bounds.bytes / GIB:.2f} are "
            "allowed; name narrower networks in recipe, or raise plan.memory_gb"
        )
    is_first = patch == candidates[0]
    if is_first and not said_batch:
        batch = next(n for n in range(_LARGEST_BATCH, 0, -1) if n == 1 or fits(patch, n))
    larger = None if is_first else candidates[candidates.index(patch) - 1]
    why_batch = (
        "what the patch leaves goes to more patches, 4 at most" if is_first else "memory goes to the patch first"
    )
    return Fitted(
        recipe=recipe,
        patch=patch,
        batch=batch,
        model=model,
        samples=tuple(samples),
        why_patch=_why_patch(patch, larger, body, model, bounds),
        why_batch=why_batch,
    )


def _why_patch(patch: Triple, larger: Triple | None, body: Sequence[float], model: StepModel, bounds: Bounds) -> str:
    share = math.prod(min(1.0, n / size) for n, size in zip(patch, body, strict=True))
    shown = f"{share:.0%} of the median body of {_times(round(n) for n in body)}"
    if larger is None:
        return f"{shown}; equal in mm along all axes"
    voxels = math.prod(larger)
    if model.peak_bytes(voxels) > bounds.bytes:
        why = f"takes {model.peak_bytes(voxels) / GIB:.2f} GiB, {bounds.bytes / GIB:.2f} are allowed"
    else:
        why = f"takes {model.seconds(voxels):.1f} s a step, {bounds.seconds:g} are allowed"
    return f"{shown}; the next larger, {_times(larger)}, {why}"


def _depths(recipe: Component) -> tuple[int, int]:
    """How often the deepest of a recipe's networks halves a patch, and how often its discriminator does."""
    networks = {key: value for key, value in recipe.options.items() if key.endswith("_net") and value}
    levels = [
        int(network.get("levels", _UNKNOWN_HALVINGS)) for key, network in networks.items() if "discriminator" not in key
    ]
    layers = [int(network["layers"]) for network in networks.values() if "layers" in network]
    return max(levels, default=_UNKNOWN_HALVINGS), max(layers, default=1)


def _times(sizes: Any) -> str:
    return " x ".join(map(str, sizes))
