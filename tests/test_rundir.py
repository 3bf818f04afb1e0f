"""A run's folder: what is written there, what may change, and what it never tells."""

import json
import os
import sys
from pathlib import Path

import pytest

from medgan.config import InputError, StrictModel
from medgan.rundir import RunDir, differences, environment


class Train(StrictModel):
    steps: int = 10
    shape: list[int] = [4, 4]  # noqa: RUF012 (pydantic copies it)


class Study(StrictModel):
    train: Train = Train()
    report: str = "short"
    seed: int = 0


def _begin(run: RunDir, study: Study) -> None:
    run.begin(study, seed=study.seed, locked=("train", "seed"))


def _train(run: RunDir) -> None:
    run.checkpoint("last").parent.mkdir(parents=True)
    run.checkpoint("last").touch()


def test_every_verb_has_a_folder_of_its_name() -> None:
    run = RunDir(Path("runs/x"))
    assert run.preprocess == Path("runs/x/preprocess")
    assert run.checkpoint("last") == Path("runs/x/train/checkpoints/last.pt")
    assert run.translate("BA") == Path("runs/x/translate/BA")
    assert (run.evaluate, run.report) == (Path("runs/x/evaluate"), Path("runs/x/report"))


def test_beginning_writes_the_resolved_configuration_and_the_environment(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "new" / "run")
    _begin(run, Study(seed=3))
    assert run.experiment_yaml.read_text() == "train:\n  steps: 10\n  shape:\n  - 4\n  - 4\nreport: short\nseed: 3\n"
    assert json.loads(run.environment_json.read_text())["seed"] == 3
    assert sorted(path.name for path in run.path.iterdir()) == ["environment.json", "experiment.yaml"]


def test_before_training_everything_may_change(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    _begin(run, Study())
    _begin(run, Study(train=Train(steps=20)))
    assert "steps: 20" in run.experiment_yaml.read_text()


def test_a_run_that_died_before_its_first_checkpoint_may_be_configured_anew(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    _begin(run, Study())
    run.train.mkdir()
    (run.train / "losses.jsonl").touch()
    assert not run.is_trained
    _begin(run, Study(train=Train(steps=20)))
    _train(run)
    assert run.is_trained


def test_a_trained_run_refuses_another_configuration_and_shows_the_difference(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    _begin(run, Study())
    _train(run)
    with pytest.raises(InputError) as caught:
        _begin(run, Study(train=Train(steps=20, shape=[8, 4]), seed=1))
    message = str(caught.value)
    assert "train.steps: 10 -> 20, train.shape: [4, 4] -> [8, 4], seed: 0 -> 1" in message
    assert "name another folder" in message
    assert "\n" not in message
    assert "steps: 10" in run.experiment_yaml.read_text(), "a refusal must not write"


def test_a_trained_run_accepts_the_same_training_and_another_report(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    _begin(run, Study())
    _train(run)
    _begin(run, Study())
    _begin(run, Study(report="long"))
    assert "report: long" in run.experiment_yaml.read_text()


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        _begin(RunDir(tmp_path / "file"), Study())


def test_differences_name_what_came_and_what_went() -> None:
    assert differences({"a": {"b": 1}, "c": None}, {"a": {"b": 1, "d": True}}) == [
        "a.d: absent -> true",
        "c: null -> absent",
    ]
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []


def test_the_environment_tells_versions_threads_and_command_but_not_who_or_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [str(tmp_path / "bin" / "medgan"), "train", str(tmp_path / "study.yaml"), "runs/x"]
    monkeypatch.setattr(sys, "argv", [*words, f"data.table={tmp_path}/cases.csv", "--set", "train.steps=5"])
    facts = environment(7)
    assert facts["command"] == "medgan train study.yaml runs/x data.table=cases.csv --set train.steps=5"
    assert facts["packages"]["torch"]
    assert facts["threads"] == 1, "conftest sets one thread"
    text = json.dumps(facts)
    for secret in {str(tmp_path), str(Path.home()), os.getcwd()}:  # noqa: PTH109 (text)
        assert secret not in text
    assert set(facts) == {"python", "packages", "platform", "processors", "seed", "command", "threads", "gpus", "cuda"}
