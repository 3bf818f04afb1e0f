"""Whatever ends a training, the same command again ends with the same bytes: every recipe, every kind of end."""

import contextlib
import inspect
import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipes import FLAT, OPTIONS, SIZE

from medgan.checkpoint import read_checkpoint
from medgan.config import Component, InputError
from medgan.data.sources import SourceDataset
from medgan.recipes import RECIPES, Recipe
from medgan.rundir import RunDir
from medgan.train import TrainOptions, train
from medgan.train.loop import Loop
from medgan.train.signals import Stopped

STEPS = {"num_steps": 5, "checkpoint_every": 2, "validate_every": 3, "preview_every": 3, "log_every": 3}
TINY = {"batch_size": 4, "precision": "float32", "validation_patches": 1}


def choice(name: str, spatial_dims: int, **options: Any) -> Component:
    shape = (1, *(SIZE,) * spatial_dims)
    facts = {"spatial_dims": spatial_dims, "image_shape": shape, "num_classes": 3}
    known = inspect.signature(RECIPES[name]).parameters
    return Component(name=name, **{k: v for k, v in facts.items() if k in known} | OPTIONS[name] | options)


def fit(folder: Path, recipe: Component, spatial_dims: int = 2, **options: Any) -> None:
    samples = Component(name="noise_source.Noise", image_shape=(1, *(SIZE,) * spatial_dims))
    settled = TrainOptions(**{**TINY, **STEPS, **options})
    train(recipe, settled, RunDir(folder), seed=5, device="cpu", samples=samples)


def same(one: object, two: object) -> bool:
    """Whether two nested values hold the same bytes."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))  # type: ignore[arg-type]
    return one == two


def steps(log: Path) -> list[int]:
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def assert_same_run(one: Path, two: Path) -> None:
    """The same files, and in them the same weights, moments, pools, statistics, lines and pictures."""
    names = [sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) for folder in (one, two)]
    kept = [[name for name in some if "tensorboard" not in name and "not_finite" not in name] for some in names]
    assert kept[0] == kept[1]
    for name in kept[0]:
        if name.endswith(".pt"):
            assert same(read_checkpoint(one / name), read_checkpoint(two / name)), name
        elif name.endswith("times.jsonl"):  # seconds differ, steps do not
            assert steps(one / name) == steps(two / name)
        else:
            assert (one / name).read_bytes() == (two / name).read_bytes(), name


@contextlib.contextmanager
def ending_at(step: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A training ends in the middle of this step as by a kill: nothing of it is heard again."""
    train_one = Loop._train_one

    def ended(loop: Loop, batch: dict[str, torch.Tensor]) -> None:
        train_one(loop, batch)
        if loop.step == step:
            raise KeyboardInterrupt

    with patch.context() as patched:
        patched.setattr(Loop, "_train_one", ended)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize(("name", "spatial_dims"), [(name, FLAT.get(name, 2)) for name in RECIPES])
