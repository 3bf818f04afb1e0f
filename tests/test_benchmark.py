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
from benchmark_page import joined, write_page
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
    assert not facts["is_compiled"]


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


def made_up(name: str) -> list[dict[str, Any]]:
    """Rows of a part, as it gives them."""
    step = {"recipe": "seg_cyclegan", "way": "medgan", "patch": [8, 8, 8], "operations": 4e9, "losses": {}}
    step |= {"median_s": 1.0, "seconds": [1.0], "median_cpu_s": 2.0, "cpu_seconds": [2.0], "peak_gib": 0.5}
    score = {"mean": 0.92, "low": 0.9, "high": 0.95, "count": 4}
    rows: dict[str, list[dict[str, Any]]] = {
        "step": [step],
        "step_demo": [step | {"patch": [8, 8, 4]}],
        "step_gpu": [step | {"device": "cuda", "way": "medgan bf16"}],
        "step_compile": [
            step | {"way": "medgan compile", "first_s": 181.0, "is_compiled": True},
            step | {"way": "medgan compile", "first_s": 3.0, "is_compiled": False, "patch": [16, 16, 16]},
            step | {"first_s": 2.0, "is_compiled": False},
        ],
        "memory": [step, step | {"way": "medgan recompute", "median_s": 1.2}],
        "growth": [step, step | {"patch": [16] * 3}, step | {"channels": 8}, step | {"channels": 16}],
        "supply": [
            {"format": format, "patches_per_s": rate, "peak_gib": 0.1, "disk_gib": None}
            for format, rate in (("medgan", 200.0), ("PersistentDataset", 10.0), ("medgan, 1 worker", 90.0))
        ],
        "start_up": [{"what": "medgan --help", "median_s": 0.2, "largest_s": 0.3}],
        "volumes": [{"what": "prepare 8 x 8 x 8", "median_s": 1.5, "peak_gib": 0.25}],
        "first_step": [{"ranks": 1, "steps": 1, "first_step_s": 7.9}],
        "waiting": [{"run": "demo", "steps": 1000, "seconds": 600.0, "waiting": 0.003}],
        "ranks": [{"ranks": count, "steps": 31, "seconds_per_step": float(count)} for count in (1, 2)],
        "translation": [
            {"size": [size] * 3, "what": what, "method": method, "seconds": 2.0, "peak_gib": 1.0}
            for size in (8, 16)
            for what, method in (("generator, MR to CT", "MONAI 0.25"), ("file, CT to MR", "medgan translate"))
        ],
        "precision": [
            {"run": "demo", "precision": "float32", "steps": 1000, "training_s": 1632.0}
            | {"mae": score | {"mean": 87.1, "low": 64.4, "high": 109.8}, "dice": score}
        ],
    }
    return [{"on": "2 cores of a machine", **row} for row in rows[name]]


def test_every_part_has_its_place_on_the_page_and_growth_four_panels(tmp_path: Path) -> None:
    from matplotlib.image import imread

    page = tmp_path / "page.md"
    write_page(page, {name: made_up(name) for name in benchmark.PARTS})
    text = page.read_text()
    for line in (
        "| seg_cyclegan | 8 x 8 x 4 | medgan | 1 [1, 1] | 2 |  | 0.50 |  |",
        "| 8 x 8 x 8 | medgan compile | 181 | 1 | 0.50 |",
        "| 16 x 16 x 16 | medgan compile, which failed here: as it is | 3 | 1 | 0.50 |",
        "| medgan recompute, peak 0.50 GiB | 1.2 |",
        "| medgan (`PatchDataset`, npy) | 200 | 20.0 | 0.10 |  |",
        "| prepare 8 x 8 x 8, peak 0.25 GiB | 1.5 |",
        "| demo | 1000 | 10.0 | 0.3% |",
        "| 16 x 16 x 16 | file, CT to MR | medgan translate | 2.00 | 1.00 |",
        "| demo | float32 | 1000 | 1632 | 87 [64, 110] | 0.92 [0.90, 0.95] |",
        "![Curves of the rows in the JSON](page.png)",
    ):
        assert line in text
    assert "Largest relative difference" not in text, "nothing was compared with plain"
    for title in ("Start of the command line", "end of the first step", "one and of two processes"):
        assert title in text
    assert json.loads(page.with_suffix(".json").read_text()).keys() == benchmark.PARTS.keys()
    panels: dict[int, dict[str, Any]] = {4: {}, 3: {"translation": []}, 2: {"growth": []}}
    for count, instead in panels.items():
        write_page(page, {name: made_up(name) for name in ("growth", "translation", "supply")} | instead)
        assert imread(page.with_suffix(".png")).shape[1] == pytest.approx(count * 3.6 * 110, abs=1)


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
    assert "\n\nOn 2 cores of a machine:\n\n| recipe |" in text
    assert "The supply" not in text
    assert matrix_rate(torch.float32, CPU, 64) > 0


