"""The loop: what it writes, how it resumes, how it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgan.config import Component, InputError
from medgan.data.phantom import make_phantom
from medgan.data.store import StoredCase, write_case, write_index
from medgan.recipes import SegCycleGAN
from medgan.recipes.recipe import Batch, Losses
from medgan.rundir import RunDir
from medgan.train import TrainOptions, train
from medgan.train.logbook import preview_picture

TINY = {"patch_size": (8, 8, 8), "workers": 0, "precision": "float32", "log_every": 2}
RECIPE = {
    "name": "seg_cyclegan",
    "num_classes": 8,
    "generator_net": {"name": "unet", "channels": 8, "levels": 1},
    "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1},
    "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1},
    "pool_size": 2,
    "seg_start": 0.1,
    "seg_fakes_start": 0.3,
}


def store(folder: Path) -> RunDir:
    """Two training and one validation phantom per domain, prepared."""
    run, cases = RunDir(folder), []
    for index, (domain, split) in enumerate((d, s) for d in "AB" for s in ("train", "train", "validation")):
        phantom = make_phantom(index, shape=(16, 16, 12))
        image = np.clip(phantom.ct / 1000.0, -1, 1) if domain == "A" else np.clip(phantom.mr / 600.0 - 1, -1, 1)
        place = run.preprocess / domain / f"case{index}"
        meta = {"affine": phantom.affine.tolist(), "spacing_mm": [4.0, 4.0, 6.0]}
        write_case(place, image=image, label=phantom.labels, body=phantom.labels > 0, meta=meta)
        cases.append(StoredCase(f"case{index}", domain, split, place))
    write_index(run.preprocess, cases, {"A": {"name": "CT"}, "B": {"name": "MR"}})
    return run


def fit(run: RunDir, recipe: dict[str, Any] | None = None, **options: Any) -> None:
    choice = Component.model_validate(recipe or RECIPE)
    train(choice, TrainOptions(**{**TINY, **options}), run, seed=3, device="cpu")


def weights(run: RunDir) -> bytes:
    state = torch.load(run.checkpoint("last"), weights_only=True)
    tensors = [value for value in state["networks"].values() if isinstance(value, torch.Tensor)]
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_losses_previews_and_checkpoints(tmp_path: Path) -> None:
    run = store(tmp_path)
    fit(run, num_steps=4, validate_every=2, preview_every=4, checkpoint_every=2)
    logged = lines(run.train / "losses.jsonl")
    assert [line["step"] for line in logged] == [2, 4]
    assert {"G/adv_A", "G/seg_B", "D/A", "S/real_A"} <= set(logged[-1])
    assert [line["step"] for line in lines(run.train / "validation.jsonl")] == [2, 4]
    assert [path.name for path in sorted((run.train / "previews").glob("*.png"))] == ["0000004.png"]
    assert any((run.train / "tensorboard").iterdir())
    times = lines(run.train / "times.jsonl")
    assert [line["step"] for line in times] == [2, 4]
    assert all(line["seconds"] > 0 and 0 < line["waiting"] < 1 for line in times)
    best = torch.load(run.checkpoint("best"), weights_only=True)
    assert best["recipe"]["name"] == "seg_cyclegan"
    assert best["domains"]["B"]["name"] == "MR"
    assert "optimizers" not in best


def test_the_best_checkpoint_is_the_one_with_the_highest_validation_score(tmp_path: Path) -> None:
    run = store(tmp_path)
    fit(run, num_steps=6, validate_every=1)
    scores = {line["step"]: line["score"] for line in lines(run.train / "validation.jsonl")}
    assert torch.load(run.checkpoint("best"), weights_only=True)["step"] == max(scores, key=lambda step: scores[step])


def test_a_run_stopped_and_resumed_equals_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = store(tmp_path / "whole"), store(tmp_path / "parts")
    fit(whole, num_steps=6, checkpoint_every=2)
    whole_step = SegCycleGAN.training_step

    def interrupted(recipe: SegCycleGAN, batch: Batch, progress: float) -> Losses:
        if progress == 3 / 6:
            raise KeyboardInterrupt
        return whole_step(recipe, batch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(SegCycleGAN, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(parts, num_steps=6, checkpoint_every=2)
    assert torch.load(parts.checkpoint("last"), weights_only=True)["step"] == 2
    fit(parts, num_steps=6, checkpoint_every=2)
    assert torch.load(parts.checkpoint("last"), weights_only=True)["step"] == 6
    assert weights(parts) == weights(whole)
    assert lines(parts.train / "losses.jsonl") == lines(whole.train / "losses.jsonl")


def test_augmenting_on_the_device_changes_nothing_on_a_processor(tmp_path: Path) -> None:
    runs = [store(tmp_path / place) for place in ("workers", "device")]
    for run in runs:
        fit(run, num_steps=2, augment_on=run.path.name, augment={"noise": 0.1, "gamma": 0.1})
    assert weights(runs[0]) == weights(runs[1])


def test_killed_in_mid_run_the_same_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = store(tmp_path / "whole"), store(tmp_path / "killed")
    options = {"num_steps": 40, "checkpoint_every": 4, "validate_every": 8}
    fit(whole, **options)
    script = (
        "import sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1]); "
        "from pathlib import Path; from medgan.rundir import RunDir; from test_train import fit; "
        f"fit(RunDir(Path(sys.argv[2])), **{options!r})"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(killed.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not killed.checkpoint("last").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert torch.load(killed.checkpoint("last"), weights_only=True)["step"] < 40
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert weights(killed) == weights(whole)
    assert lines(killed.train / "losses.jsonl") == lines(whole.train / "losses.jsonl")
    assert lines(killed.train / "validation.jsonl") == lines(whole.train / "validation.jsonl")


def test_losses_that_are_not_finite_stop_the_run_and_name_the_term(tmp_path: Path) -> None:
    run = store(tmp_path)
    with pytest.raises(InputError, match=r"G/cycle_A.*not finite.*lower recipe.lr"):
        fit(run, {**RECIPE, "lambda_cycle": 1e39}, num_steps=8)
    assert not run.checkpoint("last").exists()


def test_maps_that_wait_in_main_memory_change_nothing(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "offloaded.py").write_text(block)
    plain, offloaded = store(tmp_path / "plain"), store(tmp_path / "offloaded")
    fit(plain, num_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        fit(offloaded, {**RECIPE, "name": "offloaded.Offloaded"}, num_steps=2)
    assert weights(plain) == weights(offloaded)


def test_pairs_are_wanted_by_a_paired_recipe(tmp_path: Path) -> None:
    recipe = {"name": "pix2pix", "generator_net": RECIPE["generator_net"]}
    with pytest.raises(InputError, match="paired training"):
        fit(store(tmp_path), recipe, num_steps=2)


def test_without_validation_patients_the_last_checkpoint_is_all_there_is(tmp_path: Path) -> None:
    run = store(tmp_path)
    cases = json.loads((run.preprocess / "cases.json").read_text())
    (run.preprocess / "cases.json").write_text(json.dumps([case for case in cases if case["split"] == "train"]))
    fit(run, num_steps=2)
    assert run.checkpoint("last").exists()
    assert not run.checkpoint("best").exists()


def test_a_preview_puts_images_side_by_side_and_samples_below_each_other() -> None:
    black, white = torch.full((2, 1, 4, 6, 5), -1.0), torch.full((2, 1, 4, 6, 5), 1.0)
    picture = preview_picture([black, white])
    assert picture.shape == (2 * 8 * 3, 2 * 6 * 3)
    assert picture[12, 30] == 255
    assert picture[12, 6] == 0


def test_a_preview_is_seen_as_radiologists_look() -> None:
    image = torch.full((1, 1, 4, 4, 1), -1.0)
    image[0, 0, 3, 0] = 1.0  # the patient's right, posterior
    picture = preview_picture([image])
    row, column = (int(places[0]) for places in (picture == 255).nonzero())
    assert row > picture.shape[0] / 2
    assert column < picture.shape[1] / 2


def test_a_batch_in_parts_and_blocks_computed_again_train_alike(tmp_path: Path) -> None:
    plain, spared = store(tmp_path / "plain"), store(tmp_path / "spared")
    fit(plain, num_steps=3)
    fit(spared, num_steps=3, recompute=True)
    assert weights(plain) == weights(spared)
    fit(store(tmp_path / "parts"), num_steps=2, batch_size=2, accumulate=2)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("seg_cyclegan", {"accumulate": 2, "batch_size": 3}, "does not divide train.batch_size=3"),
        ("pix2pix", {"accumulate": 2, "batch_size": 2}, "move in turn"),
    ],
)
def test_a_batch_that_cannot_go_in_parts_is_refused(name: str, options: Any, told: str, tmp_path: Path) -> None:
    recipe = RECIPE if name == "seg_cyclegan" else {"name": name, "generator_net": RECIPE["generator_net"]}
    with pytest.raises(InputError, match=told):
        fit(store(tmp_path), recipe, num_steps=2, **options)
