"""Trackers: what they are told, what they remember, and that they need no network."""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan.config import Component, InputError
from medgan.rundir import RunDir
from medgan.train.trackers import Trackers, track_report

PARAMETERS = {"recipe": {"name": "cyclegan", "lr": 2e-4}, "seed": 3}
PICTURE = np.zeros((4, 6), dtype=np.uint8)


class FakeRun:
    """Keeps what a run of Weights & Biases is told."""

    def __init__(self, **options: Any) -> None:
        self.options, self.id = options, options["id"] or "new"
        self.logged: list[Any] = []
        self.is_finished = False

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def log_artifact(self, artifact: Any) -> None:
        self.logged.append(artifact.files)

    def finish(self) -> None:
        self.is_finished = True


class FakeArtifact:
    """Keeps the files of an artifact."""

    def __init__(self, name: str, type: str) -> None:
        self.files: list[str] = []

    def add_file(self, path: str) -> None:
        self.files.append(path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs that a stand-in for wandb has begun."""
    begun: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        begun.append(FakeRun(**options))
        return begun[-1]

    fake = types.ModuleType("wandb")
    fake.init, fake.Artifact = init, FakeArtifact  # type: ignore[attr-defined]
    fake.Settings, fake.Image = dict, lambda picture, caption: (picture.shape, caption)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return begun


def _tell(folder: Path, *choices: Component) -> Trackers:
    folder.mkdir(parents=True, exist_ok=True)
    trackers = Trackers(choices, folder, 0, PARAMETERS)
    trackers.scalars(20, {"G/adv_B": 0.5})
    trackers.picture(20, "preview: real_A", PICTURE)
    trackers.close()
    return trackers


def test_wandb_is_told_parameters_means_pictures_and_the_report_and_sends_nothing(
    tmp_path: Path, runs: list[FakeRun]
) -> None:
    run, choice = RunDir(tmp_path / "study"), Component(name="wandb")
    _tell(run.train, choice)
    options = runs[0].options
    assert options["mode"] == "offline"
    assert options["config"] == {"recipe.name": "cyclegan", "recipe.lr": 2e-4, "seed": 3}
    assert options["name"] == "study"
    assert options["settings"]["x_disable_meta"]
    assert runs[0].logged == [(20, {"G/adv_B": 0.5}), (20, {"previews": ((4, 6), "preview: real_A")})]
    assert runs[0].is_finished
    page = tmp_path / "index.html"
    page.touch()
    assert track_report(run, [choice], page) == ["wandb"]
    assert runs[1].options["id"] == "new"  # the same run goes on
    assert runs[1].logged == [[str(page)]]


def test_tensorboard_keeps_events_and_no_report(tmp_path: Path) -> None:
    run, choice = RunDir(tmp_path), Component(name="tensorboard")
    _tell(run.train, choice)
    assert list((run.train / "tensorboard").glob("events*"))
    assert track_report(run, [choice], tmp_path / "index.html") == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of MLflow's own dependencies
def test_mlflow_keeps_a_run_in_its_own_database_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    run, choice = RunDir(tmp_path / "study"), Component(name="mlflow")
    _tell(run.train, choice)
    key = json.loads((run.train / "trackers.json").read_text())["mlflow"]
    page = tmp_path / "index.html"
    page.touch()
    assert track_report(run, [choice], page) == ["mlflow"]
    client = MlflowClient(f"sqlite:///{run.train / 'mlflow' / 'mlflow.db'}")
    kept = client.get_run(key)
    assert kept.info.run_name == "study"
    assert kept.data.params["recipe.lr"] == "0.0002"
    assert kept.data.metrics == {"G/adv_B": 0.5}
    assert {file.path for file in client.list_artifacts(key)} == {"previews", "index.html"}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true", "its makers are told nothing"
    assert (run.train / "mlflow" / "artifacts").is_dir()


def test_a_tracker_whose_package_is_missing_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"train.trackers: wandb needs wandb; pip install 'medgan\[wandb\]'"):
        Trackers([Component(name="wandb")], tmp_path, 0)
    with pytest.raises(InputError, match="unknown tracker 'wandbb'; did you mean 'wandb'"):
        Trackers([Component(name="wandbb")], tmp_path, 0)