def test_another_machine_s_rows_stay_beside_those_measured_now(tmp_path: Path) -> None:
    before = [row | {"on": "another"} for row in made_up("start_up")] + made_up("start_up")
    now = [row | {"median_s": 0.125} for row in made_up("start_up")]
    rows = joined(before, now)
    assert [(row["on"], row["median_s"]) for row in rows] == [("another", 0.2), ("2 cores of a machine", 0.125)]
    write_page(tmp_path / "page.md", {"start_up": rows})
    text = (tmp_path / "page.md").read_text()
    assert text.count("## Start of the command line") == 1
    assert "On another:\n\n| command | seconds |\n|---|---:|\n| medgan --help | 0.2 |\n\nOn 2 cores" in text


def test_the_share_of_waiting_is_of_the_whole_training(tmp_path: Path) -> None:
    laps = [{"step": 10, "seconds": 1.0, "waiting": 0.5}, {"step": 40, "seconds": 2.0, "waiting": 0.1}]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "times.jsonl").write_text("".join(json.dumps(lap) + "\n" for lap in laps))
    (row,) = benchmark.waiting(argparse.Namespace(run=tmp_path))
    assert row["seconds"] == 70
    assert row["waiting"] == pytest.approx((5 + 6) / 70)


def test_precision_reads_the_ct_of_two_runs(tmp_path: Path) -> None:
    for name, error in (("float32", 87.0), ("bf16", 85.0)):
        run = tmp_path / name
        for folder in ("train", "evaluate"):
            (run / folder).mkdir(parents=True)
        score = {"mean": error, "low": 60.0, "high": 110.0, "count": 4, "sd": 1.0}
        methods = {"translation": {"mae": score, "dice": score | {"mean": 0.9}}}
        mr = {"target": {"modality": "mr"}, "methods": {}}
        directions = {"AB": mr, "BA": {"target": {"modality": "ct"}, "methods": methods}}
        (run / "evaluate" / "summary.json").write_text(json.dumps({"directions": directions}))
        (run / "experiment.yaml").write_text(f"train: {{precision: {name}}}\n")
        (run / "environment.json").write_text(json.dumps({"processors": 2, "threads": 1, "platform": "Linux"}))
        (run / "train" / "times.jsonl").write_text(json.dumps({"step": 5, "seconds": 2.0, "waiting": 0.0}) + "\n")
    rows = benchmark.precision(argparse.Namespace(run=tmp_path / "float32", other=tmp_path / "bf16"))
    assert [(row["precision"], row["mae"]["mean"], row["training_s"]) for row in rows] == [
        ("float32", 87.0, 10.0),
        ("bf16", 85.0, 10.0),
    ]
    assert rows[0]["on"] == "2 cores, 1 threads (Linux)"


def test_parts_are_those_that_the_runs_given_allow() -> None:
    without, one, both = ([], ["--run", "a"], ["--run", "a", "--other", "b"])
    able = [set(benchmark.wanted(benchmark.arguments(words))) for words in (without, one, both)]
    assert able[1] - able[0] == {"first_step", "waiting", "ranks", "translation"}
    assert able[2] - able[1] == {"precision"}
    assert benchmark.wanted(benchmark.arguments(["--only", "growth,step"])) == ["growth", "step"]
    with pytest.raises(SystemExit, match="--only precision: needs trained runs; give --run runs/demo --other"):
        benchmark.wanted(benchmark.arguments(["--only", "precision", "--run", "a"]))
    with pytest.raises(SystemExit, match="--only stp: unknown"):
        benchmark.wanted(benchmark.arguments(["--only", "stp"]))


def test_a_quick_look_measures_the_smallest_sizes_once_and_writes_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(script: str, words: str) -> dict[str, Any]:
        asked.append(json.loads(words))
        return {**asked[-1], "seconds": [1.0], "cpu_seconds": [1.0], "peak_gib": 1.0}

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(benchmark, "job", measured)
    options = benchmark.arguments(["--quick"])
    for part in (benchmark.step, benchmark.step_demo, benchmark.step_compile, benchmark.memory, benchmark.growth):
        asked.clear()
        part(options)
        assert {tuple(job["patch"]) for job in asked} == {(24, 24, 16)}
        assert {job["repeats"] for job in asked} == {1}
        assert not [job for number, job in enumerate(asked) if job in asked[:number]]
    with pytest.raises(SystemExit, match="leave one of --quick and --page out"):
        benchmark.arguments(["--quick", "--page"])
