"""A trained run as a `VolumeTranslator`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from medgan.checkpoint import build_recipe, find_checkpoint, read_checkpoint
from medgan.config import InputError, suggest, validate
from medgan.data.grid import triple
from medgan.device import choose_device
from medgan.networks.slicewise import for_volumes
from medgan.preprocess import PreparedDomain
from medgan.rundir import CheckpointKind, Direction, RunDir
from medgan.translate.options import TranslateOptions
from medgan.translate.translator import VolumeTranslator

_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def load_translator(
    run: RunDir | Path | str,
    direction: Direction = "AB",
    *,
    checkpoint: CheckpointKind | None = None,
    device: str = "auto",
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
) -> VolumeTranslator:
    """The translator that a run has trained: call it with a path, an image of nibabel or SimpleITK, a MONAI
    tensor or a `Volume`.

    Args:
        run: the run's folder.
        direction: "AB" (A to B) or "BA".
        checkpoint: instead of ``options.checkpoint``, which is "best" and falls back to "last".
        device: "auto", "cpu", "cuda", "cuda:1", ...; auto takes a GPU where there is one.
        options: of translating.

    Raises:
        InputError: no checkpoint, one that cannot be read without running code from it, or no such direction.
    """
    if direction not in _DIRECTIONS:
        raise InputError(f"direction '{direction}'; {suggest(direction, _DIRECTIONS)}")
    path = find_checkpoint(_run_dir(run), checkpoint or options.checkpoint)
    state = read_checkpoint(path)
    recipe = build_recipe(state, path)
    generator = recipe.translator(direction)
    if generator is None:
        others = [other for other in _DIRECTIONS if recipe.translator(other) is not None]
        way_out = f"use {others[0]}" if others else "name another run"
        raise InputError(f"direction {direction}: {path} holds no network for it; {way_out}")
    source, target = (
        validate(PreparedDomain, state["domains"].get(side), f"{path}: domains.{side}") for side in direction
    )
    patch_size = triple(state["patch_size"]) if "patch_size" in state else None
    segmentor = recipe.segmentor("B" if direction == "AB" else "A")
    return VolumeTranslator(
        for_volumes(generator, patch_size),
        segmentor and for_volumes(segmentor, patch_size),
        source=source,
        target=target,
        patch_size=patch_size,
        options=options,
        device=choose_device(device),
    )


def directions(run: RunDir | Path | str, checkpoint: CheckpointKind = "best") -> list[Direction]:
    """The directions in which a run can translate.

    Raises:
        InputError: no checkpoint, or one that cannot be read without running code from it.
    """
    path = find_checkpoint(_run_dir(run), checkpoint)
    recipe = build_recipe(read_checkpoint(path), path)
    return [direction for direction in _DIRECTIONS if recipe.translator(direction) is not None]


def _run_dir(run: RunDir | Path | str) -> RunDir:
    return run if isinstance(run, RunDir) else RunDir(Path(run))
