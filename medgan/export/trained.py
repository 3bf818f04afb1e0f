"""What a run has learnt, apart from the run: networks, how volumes are prepared for them, what they learnt from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from torch import nn
from torch.optim.swa_utils import AveragedModel

from medgan.checkpoint import build_recipe, find_checkpoint, read_checkpoint
from medgan.config import InputError, suggest, validate
from medgan.data.grid import Triple, triple
from medgan.data.store import open_store
from medgan.networks.slicewise import for_volumes
from medgan.preprocess import PreparedDomain
from medgan.rundir import CheckpointKind, Direction, RunDir

_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Trained:
    """The networks of a run, in eval mode on the CPU; nothing in it names a patient or a place.

    Attributes:
        recipe: its name.
        generators: by direction.
        segmentors: by domain, where there are any.
        domains: how volumes of A and B are prepared.
        patch_size: voxels of the training's patches, where known.
        counts: images that were learnt from, watched and held out, by domain; empty where that is not recorded.
        summary: of `medgan evaluate`, or empty.
    """

    recipe: str
    generators: Mapping[Direction, nn.Module]
    segmentors: Mapping[str, nn.Module]
    domains: Mapping[str, PreparedDomain]
    patch_size: Triple | None
    counts: Mapping[str, Mapping[str, int]]
    summary: Mapping[str, Any]

    @property
    def direction(self) -> Direction:
        """The one that a user will mean: into CT, else the first."""
        into_ct = [way for way in self.generators if self.domains[way[1]].modality == "ct"]
        return (into_ct or list(self.generators))[0]

    def choose(self, direction: Direction | None) -> Direction:
        """The direction that is asked for, or that of `direction`.

        Raises:
            InputError: the run has not learnt it.
        """
        chosen = direction or self.direction
        if chosen not in self.generators:
            raise InputError(f"--direction {chosen}: not learnt by this run; {suggest(chosen, self.generators)}")
        return chosen


def load_trained(run: RunDir, checkpoint: CheckpointKind = "best") -> Trained:
    """What a run has learnt.

    Raises:
        InputError: no checkpoint, one that cannot be read without running code from it, or no translator in it.
    """
    path = find_checkpoint(run, checkpoint)
    state = read_checkpoint(path)
    recipe = build_recipe(state, path)
    patch_size = triple(state["patch_size"]) if "patch_size" in state else None
    found = {way: recipe.translator(way) for way in _DIRECTIONS}
    generators = {way: _plain(network, patch_size) for way, network in found.items() if network is not None}
    if not generators:
        raise InputError(f"{run.path}: its recipe {state['recipe']['name']} translates nothing; name another run")
    read = {side: recipe.segmentor(cast(Any, side)) for side in "AB"}
    segmentors = {side: _plain(network, patch_size) for side, network in read.items() if network is not None}
    domains = {side: validate(PreparedDomain, state["domains"].get(side), f"{path}: domains.{side}") for side in "AB"}
    return Trained(
        recipe=str(state["recipe"]["name"]),
        generators=generators,
        segmentors=segmentors,
        domains=domains,
        patch_size=patch_size,
        counts=_counts(run),
        summary=_summary(run),
    )


def _plain(network: nn.Module, patch_size: Triple | None) -> nn.Module:
    """Without the averaging around it, as one of volumes."""
    inner = network.module if isinstance(network, AveragedModel) else network
    return for_volumes(inner, patch_size).eval().requires_grad_(False)


def _counts(run: RunDir) -> dict[str, dict[str, int]]:
    if not (run.preprocess / "cases.json").is_file():
        return {}
    stored = open_store(run.preprocess)
    return {side: dict(Counter(str(case.split) for case in stored if case.domain == side)) for side in "AB"}


def _summary(run: RunDir) -> dict[str, Any]:
    path = run.evaluate / "summary.json"
    if not path.is_file():
        return {}
    try:
        return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise InputError(f"{path}: not JSON, or cut short; run `medgan evaluate` again") from None
