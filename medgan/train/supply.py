"""Where batches come from: prepared cases or a source of samples, cut by workers, brought to the device."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import copy
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from medgan.config import Component, InputError
from medgan.data.datasets import SEED, PatchDataset
from medgan.data.sources import SourceDataset, source
from medgan.data.store import StoredCase, open_store
from medgan.recipes import Recipe
from medgan.rundir import RunDir
from medgan.train.mishaps import ignore_signals
from medgan.train.options import TrainOptions

Batches = PatchDataset | SourceDataset


class Supply:
    """Batch n of a training and of its validation, on the device.

    Attributes:
        training: batch n for every step n.
        validation: batches that no player learns from; None without held-out patients.
        facts: of the data, for the checkpoint.
        waited_s: seconds in which the training had no batch.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        options: TrainOptions,
        run: RunDir,
        seed: int,
        samples: Component | None = None,
    ) -> None:
        """
        Args:
            fabric: this process among its ranks.
            recipe: what learns from it.
            options: sizes of batches and patches, workers.
            run: whose prepared cases are read.
            seed: of what is drawn.
            samples: a source of `medgan.data.sources` instead of prepared cases.

        Raises:
            InputError: no prepared cases, or none that the recipe can learn from.
        """
        self.fabric, self.workers, self.waited_s = fabric, options.workers, 0.0
        self.training: Batches
        self.validation: Batches | None
        self.facts: dict[str, Any]
        if samples is None:
            self.training, self.validation = _patches(recipe, options, open_store(run.preprocess), fabric, seed)
            domains = json.loads((run.preprocess / "domains.json").read_text(encoding="utf-8"))
            self.facts = {"domains": domains, "patch_size": list(options.patch_size)}
        else:
            self.training, self.validation = _samples(recipe, options, samples, fabric, seed)
            self.facts = {"domains": {}, "source": samples.model_dump(mode="json")}

    @property
    def is_upright(self) -> bool:
        """Whether images are shown as they are, as pictures; otherwise as radiologists look at volumes."""
        return isinstance(self.training, SourceDataset)

    def batches(self, first: int, end: int) -> Iterator[dict[str, Tensor]]:
        """The batches of steps `first` to `end` - 1."""
        loader = DataLoader(
            Subset(self.training, range(first, end)),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.fabric.device.type == "cuda",
            worker_init_fn=ignore_signals,
        )
        left = iter(loader)
        while True:
            begin = time.perf_counter()
            batch = next(left, None)
            if batch is None:
                return
            placed = _augmented(self.training, self._placed(batch))
            self.waited_s += time.perf_counter() - begin
            yield placed

    def held_out(self) -> Iterator[dict[str, Tensor]]:
        """The batches of validation, always the same ones."""
        for index in range(len(self.validation) if self.validation else 0):
            assert self.validation is not None
            yield self._placed(self.validation[index])

    def of_rank(self, step: int, rank: int) -> dict[str, Tensor]:
        """What a rank was given in a step, in main memory."""
        training = copy(self.training)
        training.rank = rank
        return _augmented(training, training[step])

    def _placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """All but seeds, which are read here: reading them off a device would wait for all that it has to do."""
        device = self.fabric.device
        return {k: v if k.startswith(SEED) else v.to(device, non_blocking=True) for k, v in batch.items()}


def _augmented(batches: Batches, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A placed batch, with what was put off until now."""
    return batches.augmented(batch) if isinstance(batches, PatchDataset) else batch


def _patches(
    recipe: Recipe, options: TrainOptions, cases: list[StoredCase], fabric: Fabric, seed: int
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
        augment_later=options.augment is not None and options.augment_on == "device",
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
