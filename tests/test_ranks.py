"""Several processes train as one would: the same weights, one writer, one end."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rank import fit, shared_noise
from test_recipes import FLAT, OPTIONS, SIZE
from test_resume import same

from medgan.checkpoint import read_checkpoint
from medgan.config import Component, InputError
from medgan.recipes import RECIPES
from medgan.rundir import RunDir
from medgan.train.keeper import own_state
from medgan.train.ranks import launch, started

HERE = Path(__file__).parent
ALIKE: dict[str, dict[str, Any]] = {  # what makes a batch more than its samples is left out: pools, groups, chunks
    "pool_size": 0,
    "critic_steps": 1,
    "warmup": 0.2,
}
NETS = {
    "stylegan2": {  # its path lengths take the classes of the first half of a batch
        "discriminator_net": Component(name="stylegan2", channels=4, max_channels=8, group=1),
        "num_classes": 0,
    },
    **{
        name: {"discriminator_net": Component(name="patchgan", channels=8, layers=1, norm="none")}
        for name in ("pix2pix", "cyclegan", "conditional_cyclegan", "seg_cyclegan", "cut")
    },
}
DICE = ("seg_cyclegan", "segmentation")  # Dice is of the whole batch: its halves are the same, or without labels


def cases() -> dict[str, dict[str, Any]]:
    """A recipe and its samples by name."""
    found = {}
    for name in RECIPES:
        dims = FLAT.get(name, 2)
        shape = [1, *(SIZE,) * dims]
        facts = {"spatial_dims": dims, "image_shape": shape, "num_classes": 3}
        known = inspect.signature(RECIPES[name]).parameters
        options = OPTIONS[name] | {key: value for key, value in (facts | ALIKE).items() if key in known}
        recipe = Component(name=name, **options | NETS.get(name, {})).model_dump(mode="json")
        samples = {"name": "noise_source.Noise", "image_shape": shape}
        if name in DICE:
            found[f"{name} of twins"] = {"recipe": recipe, "samples": {**samples, "twins": True}}
        if name != "segmentation":
            found[name] = {"recipe": recipe, "samples": {**samples, "labels": name not in DICE}}
    return found


def torchrun(folder: Path, work: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), str(HERE / "rank.py"), work, str(folder)]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=quiet, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every recipe trained by two ranks and by one."""
    made = tmp_path_factory.mktemp("ranks")
    (made / "cases.json").write_text(json.dumps(cases()))
    ended = torchrun(made, "all")
    assert ended.returncode == 0, ended.stderr
    with pytest.MonkeyPatch.context() as patch:
        shared_noise(patch.setattr, 0, 1)
        for name, case in cases().items():
            fit(made / "one" / name, Component(**case["recipe"]), Component(**case["samples"]), batch_size=4)
    return made


@pytest.mark.parametrize("name", cases())
def test_two_ranks_on_half_a_batch_each_equal_one_on_all_of_it(name: str, folder: Path) -> None:
    one, two = (RunDir(folder / count / name) for count in ("one", "two"))
    mine, theirs = (
        [json.loads(line) for line in (run.train / "losses.jsonl").read_text().splitlines()] for run in (one, two)
    )
    assert len(mine) == 3
    for line, other in zip(mine, theirs, strict=True):
        line.pop("watch/diversity", None)  # within a rank's own batch
        assert line == pytest.approx(other, rel=2e-3, abs=1e-5)
    first, second = (read_checkpoint(run.checkpoint("last"))["networks"] for run in (one, two))
    tensors = [key for key, value in first.items() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    apart = torch.cat([(first[key] - second[key]).abs().flatten() for key in tensors])
    assert (apart > 1e-5).float().mean() < 0.02, "Adam enlarges the rounding of vanishing gradients, and no others"


def test_only_the_first_rank_writes(folder: Path) -> None:
    one, two = (
        sorted(path.name for path in (folder / count / "gan" / "train").rglob("*") if path.is_file())
        for count in ("one", "two")
    )
    assert [name for name in one if "tfevents" not in name] == [name for name in two if "tfevents" not in name]
    assert sum("tfevents" in name for name in two) == 1


def test_a_failed_rank_ends_all_with_its_traceback_and_a_restart_goes_on(folder: Path) -> None:
    ended = torchrun(folder, "fail", restarts=1)
    assert ended.returncode == 0, ended.stderr
    assert "ZeroDivisionError: rank 1 failed" in ended.stderr
    assert "another rank has ended (its own lines say why); the last checkpoint stands" in ended.stderr
    assert [Path(name).name for name in json.loads((folder / "stood.json").read_text())] == ["last.pt"]
    ends = [read_checkpoint(RunDir(folder / name).checkpoint("last")) for name in ("restarted", "whole")]
    assert same(*ends)
    (own,) = (rank["networks"]["pool._extra_state"]["images"] for rank in ends[0]["ranks"][1:])
    assert len(own) == 3
    assert not same(own, ends[0]["networks"]["pool._extra_state"]["images"])


def test_what_is_a_ranks_own_is_all_but_the_weights() -> None:
    recipe = RECIPES["gan"](image_shape=(1, 8, 8), pool_size=2, **OPTIONS["gan"])
    names = set(own_state(recipe))
    assert "pool._extra_state" in names
    assert any(name.endswith("running_mean") for name in names)
    assert not names & dict(recipe.named_parameters()).keys()


@pytest.mark.parametrize(
    ("variables", "nodes_and_ranks"),
    [
        ({}, (1, 1)),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (2, 4)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}, (1, 1)),  # in a job, but not started by srun
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, (2, 4)),
    ],
)
def test_ranks_are_those_that_torchrun_or_srun_started(
    variables: dict[str, str], nodes_and_ranks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "WORLD_SIZE", "LOCAL_WORLD"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started() == nodes_and_ranks


def test_ranks_on_several_nodes_do_not_wait_for_dead_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "0"}
    for name, value in (facts | {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="set the environment variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        launch(torch.device("cpu"), bf16=False)
