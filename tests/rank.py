"""What two ranks do in test_ranks: run by torchrun, once per rank.

Ranks draw noise of their own. To hold two of them against one, each draws here what all draw together and keeps its
share: `WholeDraws` sees every draw of a training step whose first size is that of the batch, or half of it.
"""

import faulthandler
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

import medgan.train.loop as loops
from medgan.config import Component
from medgan.recipes import Recipe
from medgan.rundir import RunDir
from medgan.train import TrainOptions, train

DRAWS = (torch.rand, torch.randn, torch.randint, torch.rand_like, torch.randn_like)


class WholeDraws(TorchFunctionMode):
    """Draws for the batch of all ranks, of which this rank keeps its own part."""

    def __init__(self, batch_size: int, rank: int, count: int) -> None:
        super().__init__()
        self.batch_size, self.rank, self.count = batch_size, rank, count

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function not in DRAWS:
            return function(*args, **kwargs)
        if function in (torch.rand_like, torch.randn_like):
            shape = tuple(args[0].shape)
            plain = torch.rand if function is torch.rand_like else torch.randn
            return self._part(lambda size: plain(size, dtype=args[0].dtype, device=args[0].device), shape)
        if function is torch.randint:
            low_high, shape = args[:-1], tuple(args[-1])
            return self._part(lambda size: torch.randint(*low_high, size, **kwargs), shape)
        shape = tuple(args[0]) if isinstance(args[0], Sequence) else tuple(args)
        return self._part(lambda size: function(size, **kwargs), shape)

    def _part(self, draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
        if not shape or shape[0] not in (self.batch_size, self.batch_size // 2):
            return draw(shape)
        whole = draw((shape[0] * self.count, *shape[1:]))
        return whole[self.rank * shape[0] : (self.rank + 1) * shape[0]]


def fit(folder: Path, recipe: Component, samples: Component, **options: Any) -> None:
    settled = TrainOptions(
        **{"num_steps": 3, "precision": "float32", "validation_patches": 1, "log_every": 1, **options}
    )
    train(recipe, settled, RunDir(folder), seed=5, device="cpu", samples=samples)


def shared_noise(patch: Callable[[object, str, object], None], rank: int, count: int) -> None:
    """Let this rank draw its part of what all ranks draw, and let batch norm use no statistics of the batch."""
    seed_step, step = loops.seed_step, loops.Loop._train_one
    patch(loops, "seed_step", lambda seed, number, _: seed_step(seed, number, 0))
    patch(_BatchNorm, "train", lambda norm, mode=True: nn.Module.train(norm, False))

    def together(loop: loops.Loop, batch: dict[str, Tensor]) -> None:
        with WholeDraws(len(batch["A"]), rank, count):
            step(loop, batch)

    patch(loops.Loop, "_train_one", together)


def compare_all(folder: Path) -> None:
    """Train a GAN with a pool, and then, on shared noise, every case of the file, on half a batch each."""
    pooled(folder, "whole")
    shared_noise(setattr, int(os.environ["RANK"]), 2)
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        fit(folder / "two" / name, Component(**case["recipe"]), Component(**case["samples"]), batch_size=2)


def fail_once(folder: Path) -> None:
    """Train that GAN again; rank 1 fails in the fourth step, but not when it is started again."""
    step = Recipe.set_progress

    def failing(recipe: Recipe, progress: float) -> None:
        if os.environ["RANK"] == "1" and progress == 0.5 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            (folder / "stood.json").write_text(json.dumps(sorted(map(str, folder.glob("restarted/train/*/*.pt")))))
            raise ZeroDivisionError("rank 1 failed")
        step(recipe, progress)

    Recipe.set_progress = failing  # type: ignore[method-assign]
    pooled(folder, "restarted")


def pooled(folder: Path, name: str) -> None:
    case = json.loads((folder / "cases.json").read_text())["gan"]
    recipe = Component(**case["recipe"] | {"pool_size": 3})
    fit(folder / name, recipe, Component(**case["samples"]), num_steps=6, checkpoint_every=2, batch_size=2)


if __name__ == "__main__":
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(200, exit=True)  # who waits for whom, should they
    sys.path.insert(0, str(Path(__file__).parent))
    from medgan.cli import guarded

    work = {"all": compare_all, "fail": fail_once}[sys.argv[1]]
    sys.exit(guarded(lambda: work(Path(sys.argv[2]))))