def test_every_recipe_goes_on_as_if_nothing_had_been(
    name: str, spatial_dims: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = choice(name, spatial_dims)
    fit(tmp_path / "whole", recipe, spatial_dims)
    with ending_at(4, monkeypatch):
        fit(tmp_path / "parts", recipe, spatial_dims)
    fit(tmp_path / "parts", recipe, spatial_dims)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


GAN = choice("gan", 2, pool_size=3)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_ends_with_exit_code_0(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "whole", GAN)
    train_one = Loop._train_one

    def asked(loop: Loop, batch: dict[str, torch.Tensor]) -> None:
        if loop.step == 2:
            os.kill(os.getpid(), getattr(signal, name))
        train_one(loop, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_train_one", asked)
        with pytest.raises(Stopped) as ended:
            fit(tmp_path / "parts", GAN)
    assert ended.value.code == 0
    assert f"{name}: saved at step 3 of 5; run the same command again to go on" in capsys.readouterr().err
    assert signal.getsignal(getattr(signal, name)) == signal.SIG_DFL
    run = RunDir(tmp_path / "parts")
    assert read_checkpoint(run.checkpoint("last"))["step"] == 3
    fit(run.path, GAN)
    for step in (2, 3):  # saved because of the signal, or kept by it
        RunDir(tmp_path / "whole").earlier_checkpoint(step).unlink(missing_ok=True)
        run.earlier_checkpoint(step).unlink(missing_ok=True)
    assert_same_run(tmp_path / "whole", run.path)


def test_a_training_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    thread = threading.Thread(target=fit, args=(tmp_path / "run", GAN))
    thread.start()
    thread.join()
    assert RunDir(tmp_path / "run").checkpoint("last").exists()


def test_the_last_three_checkpoints_stay_beside_the_best(tmp_path: Path) -> None:
    fit(tmp_path, GAN, checkpoint_every=1, keep_every=4)
    names = sorted(path.name for path in RunDir(tmp_path).checkpoint("last").parent.iterdir())
    assert names == ["0000004.pt", "best.pt", "earlier_0000003.pt", "earlier_0000004.pt", "last.pt"]
    assert [read_checkpoint(path)["step"] for path in RunDir(tmp_path).resumable_checkpoints()] == [5, 4, 3]


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "whole", GAN)
    with ending_at(5, monkeypatch):
        fit(tmp_path / "parts", GAN)
    run = RunDir(tmp_path / "parts")
    last = run.checkpoint("last")
    whole = last.read_bytes()
    middle = whole.index(b"data/10") + 300  # amid the numbers of some tensor
    harmed = {"cut": whole[: len(whole) // 2], "flip": whole[:middle] + b"\xff\xfe" + whole[middle + 2 :], "empty": b""}
    last.unlink()  # the one before may be the same file under another name
    last.write_bytes(harmed[harm])
    fit(run.path, GAN)
    line = capsys.readouterr().err
    assert "last.pt: damaged, kept as last.damaged; going on from the one before, of step 2" in line
    assert (last.parent / "last.damaged").read_bytes() == harmed[harm]
    (last.parent / "last.damaged").unlink()
    assert_same_run(tmp_path / "whole", run.path)


def test_where_every_checkpoint_is_damaged_nothing_starts_anew(tmp_path: Path) -> None:
    fit(tmp_path, GAN)
    for path in RunDir(tmp_path).resumable_checkpoints():
        path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"last.pt: damaged, and so are all .* bring one back from a copy"):
        fit(tmp_path, GAN)


def test_without_room_the_checkpoint_before_stands_and_no_part_is_left(tmp_path: Path) -> None:
    growing, before = choice("gan", 2, pool_size=12), resource.getrlimit(resource.RLIMIT_FSIZE)  # three steps fill it
    fit(tmp_path / "whole", growing, checkpoint_every=1)
    run = RunDir(tmp_path / "parts")
    size = RunDir(tmp_path / "whole").checkpoint("last").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 500, before[1]))
    try:
        with pytest.raises(InputError, match=r"last.pt: not written \(File too large; .*what was saved before stands"):
            fit(run.path, growing, checkpoint_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_checkpoint(run.checkpoint("last"))["step"] == 2
    assert not list(run.train.rglob("*.part"))
    fit(run.path, growing, checkpoint_every=1)
    assert_same_run(tmp_path / "whole", run.path)


@contextlib.contextmanager
def poisoned(steps: set[int], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The batches of these steps are not finite."""
    drawn = SourceDataset.__getitem__

    def bad(data: SourceDataset, step: int) -> dict[str, torch.Tensor]:
        batch = drawn(data, step)
        if data.split == "train" and step + 1 in steps:
            batch["A"][0] = torch.nan
        return batch

    with patch.context() as patched:
        patched.setattr(SourceDataset, "__getitem__", bad)
        yield


def test_what_is_not_finite_stops_with_the_step_the_term_and_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        poisoned({4}, monkeypatch),
        pytest.raises(InputError, match=r"D/game not finite at step 4 \(its batch: .*--on-nan"),
    ):
        fit(tmp_path, GAN)
    run = RunDir(tmp_path)
    assert read_checkpoint(run.checkpoint("last"))["step"] == 2
    kept = torch.load(run.train / "not_finite" / "0000004.pt", weights_only=True)
    assert (kept["step"], kept["term"], kept["rank"]) == (4, "D/game", 0)
    assert kept["batch"]["A"].shape == (4, 1, SIZE, SIZE)
    assert kept["batch"]["A"][0].isnan().all()


def test_a_gradient_that_is_not_finite_is_blamed_on_its_own_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Recipe.update

    def spoilt(recipe: Recipe, player: str, losses: dict[str, torch.Tensor]) -> None:
        update(recipe, player, losses)
        if player == "G" and recipe.optimizers["G"].state_dict()["state"][0]["step"] == 4:
            next(recipe.parameters()).data[0] = torch.inf

    monkeypatch.setattr(Recipe, "update", spoilt)
    with pytest.raises(InputError, match="weights not finite at step 4"):
        fit(tmp_path, GAN, checkpoint_every=5)


def test_skipped_batches_leave_no_trace_however_often_the_run_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"num_steps": 7, "checkpoint_every": 3, "on_nan": "skip", "max_skipped": 2}
    with poisoned({2, 5}, monkeypatch):
        fit(tmp_path / "whole", GAN, **options)
        told = capsys.readouterr().err
        assert "D/game not finite at step 5; its batch is left out (2 of at most 2)" in told
        with ending_at(6, monkeypatch):
            fit(tmp_path / "parts", GAN, **options)
        fit(tmp_path / "parts", GAN, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert read_checkpoint(RunDir(tmp_path / "whole").checkpoint("last"))["skipped"] == [2, 5]
    train_one, seen = Loop._train_one, []

    def without(loop: Loop, batch: dict[str, torch.Tensor]) -> None:
        seen.append(loop.step)
        if loop.step + 1 in (2, 5):
            loop.step += 1
            return
        train_one(loop, batch)

    monkeypatch.setattr(Loop, "_train_one", without)
    fit(tmp_path / "never", GAN, **options)
    assert seen == list(range(7))
    ends = [read_checkpoint(RunDir(tmp_path / name).checkpoint("last"))["networks"] for name in ("whole", "never")]
    assert same(*ends)


def test_more_broken_batches_than_allowed_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        poisoned({2, 5}, monkeypatch),
        pytest.raises(InputError, match=r"step 5, and 1 batches are left out already, as many as train.max_skipped"),
    ):
        fit(tmp_path, GAN, on_nan="skip", max_skipped=1)


def test_a_dead_data_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = SourceDataset.__getitem__

    def dies(data: SourceDataset, step: int) -> dict[str, torch.Tensor]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn(data, step)

    monkeypatch.setattr(SourceDataset, "__getitem__", dies)
    with pytest.raises(InputError, match=r"data worker \d+ is killed by signal: Killed; .*the same command goes on"):
        fit(tmp_path, GAN, workers=1)


def test_what_a_data_worker_cannot_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = SourceDataset.__getitem__

    def refuses(data: SourceDataset, step: int) -> dict[str, torch.Tensor]:
        if step == 1:
            raise InputError("images/x.png: not a picture; take it out")
        return drawn(data, step)

    monkeypatch.setattr(SourceDataset, "__getitem__", refuses)
    with pytest.raises(InputError, match=r"^images/x.png: not a picture; take it out$"):
        fit(tmp_path, GAN, workers=1)


def test_a_log_that_was_cut_short_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path / "whole", GAN, log_every=1)
    with ending_at(4, monkeypatch):
        fit(tmp_path / "parts", GAN, log_every=1)
    with (tmp_path / "parts" / "train" / "losses.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "D/ga\x00\x00\n{"step": 1, "D/g')  # what a power cut may leave
    fit(tmp_path / "parts", GAN, log_every=1)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert steps(tmp_path / "whole/train/losses.jsonl") == [1, 2, 3, 4, 5]
