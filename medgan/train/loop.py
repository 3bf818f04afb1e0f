"""The only loop: batch by batch, and now and then a line, a look, a picture, a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from medgan.lock import RunLock
from medgan.recipes import Recipe
from medgan.train.finite import FiniteCheck
from medgan.train.keeper import Keeper
from medgan.train.logbook import Logbook, by_player, progress_bar
from medgan.train.looks import measures, pictures, spread
from medgan.train.options import TrainOptions
from medgan.train.ranks import Ranks, seed_step
from medgan.train.signals import Stopped, StopRequest
from medgan.train.supply import Supply
from medgan.train.tally import Clock, Tally

_NOTED = 100  # steps, at most, until somebody looks whether they were finite


class Loop:
    """One training: where it stands, and what happens after each step."""

    def __init__(
        self, ranks: Ranks, recipe: Recipe, supply: Supply, keeper: Keeper, options: TrainOptions, seed: int
    ) -> None:
        self.ranks, self.fabric = ranks, ranks.fabric
        self.recipe, self.supply, self.keeper, self.options, self.seed = recipe, supply, keeper, options, seed
        self.step, self.best, self.tally = 0, -math.inf, Tally()
        self.finite = FiniteCheck(ranks, recipe)

    def run(self, lock: RunLock | None, skipped: Collection[int]) -> str:
        """From the last checkpoint to the end.

        Args:
            lock: of the run, where this rank writes.
            skipped: steps whose batches are left out, beside those that the checkpoint names.

        Returns:
            What was seen to go wrong, in a line.

        Raises:
            NotFiniteError: after a step of which something was not.
            Stopped: a signal came, and all is saved.
        """
        self.skipped = {*skipped, *self._resume()}
        end = self.options.num_steps
        is_shown = self.ranks.is_first and self.step < end
        with StopRequest() as request, progress_bar(is_shown) as bar, self._logbook() as book:
            task = bar.add_task("", total=end, completed=self.step)
            self.clock = Clock(self.step, self.supply.waited_s)
            for batch in self.supply.batches(self.step, end):
                self._train_one(batch)
                is_last = self.ranks.any(bool(request.name))
                if is_last or self._is_look():
                    self.finite.refuse()
                    if lock:
                        lock.check()
                means = self._look(batch, book)
                if is_last or self._due(self.options.checkpoint_every):
                    self._save()
                bar.update(task, completed=self.step)
                if means:
                    bar.update(task, description=by_player(means))
                if is_last and self.step < end:
                    raise Stopped(self.step, end, request.name, is_told=self.ranks.is_first)
            return book.close(self.step) if book else ""

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.options.num_steps

    def _is_kept(self) -> bool:
        return self.options.keep_every is not None and self.step % self.options.keep_every == 0

    def _is_look(self) -> bool:
        """Whether something is written after this step."""
        options = self.options
        often = (options.log_every, options.validate_every, options.preview_every, options.checkpoint_every, _NOTED)
        return self._is_kept() or any(self._due(every) for every in often)

    def _train_one(self, batch: dict[str, Tensor]) -> None:
        progress = self.step / self.options.num_steps
        seed_step(self.seed, self.step, self.ranks.rank)
        self.step += 1
        if self.step in self.skipped:
            return
        self.recipe.train()
        self.recipe.set_progress(progress)
        self.recipe.gradient_norms = {} if self._due(self.options.log_every) else None
        with self.fabric.autocast():
            losses = self.recipe.training_step_in_parts(batch, progress, self.options.accumulate)
        self.tally.add(losses)
        self.finite.note(self.step, losses)

    def _look(self, batch: dict[str, Tensor], book: Logbook | None) -> dict[str, float]:
        """Write what is due after this step, but for the checkpoint: it comes last, and vouches for the rest."""
        means = self._log(batch, book) if self._due(self.options.log_every) else {}
        if self._due(self.options.validate_every):
            self._validate(book)
        if self._due(self.options.preview_every) and book:
            shown = next(self.supply.held_out(), batch)
            book.preview(self.step, pictures(self.recipe, shown, self.fabric), self.supply.is_upright)
        if self._is_kept():
            self.keeper.save_networks(f"{self.step:07d}", self.step)
        return means

    def _log(self, batch: dict[str, Tensor], book: Logbook | None) -> dict[str, float]:
        means = {name: self.ranks.average(mean) for name, mean in self.tally.means().items()}
        if book and means:
            norms = self.recipe.gradient_norms or {}
            watched = {f"watch/gradient_{player}": norm.item() for player, norm in norms.items()}
            if self._due(self.options.validate_every):
                watched |= spread(self.recipe, batch, self.fabric)
            book.losses(self.step, means | watched)
            book.times(self.step, self.clock.lap(self.step, self.supply.waited_s))
        return means

    def _validate(self, book: Logbook | None) -> None:
        means = measures(self.recipe, self.supply.held_out(), self.fabric)
        if not means:
            return
        if book:
            book.validation(self.step, means)
        if means["score"] > self.best:
            self.best = means["score"]
            self.keeper.save_networks("best", self.step)

    def _logbook(self) -> AbstractContextManager[Logbook | None]:
        if not self.ranks.is_first:
            return nullcontext()
        told = {key: self.keeper.facts[key] for key in ("recipe", "seed")}
        told["train"] = self.options.model_dump(mode="json", exclude={"trackers"})
        return Logbook(self.keeper.run.train, self.step, self.options.trackers, told)

    def _save(self) -> None:
        done = sorted(step for step in self.skipped if step <= self.step)
        self.keeper.save(self.step, {"best": self.best, "skipped": done}, {"tally": self.tally.state()})

    def _resume(self) -> list[int]:
        """Go back to the last checkpoint; the steps that it left out."""
        found = self.keeper.resume()
        if found is None:
            return []
        progress, own = found
        self.step, self.best = progress["step"], progress["best"]
        if "tally" in own:
            self.tally.load_state(own["tally"], self.fabric.device)
        return list(progress.get("skipped", []))
