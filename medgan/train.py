"""Train any recipe: the only loop."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from medgan.checkpoint import Precision, choose_device, is_bf16, read_checkpoint, write_checkpoint
from medgan.config import Component, InputError, StrictModel, bind
from medgan.data.datasets import PatchDataset
from medgan.data.store import StoredCase, open_store
from medgan.data.transforms import Augment
from medgan.recipes import RECIPES, Recipe
from medgan.rundir import RunDir


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


def train(recipe_choice: Component, options: TrainOptions, run: RunDir, *, seed: int, device: str = "auto") -> None:
    """Train on what `preprocess` left in the run; called again, go on from the last checkpoint, bit for bit on a CPU.

    Writes ``train/losses.jsonl``, ``train/previews/``, ``train/tensorboard/`` and ``train/checkpoints/{last,best}.pt``.
    Under ``torchrun`` or SLURM every rank runs this; gradients are averaged once per player and step.

    Raises:
        InputError: no prepared cases, or losses that are not finite.
    """
    bf16 = is_bf16(options.precision, choose_device(device))
    nodes, per_node = _ranks()
    kind, _, index = str(choose_device(device)).partition(":")
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index and per_node == 1 else per_node,
        num_nodes=nodes,
        strategy="ddp" if nodes * per_node > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    torch.manual_seed(seed)
    target, values = bind(recipe_choice, RECIPES, "recipe")
    recipe: Recipe = target(**values)
    recipe.clip_norm = options.clip_norm
    recipe.average_gradients = lambda gradients: _average(fabric, gradients)
    recipe.to(fabric.device)
    training, validation = _datasets(recipe, options, open_store(run.preprocess), fabric, seed)
    facts = {
        "recipe": recipe_choice.model_dump(mode="json"),
        "domains": json.loads((run.preprocess / "domains.json").read_text(encoding="utf-8")),
        "patch_size": list(options.patch_size),
        "seed": seed,
    }
    _Loop(fabric, recipe, training, validation, options, run, facts, seed).run()


class _Loop:
    """One training: where it stands and what it writes."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        training: PatchDataset,
        validation: PatchDataset | None,
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

    def run(self) -> None:
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (self.folder / "previews").mkdir(exist_ok=True)
        self._resume()
        if self.step >= self.options.num_steps:
            return
        with _progress(self.fabric.is_global_zero) as bar, self._tensorboard() as board:
            task = bar.add_task("", total=self.options.num_steps, completed=self.step)
            for batch in self._batches():
                self._train_one(batch)
                if self._due(self.options.log_every) or self._due(self.options.checkpoint_every):
                    means = self._log(board)
                    bar.update(task, description=_by_player(means))
                if self._due(self.options.validate_every):
                    self._validate(board)
                if self._due(self.options.preview_every):
                    self._preview(batch, board)
                if self._due(self.options.checkpoint_every):
                    self._save("last")
                bar.update(task, completed=self.step)

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
        _seed(self.seed, self.step, self.fabric.global_rank)
        self.recipe.train()
        self.recipe.set_progress(progress)
        with self.fabric.autocast():
            losses = self.recipe.training_step(batch, progress)
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.step += 1

    def _log(self, board: Any) -> dict[str, float]:
        means = {name: self._over_ranks(total / self.counts[name]) for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if broken or not all(torch.isfinite(parameter).all() for parameter in self.recipe.parameters()):
            raise InputError(
                f"train: {', '.join(broken) or 'weights'} not finite at step {self.step}; the last checkpoint stands: "
                "in a new run folder, lower recipe.lr or set train.clip_norm=1 or train.precision=float32"
            )
        if self.fabric.is_global_zero:
            self._write("losses.jsonl", {"step": self.step, **means})
            for name, mean in means.items():
                board.add_scalar(name, mean, self.step)
        return means

    def _over_ranks(self, value: Tensor) -> float:
        mean = self.fabric.all_reduce(value, reduce_op="mean") if self.fabric.world_size > 1 else value
        assert isinstance(mean, Tensor)
        return mean.item()

    @torch.no_grad()
    def _validate(self, board: Any) -> None:
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
        if self.fabric.is_global_zero:
            self._write("validation.jsonl", {"step": self.step, **means})
            for name, mean in means.items():
                board.add_scalar(f"validation/{name}", mean, self.step)
        if means["score"] > self.best:
            self.best = means["score"]
            self._save("best")

    def _preview(self, batch: dict[str, Tensor], board: Any) -> None:
        if not self.fabric.is_global_zero:
            return
        from PIL import Image

        shown = (
            batch if self.validation is None else {k: v.to(self.fabric.device) for k, v in self.validation[0].items()}
        )
        self.recipe.eval()
        with self.fabric.autocast():
            images = self.recipe.preview(shown)
        picture = preview_picture(list(images.values()))
        Image.fromarray(picture).save(self.folder / "previews" / f"{self.step:07d}.png")
        (self.folder / "previews" / "columns.json").write_text(json.dumps(list(images)), encoding="utf-8")
        board.add_image("preview: " + ", ".join(images), picture, self.step, dataformats="HW")

    def _write(self, name: str, line: dict[str, float]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _tensorboard(self) -> Any:
        from contextlib import nullcontext

        from torch.utils.tensorboard import SummaryWriter

        if not self.fabric.is_global_zero:
            return nullcontext()
        return SummaryWriter(self.folder / "tensorboard", purge_step=self.step + 1)

    def _save(self, kind: Literal["last", "best"]) -> None:
        """Write a checkpoint whole or not at all. Pools differ between ranks, so each further rank writes its own."""
        if not self.fabric.is_global_zero:
            if kind == "last":
                pools = {key: value for key, value in self.recipe.state_dict().items() if key.endswith("_extra_state")}
                write_checkpoint(self._of_rank(), {"step": self.step, "networks": pools})
            return
        state = self.recipe.state()
        if kind == "best":
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
        if self.fabric.is_global_zero:
            for name in ("losses.jsonl", "validation.jsonl"):
                _forget_after(self.folder / name, self.step)
        self.fabric.barrier()


def _datasets(
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


def preview_picture(images: Sequence[Tensor]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images ``(B, 1, *S)`` in [-1, 1] side by side, a row per sample, volumes by the middle axial cut; ``(H, W)``."""
    columns = []
    for image in images:
        cuts = image[:, 0].float().cpu()
        if cuts.ndim == 4:
            cuts = cuts[..., cuts.shape[-1] // 2]
        upright = cuts.transpose(1, 2).flip(1, 2)  # as radiologists look: the patient's right on the left, anterior up
        columns.append(torch.nn.functional.pad(upright, (1, 1, 1, 1), value=-1.0).flatten(0, 1))
    grey = (torch.cat(columns, dim=1).clamp(-1, 1) + 1) * 127.5
    return grey.round().to(torch.uint8).repeat_interleave(3, 0).repeat_interleave(3, 1).numpy()


def _progress(shown: bool) -> Progress:
    columns = (
        TextColumn("train"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, disable=not shown)


def _by_player(means: Mapping[str, float]) -> str:
    """The sum of each player's terms, short enough for a terminal: ``G 7.3  D 0.31  S 0.9``."""
    sums: dict[str, float] = {}
    for name, mean in means.items():
        player = name.split("/")[0]
        sums[player] = sums.get(player, 0.0) + mean
    return "  ".join(f"{player} {total:.3g}" for player, total in sums.items())


def _ranks() -> tuple[int, int]:
    """Number of nodes, and of ranks on each, as `torchrun` or SLURM started them."""
    if "WORLD_SIZE" in os.environ:
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return int(os.environ["WORLD_SIZE"]) // per_node, per_node
    nodes = int(os.environ.get("SLURM_NNODES", "1"))
    return nodes, int(os.environ.get("SLURM_NTASKS", "1")) // nodes


def _seed(seed: int, step: int, rank: int) -> None:
    """Noise within a step is a function of (seed, step, rank): nothing about it has to be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


def _average(fabric: Fabric, gradients: list[Tensor]) -> None:
    """One reduction for a player's gradients."""
    if fabric.world_size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    mean = fabric.all_reduce(flat, reduce_op="mean")
    assert isinstance(mean, Tensor)
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):  # type: ignore[no-untyped-call]
        gradient.copy_(part.view_as(gradient))


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines that a killed run wrote after its last checkpoint: the resumed run writes them again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")
