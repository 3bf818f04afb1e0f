"""Train any recipe: the only loop."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from medgan.checkpoint import Precision, choose_device, is_bf16, read_checkpoint, write_checkpoint
from medgan.config import Component, InputError, StrictModel, bind
from medgan.data.datasets import PatchDataset
from medgan.data.sources import SourceDataset, source
from medgan.data.store import StoredCase, open_store
from medgan.data.transforms import Augment
from medgan.networks.blocks import refuse_wrong_gradients
from medgan.recipes import RECIPES, Direction, Recipe
from medgan.rundir import RunDir
from medgan.train.diagnostics import diversity
from medgan.train.logbook import Logbook, by_player, progress_bar
from medgan.train.ranks import average, average_gradients, launch, seed_step

Batches = PatchDataset | SourceDataset
_WAYS: tuple[Direction, ...] = get_args(Direction)
_SHOWN = 8  # samples of a preview, at most
_DIVERSE = 64  # samples that are compared with as many real ones, at most


class TrainOptions(StrictModel):
    """The ``train:`` section."""

    num_steps: int = Field(20_000, gt=0, description="steps of the whole training; schedules are shares of it")
    batch_size: int = Field(1, gt=0, description="patches of each domain per step and rank")
    patch_size: tuple[int, int, int] = Field((128, 128, 128), description="voxels of the prepared grid along x, y, z")
    label_focus: float = Field(0.5, ge=0, le=1, description="share of patches centred on a class drawn uniformly")
    position_jitter: float | None = Field(
        0.1,
        ge=0,
        description="B's patch lies where A's lies in its body, within this share of the body; null: anywhere",
    )
    augment: Augment | None = Field(Augment(), description="of patches, on the fly; null: off")
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm of a player; null: off")
    precision: Precision = Field("auto", description="of the networks; auto: bf16 where the processor has it")
    workers: int = Field(0, ge=0, description="processes that cut patches; 0: in the training process")
    log_every: int = Field(20, gt=0, description="steps between lines of losses.jsonl, means since the last")
    validate_every: int = Field(500, gt=0, description="steps between looks at the validation patients")
    validation_patches: int = Field(8, gt=0, description="patches per look, always the same ones")
    preview_every: int = Field(500, gt=0, description="steps between preview pictures")
    checkpoint_every: int = Field(500, gt=0, description="steps between checkpoints")
    keep_every: int | None = Field(
        None, gt=0, description="steps between networks that are kept for good, checkpoints/<step>.pt; null: none"
    )


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
    ``train/checkpoints/{last,best}.pt``. Under ``torchrun`` or SLURM every rank runs this; gradients are averaged once
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
        InputError: no prepared cases, or losses that are not finite.
    """
    place = choose_device(device)
    fabric = launch(place, is_bf16(options.precision, place))
    torch.manual_seed(seed)
    target, values = bind(recipe_choice, RECIPES, "recipe")
    recipe: Recipe = target(**values)
    recipe.clip_norm = options.clip_norm
    recipe.average_gradients = lambda gradients: average_gradients(fabric, gradients)
    recipe.to(fabric.device)
    refuse_wrong_gradients(recipe)
    facts: dict[str, Any] = {"recipe": recipe_choice.model_dump(mode="json"), "seed": seed}
    training: Batches
    validation: Batches | None
    if samples is None:
        training, validation = _patches(recipe, options, open_store(run.preprocess), fabric, seed)
        domains = json.loads((run.preprocess / "domains.json").read_text(encoding="utf-8"))
        facts |= {"domains": domains, "patch_size": list(options.patch_size)}
    else:
        training, validation = _samples(recipe, options, samples, fabric, seed)
        facts |= {"domains": {}, "source": samples.model_dump(mode="json")}
    return _Loop(fabric, recipe, training, validation, options, run, facts, seed).run()


