"""The benchmark: the ordinary step computes the same losses, operations are counted, jobs run, the page is written."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medgan.networks import UNetGenerator

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import benchmark
from benchmark_page import write_page
from benchmark_step import batch_of, build, matrix_rate, measure
from benchmark_supply import medgan_patches
from plain_step import PlainStep

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["seg_cyclegan", "cyclegan"])
def test_the_ordinary_step_has_the_losses_of_the_recipe(name: str) -> None:
    recipe = build(name, 8)
    plain = PlainStep(recipe)  # type: ignore[arg-type]
    batch = batch_of([24, 24, 16], 1, CPU)
    for _ in range(2):
        ours, theirs = recipe.training_step(batch, 0.45), plain(batch)
        assert set(ours) == set(theirs)
        for term, loss in ours.items():
            assert loss.item() == pytest.approx(theirs[term], rel=2e-3), term


def test_operations_of_a_generator_are_counted_without_computing_them() -> None:
    with torch.device("meta"):
        network, image = UNetGenerator(3, 1, 1, channels=16, levels=1), torch.empty(1, 1, 128, 128, 128)
    with FlopCounterMode(display=False) as counter:
        network(image)
    stem = 2 * 27 * 16 * 128**3
    assert counter.get_total_flops() > 64 * stem  # four convolutions of 16 to 16 at full resolution alone are 64


def test_a_job_tells_seconds_memory_operations_and_losses() -> None:
    job: dict[str, Any] = {"recipe": "seg_cyclegan", "way": "medgan", "patch": [24, 24, 16], "channels": 8}
    facts = measure(job | {"repeats": 1, "rates": True})
    assert facts["median_s"] > 0
    assert facts["peak_gib"] > 0
    assert facts["operations"] > 1e9
    assert {"G/seg_A", "D/A", "S/fake_B"} <= set(facts["losses"])
    assert facts["rates"]["float32"] > 1e9


def test_the_supply_gives_patches_of_image_and_label(tmp_path: Path) -> None:
    from benchmark_supply import CASES

    from medgan.data.store import write_case

    image = np.zeros((100, 100, 100), np.float16)
    for number in range(CASES):
        place = tmp_path / f"case{number:02d}"
        facts = {"affine": np.eye(4).tolist()}
        write_case(place, image=image[: 97 + number % 2], label=None, body=image[: 97 + number % 2] == 0, meta=facts)
    batch: Any = next(iter(medgan_patches(tmp_path)))
    assert batch["A"].shape == (1, 1, 96, 96, 96)


def test_a_page_holds_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    step = {
        "on": "2 cores of a machine",
        "recipe": "cyclegan",
        "patch": [8, 8, 8],
        "peak_gib": 0.5,
        "operations": 4e9,
        "torch": "2",
    }
    rows = [
        step
        | {
            "way": "medgan",
            "median_s": 1.0,
            "seconds": [1.0, 1.0],
            "median_cpu_s": 2.0,
            "losses": {"D/A": 1.01},
            "rates": {"float32": 8e9, "bfloat16": 1e9},
        },
        step | {"way": "plain", "median_s": 3.0, "seconds": [3.0], "median_cpu_s": 6.0, "losses": {"D/A": 1.0}},
    ]
    write_page(tmp_path / "page.md", {"step": rows})
    text = (tmp_path / "page.md").read_text()
    assert "| cyclegan | 8 x 8 x 8 | medgan | 1 [1, 1] | 2 | 3.00 | 0.50 | 50% |" in text
    assert "1.0e-02 (`D/A`)" in text
    assert "## The step\n\nOn 2 cores of a machine.\n" in text
    assert "The supply" not in text
    assert matrix_rate(torch.float32, CPU, 64) > 0


def test_the_share_of_waiting_is_of_the_whole_training(tmp_path: Path) -> None:
    laps = [{"step": 10, "seconds": 1.0, "waiting": 0.5}, {"step": 40, "seconds": 2.0, "waiting": 0.1}]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "times.jsonl").write_text("".join(json.dumps(lap) + "\n" for lap in laps))
    (row,) = benchmark.waiting(argparse.Namespace(run=tmp_path))
    assert row["seconds"] == 70
    assert row["waiting"] == pytest.approx((5 + 6) / 70)
