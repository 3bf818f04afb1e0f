"""Seconds per step of one rank and of two, a thread each: what averaging gradients through main memory costs.

    python3 scripts/rank_speed.py            three minutes on two idle cores; prints a table and JSON

A 3D `seg_cyclegan`, patches of 32 x 32 x 24 voxels as in the demo and of 48 x 48 x 48, one patch of each domain per
rank: two ranks see twice as many patches in a step. One and two ranks take turns, several rounds; the figure is the
median over rounds of the median over steps, the first steps left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from environment import ROOT, enter

PATCHES = ((32, 32, 24), (48, 48, 48))
ROUNDS, STEPS, WARM = 3, 14, 4


def main() -> None:
    """Measure, in turns, and print."""
    os.chdir(ROOT)
    rounds = [{(patch, ranks): measured(patch, ranks) for patch in PATCHES for ranks in (1, 2)} for _ in range(ROUNDS)]
    rows: list[dict[str, Any]] = []
    for patch in PATCHES:
        one, two = (statistics.median(each[patch, ranks] for each in rounds) for ranks in (1, 2))
        rows.append({"patch": patch, "seconds_1": one, "seconds_2": two, "patches_per_second": 2 * one / two})
        spread = [[round(each[patch, ranks], 3) for each in rounds] for ranks in (1, 2)]
        print(
            f"{patch}: 1 rank {one:.3f} s, 2 ranks {two:.3f} s a step, {2 * one / two:.2f} times the patches; {spread}"
        )
    print(json.dumps(rows))


def measured(patch: tuple[int, ...], ranks: int) -> float:
    """Median seconds of a step, in processes of their own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += [__file__, "--rank", *map(str, patch)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, env=alone, check=True, capture_output=True, text=True).stdout
    return float(told.split()[-1])


def rank(patch: tuple[int, ...]) -> None:
    """Train a few steps as one rank; the first rank prints the median seconds of a step."""
    import torch

    from medgan.config import Component, bind
    from medgan.recipes import RECIPES, Recipe
    from medgan.train.ranks import Ranks, launch

    torch.set_num_threads(1)
    ranks = Ranks(launch(torch.device("cpu"), bf16=False))
    torch.manual_seed(0)
    nets = {"generator_net": {"name": "unet", "channels": 16, "levels": 2}}
    nets |= {"discriminator_net": {"name": "patchgan", "channels": 16, "layers": 2}}
    nets |= {"segmentor_net": {"name": "segresnet", "channels": 8}}
    target, options = bind(
        Component.model_validate({"name": "seg_cyclegan", "num_classes": 8, **nets}), RECIPES, "recipe"
    )
    recipe: Recipe = target(**options)
    recipe.average_gradients = ranks.average_gradients
    recipe.train()
    torch.manual_seed(ranks.rank)
    batch = {key: torch.rand(1, 1, *patch) * 2 - 1 for key in "AB"}
    batch |= {f"label_{key}": torch.randint(8, (1, 1, *patch)) for key in "AB"}
    seconds = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        recipe.training_step(batch, 0.9)
        seconds.append(time.perf_counter() - begun)
    if ranks.is_first:
        print(statistics.median(seconds[WARM:]))


if __name__ == "__main__":
    enter()
    if "--rank" in sys.argv[1:]:
        rank(tuple(map(int, sys.argv[2:])))
    else:
        main()