class _Loop:
    """One training: where it stands and what it writes."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        training: Batches,
        validation: Batches | None,
        options: TrainOptions,
        run: RunDir,
        facts: dict[str, Any],
        seed: int,
    ) -> None:
        self.fabric, self.recipe, self.options, self.facts, self.seed = fabric, recipe, options, facts, seed
        self.training, self.validation = training, validation
        self.place, self.folder = run, run.train
        self.step, self.best = 0, -math.inf
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def run(self) -> str:
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self._resume()
        is_shown = self.fabric.is_global_zero and self.step < self.options.num_steps
        with progress_bar(is_shown) as bar, self._logbook() as book:
            task = bar.add_task("", total=self.options.num_steps, completed=self.step)
            for batch in self._batches():
                self._train_one(batch)
                if self._due(self.options.log_every) or self._due(self.options.checkpoint_every):
                    means = self._log(batch, book)
                    bar.update(task, description=by_player(means))
                if self._due(self.options.validate_every):
                    self._validate(book)
                if self._due(self.options.preview_every):
                    self._preview(batch, book)
                if self.options.keep_every and self.step % self.options.keep_every == 0:
                    self._save(f"{self.step:07d}")
                if self._due(self.options.checkpoint_every):
                    self._save("last")
                bar.update(task, completed=self.step)
            return book.close(self.step) if book else ""

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.options.num_steps

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        rest = Subset(self.training, range(self.step, self.options.num_steps))
        loader = DataLoader(
            rest,
            batch_size=None,
            num_workers=self.options.workers,
            pin_memory=self.fabric.device.type == "cuda",
            persistent_workers=False,
        )
        for batch in loader:
            yield {key: value.to(self.fabric.device, non_blocking=True) for key, value in batch.items()}

    def _train_one(self, batch: dict[str, Tensor]) -> None:
        progress = self.step / self.options.num_steps
        seed_step(self.seed, self.step, self.fabric.global_rank)
        self.step += 1
        self.recipe.train()
        self.recipe.set_progress(progress)
        self.recipe.gradient_norms = {} if self._due(self.options.log_every) else None
        with self.fabric.autocast():
            losses = self.recipe.training_step(batch, progress)
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def _log(self, batch: dict[str, Tensor], book: Logbook | None) -> dict[str, float]:
        means = {name: average(self.fabric, total / self.counts[name]) for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if broken or not all(torch.isfinite(parameter).all() for parameter in self.recipe.parameters()):
            raise InputError(
                f"train: {', '.join(broken) or 'weights'} not finite at step {self.step}; the last checkpoint stands: "
                "in a new run folder, lower recipe.lr or set train.clip_norm=1 or train.precision=float32"
            )
        if book:
            norms = self.recipe.gradient_norms or {}
            watched = {f"watch/gradient_{player}": norm.item() for player, norm in norms.items()}
            if self._due(self.options.validate_every):
                watched |= self._diversity(batch)
            book.losses(self.step, means | watched)
        return means

    @torch.no_grad()
    def _diversity(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """How much samples, or translations, differ among themselves, as a share of how much real images do."""
        self.recipe.eval()
        sampler = self.recipe.sampler()
        ways = [way for way in _WAYS if "B" in batch and self.recipe.translator(way) is not None]
        if min(_DIVERSE, len(batch["A"])) < 4 or not (sampler or ways):
            return {}
        with self.fabric.autocast():
            if sampler:
                real = batch["A"][:_DIVERSE]
                classes = batch["class_A"][: len(real)] if sampler.num_classes else None
                fake = sampler(sampler.latents(len(real)).to(real.device), classes)
            else:
                network = self.recipe.translator(ways[0])
                assert network is not None
                fake, real = network(batch[ways[0][0]][:_DIVERSE]), batch[ways[0][1]][:_DIVERSE]
        return {"watch/diversity": (diversity(fake) / diversity(real).clamp(min=1e-6)).item()}

    @torch.no_grad()
    def _validate(self, book: Logbook | None) -> None:
        if self.validation is None:
            return
        self.recipe.eval()
        found: dict[str, list[float]] = {}
        for index in range(len(self.validation)):
            batch = {key: value.to(self.fabric.device) for key, value in self.validation[index].items()}
            with self.fabric.autocast():
                measures = self.recipe.validation_step(batch)
            for name, value in measures.items():
                found.setdefault(name, []).append(value.item())
        means = {name: float(np.mean(values)) for name, values in found.items()}
        if book:
            book.validation(self.step, means)
        if means["score"] > self.best:
            self.best = means["score"]
            self._save("best")

    @torch.no_grad()
    def _preview(self, batch: dict[str, Tensor], book: Logbook | None) -> None:
        if book is None:
            return
        shown = batch
        if self.validation is not None:
            shown = {key: value[:_SHOWN].to(self.fabric.device) for key, value in self.validation[0].items()}
        self.recipe.eval()
        with self.fabric.autocast():
            images = self.recipe.preview(shown)
        book.preview(self.step, images, is_upright=isinstance(self.training, SourceDataset))

    def _logbook(self) -> Any:
        return Logbook(self.folder, self.step) if self.fabric.is_global_zero else nullcontext()

    def _save(self, kind: str) -> None:
        """Write a checkpoint whole or not at all. Pools differ between ranks, so each further rank writes its own."""
        if not self.fabric.is_global_zero:
            if kind == "last":
                pools = {key: value for key, value in self.recipe.state_dict().items() if key.endswith("_extra_state")}
                write_checkpoint(self._of_rank(), {"step": self.step, "networks": pools})
            return
        state = self.recipe.state()
        if kind != "last":
            state = {"networks": state["networks"]}
        write_checkpoint(self.place.checkpoint(kind), {**self.facts, "step": self.step, "best": self.best, **state})

    def _of_rank(self) -> Path:
        return self.place.checkpoint("last").with_suffix(f".rank{self.fabric.global_rank}.pt")

    def _resume(self) -> None:
        path = self.place.checkpoint("last")
        if path.exists():
            state = read_checkpoint(path)
            if self.fabric.global_rank and self._of_rank().exists():
                state["networks"] |= torch.load(self._of_rank(), weights_only=True)["networks"]
            self.recipe.load_state(state)
            self.step, self.best = state["step"], state["best"]
        self.fabric.barrier()


def _patches(
    recipe: Recipe, options: TrainOptions, cases: Sequence[StoredCase], fabric: Fabric, seed: int
) -> tuple[PatchDataset, PatchDataset | None]:
    def of(split: str) -> list[StoredCase]:
        return [case for case in cases if case.split == split]

    training = PatchDataset(
        of("train"),
        pairing=recipe.pairing,
        patch_size=options.patch_size,
        batch_size=options.batch_size,
        seed=seed,
        num_steps=options.num_steps,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        label_focus=options.label_focus,
        position_jitter=options.position_jitter,
        augment=options.augment,
    )
    held_out = of("validation")
    needed = {"A", "B"} if recipe.pairing != "single" else {"A"}
    if not needed <= {case.domain for case in held_out}:
        return training, None
    try:
        validation = PatchDataset(
            held_out,
            pairing=recipe.pairing,
            patch_size=options.patch_size,
            batch_size=1,
            seed=seed,
            num_steps=options.validation_patches,
            label_focus=options.label_focus,
            position_jitter=options.position_jitter,
        )
    except InputError:  # held-out patients that do not pair up: no selection
        return training, None
    return training, validation


def _samples(
    recipe: Recipe, options: TrainOptions, choice: Component, fabric: Fabric, seed: int
) -> tuple[SourceDataset, SourceDataset]:
    drawn = source(choice)
    training = SourceDataset(
        drawn,
        pairing=recipe.pairing,
        split="train",
        batch_size=options.batch_size,
        seed=seed,
        num_steps=options.num_steps,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    validation = SourceDataset(
        drawn,
        pairing=recipe.pairing,
        split="validation",
        batch_size=options.batch_size,
        seed=seed,
        num_steps=options.validation_patches,
    )
    return training, validation
