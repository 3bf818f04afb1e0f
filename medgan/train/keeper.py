"""What a training keeps: the newest checkpoints to go on from, the best networks, and some along the way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from medgan.checkpoint import link, read_checkpoint, write_checkpoint
from medgan.config import InputError
from medgan.recipes import Recipe
from medgan.rundir import RunDir
from medgan.train.ranks import Ranks


class Keeper:
    """Writes and reads the checkpoints of one run.

    One file holds everything of one step: networks, optimizers and, of every further rank, what is its own (image
    pools, statistics). It is written by the first rank, whole or not at all, and the ones before it stay for a while,
    so that there is always one to go on from.
    """

    def __init__(self, run: RunDir, ranks: Ranks, recipe: Recipe, facts: Mapping[str, Any], keep_last: int) -> None:
        """
        Args:
            run: whose checkpoints.
            ranks: the processes that train it.
            recipe: what is saved and restored.
            facts: what every file tells beside the weights: recipe, data, seed.
            keep_last: how many checkpoints stay, the newest included.
        """
        self.run, self.ranks, self.recipe, self.facts, self.keep_last = run, ranks, recipe, facts, keep_last
        self._step = -1  # of last.pt

    def save(self, step: int, progress: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Everything that decides the next step; all ranks call this.

        Args:
            step: the steps that are done.
            progress: of the training as a whole, equal on all ranks.
            own: of this rank alone.
        """
        mine = dict(own) if self.ranks.is_first else {**own, "networks": own_state(self.recipe)}
        everyone = self.ranks.gathered(mine)
        if not self.ranks.is_first:
            return
        state = {**self.facts, **progress, **self.recipe.state(), "step": step, "ranks": everyone}
        if self._step >= 0:
            link(self.run.checkpoint("last"), self.run.earlier_checkpoint(self._step))
        write_checkpoint(self.run.checkpoint("last"), state)
        self._step = step
        for old in self.run.resumable_checkpoints()[self.keep_last :]:
            old.unlink()

    def save_networks(self, kind: str, step: int) -> None:
        """The networks alone, to use and not to go on from: "best", or the number of a step."""
        if self.ranks.is_first:
            state = {**self.facts, "step": step, "networks": self.recipe.state()["networks"]}
            write_checkpoint(self.run.checkpoint(kind), state)

    def resume(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Restore the recipe from the newest checkpoint that is whole.

        Returns:
            The checkpoint's progress and what was this rank's own; None where there is nothing to go on from.

        Raises:
            InputError: there are checkpoints, and all of them are damaged.
        """
        chosen = self.ranks.of_the_first(self._newest() if self.ranks.is_first else None)
        if isinstance(chosen, str):
            raise InputError(chosen)
        if chosen is None:
            return None
        state = read_checkpoint(chosen, mapped=False)
        everyone = state.pop("ranks", [{}])
        own = everyone[self.ranks.rank] if self.ranks.rank < len(everyone) else {}
        state["networks"] |= own.get("networks", {})
        self.recipe.load_state(state)
        self._step = state["step"]
        if self.ranks.is_first and len(everyone) != self.ranks.count:
            _tell(f"saved by {len(everyone)} ranks, goes on with {self.ranks.count}: batches are another size now")
        return state, own

    def _newest(self) -> Path | str | None:
        """The newest checkpoint that is whole, what to tell where none of them is, or None where there is none."""
        folder = self.run.checkpoint("last").parent
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink()  # of a killed training, while it wrote
        damaged: list[Path] = []
        for path in self.run.resumable_checkpoints():
            try:
                step = read_checkpoint(path)["step"]
            except InputError:
                damaged.append(path)
                continue
            for other in damaged:
                other.replace(other.with_suffix(".damaged"))
            if damaged:
                names = ", ".join(other.with_suffix(".damaged").name for other in damaged)
                _tell(f"{damaged[0]}: damaged, kept as {names}; going on from the one before, of step {step}")
                link(path, self.run.checkpoint("last"))
            return path
        if damaged:
            return (
                f"{damaged[0]}: damaged, and so are all that training could go on from; bring one back from a copy, "
                "or name another folder"
            )
        return None


def own_state(recipe: Recipe) -> dict[str, Any]:
    """What differs between ranks: pools, statistics of batches; all but the weights, which are equal."""
    weights = {name for name, _ in recipe.named_parameters()}
    return {
        name: value.cpu() if isinstance(value, Tensor) else value
        for name, value in recipe.state_dict().items()
        if name not in weights
    }


def _tell(line: str) -> None:
    print(f"medgan: {line}", file=sys.stderr)
