"""Train any recipe."""

from __future__ import annotations

import logging
import sys

import torch

from medgan.checkpoint import write_checkpoint
from medgan.config import Component, InputError, bind
from medgan.device import choose_device, is_bf16
from medgan.lock import hold
from medgan.networks.blocks import recompute_blocks, refuse_wrong_gradients
from medgan.networks.compiled import compile_networks
from medgan.networks.fast_convolutions import fast_convolutions
from medgan.recipes import RECIPES, Recipe
from medgan.rundir import RunDir
from medgan.train.finite import Fault, NotFiniteError
from medgan.train.keeper import Keeper
from medgan.train.loop import Loop
from medgan.train.mishaps import told
from medgan.train.options import FREE, TrainOptions
from medgan.train.ranks import Ranks, launch
from medgan.train.supply import Supply

__all__ = ["FREE", "TrainOptions", "train"]

logger = logging.getLogger(__name__)


def train(
    recipe_choice: Component,
    options: TrainOptions,
    run: RunDir,
    *,
    seed: int,
    device: str = "auto",
    samples: Component | None = None,
) -> str:
    """Train on what `preprocess` left in the run; called again, go on from the last checkpoint, bit for bit on a CPU.

    Writes ``train/losses.jsonl``, ``train/previews/``, ``train/tensorboard/``, ``train/diagnosis.json`` and
    ``train/checkpoints/``. Under ``torchrun`` or SLURM every rank runs this; gradients are averaged once
    per player and step.

    Args:
        recipe_choice: what is trained.
        options: how long, on which patches, what is kept.
        run: the run's folder.
        seed: of everything random.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        samples: a source of `medgan.data.sources` to learn from instead of the prepared cases.

    Returns:
        What was seen to go wrong, in one line.

    Raises:
        InputError: no prepared cases, losses that are not finite, no room on the disk, another process writes this run.
        Stopped: SIGTERM or SIGUSR1 came, and all is saved; a `SystemExit` with exit code 0.
    """
    place = choose_device(device)
    with hold(run.path) as lock, told():
        ranks = Ranks(launch(place, is_bf16(options.precision, place)))
        skipped: set[int] = set()
        while True:
            training = _begun(recipe_choice, options, run, ranks, seed, samples)
            try:
                return training.run(lock, skipped)
            except NotFiniteError as error:
                skipped = _without(error.fault, training)
            del training  # there is room for one


def _begun(
    recipe_choice: Component, options: TrainOptions, run: RunDir, ranks: Ranks, seed: int, samples: Component | None
) -> Loop:
    """The training at its start."""
    torch.manual_seed(seed)
    target, values = bind(recipe_choice, RECIPES, "recipe")
    recipe: Recipe = target(**values)
    recipe.clip_norm = options.clip_norm
    recipe.average_gradients = ranks.average_gradients
    recipe.to(ranks.fabric.device)
    refuse_wrong_gradients(recipe)
    fast_convolutions(recipe)
    _spare_memory(recipe, recipe_choice.name, options)
    if options.compile:
        _compile(recipe, recipe_choice.name)
    supply = Supply(ranks.fabric, recipe, options, run, seed, samples)
    facts = {"recipe": recipe_choice.model_dump(mode="json"), "seed": seed, **supply.facts}
    keeper = Keeper(run, ranks, recipe, facts, options.keep_last)
    return Loop(ranks, recipe, supply, keeper, options, seed)


def _spare_memory(recipe: Recipe, name: str, options: TrainOptions) -> None:
    """Let blocks compute their maps again, and see that a batch may go through the networks in parts, as asked.

    Raises:
        InputError: this recipe, or this batch, cannot.
    """
    if options.recompute and not recompute_blocks(recipe):
        raise InputError(f"train.recompute: the networks of {name} have no blocks; leave it off")
    place = f"train.accumulate={options.accumulate}"
    if options.accumulate > 1 and not recipe.at_once:
        raise InputError(f"{place}: the players of {name} move in turn within a step; lower train.batch_size instead")
    if options.batch_size % options.accumulate:
        raise InputError(f"{place}: does not divide train.batch_size={options.batch_size}; give a divisor of it")


def _compile(recipe: Recipe, name: str) -> None:
    """Let the players' networks run compiled, unless the recipe takes second derivatives: torch.compile has none."""
    if recipe.first_order:
        compile_networks(recipe.networks())
    else:
        logger.warning("train.compile: %s may take second derivatives; its networks run as they are", name)


def _without(fault: Fault, training: Loop) -> set[int]:
    """The steps to leave out when the training goes back to its last checkpoint; the batch at fault is kept to look at.

    Raises:
        InputError: none is to be left out, or too many would be.
    """
    options, run = training.options, training.keeper.run
    what = f"train: {fault.term} not finite at step {fault.step}"
    kept = run.train / "not_finite" / f"{fault.step:07d}.pt"
    if training.ranks.is_first:
        kept.parent.mkdir(exist_ok=True)
        write_checkpoint(kept, {**fault._asdict(), "batch": training.supply.of_rank(fault.step - 1, fault.rank)})
    if options.on_nan == "stop":
        raise InputError(
            f"{what} (its batch: {kept}); the last checkpoint stands: the same command with --on-nan skip leaves such "
            "batches out; or, in a new run folder, lower recipe.lr or set train.clip_norm=1 or train.precision=float32"
        )
    skipped = {*training.skipped, fault.step}
    if len(skipped) > options.max_skipped:
        raise InputError(
            f"{what}, and {options.max_skipped} batches are left out already, as many as train.max_skipped allows; the "
            "last checkpoint stands: in a new run folder, lower recipe.lr or set train.clip_norm=1"
        )
    if training.ranks.is_first:
        count = f"{len(skipped)} of at most {options.max_skipped}"
        print(f"medgan: {what}; its batch is left out ({count}), kept in {kept}", file=sys.stderr)
    return skipped
