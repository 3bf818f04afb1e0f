"""Where a training can be watched: TensorBoard, MLflow, Weights & Biases. Nothing leaves the machine unless asked to.

What a tracker is told names no patient, file or place: parameters of the recipe and of the training, means, pictures.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from medgan.config import Component, InputError, bind
from medgan.mosaic import Picture
from medgan.rundir import RunDir

Values = Mapping[str, float]


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a run at the start.

    Attributes:
        folder: of the training, ``RUN/train``.
        name: of the run.
        step: of the checkpoint that it goes on from, 0 at the start.
        key: under which the tracker knows the run, of an earlier call; None at the start.
        parameters: of recipe and training, plain values by dotted name.
    """

    folder: Path
    name: str
    step: int
    key: str | None
    parameters: Mapping[str, Any]


class Tracker(ABC):
    """One place that is told how a training goes. What is told again after a resume, is told under the same step."""

    @property
    def key(self) -> str | None:
        """Under which the tracker will know the run again; None where it needs none."""
        return None

    @abstractmethod
    def scalars(self, step: int, values: Values) -> None:
        """Numbers by name, at a step."""

    @abstractmethod
    def picture(self, step: int, name: str, picture: Picture) -> None:
        """A picture (H, W) or (H, W, 3), uint8."""

    def artifact(self, path: Path) -> bool:
        """Keep a file with the run; False where the tracker keeps none."""
        return False

    @abstractmethod
    def close(self) -> None:
        """The last word."""


class TensorBoard(Tracker):
    """Event files in ``train/tensorboard``, which ``tensorboard --logdir runs`` shows."""

    def __init__(self, tracked: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(tracked.folder / "tensorboard", purge_step=tracked.step + 1)

    def scalars(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: Picture) -> None:
        self.board.add_image(name, picture, step, dataformats="HW" if picture.ndim == 2 else "HWC")

    def close(self) -> None:
        self.board.close()


class MLflow(Tracker):
    """A run of MLflow, in the database ``train/mlflow/mlflow.db`` or wherever `uri` says."""

    def __init__(
        self,
        tracked: Tracked,
        *,
        uri: Annotated[
            str | None, Field(description="of a tracking server or database; null: a database in the run's folder")
        ] = None,
        experiment: Annotated[str, Field(min_length=1, description="that the run belongs to")] = "medgan",
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of every run
        from mlflow.tracking import MlflowClient

        place = (tracked.folder / "mlflow").resolve()
        place.mkdir(exist_ok=True)
        self.client = MlflowClient(uri or f"sqlite:///{place / 'mlflow.db'}")
        found = self.client.get_experiment_by_name(experiment)
        files = None if uri else (place / "artifacts").as_uri()
        owner = found.experiment_id if found else self.client.create_experiment(experiment, artifact_location=files)
        self.run = tracked.key or str(self.client.create_run(owner, run_name=tracked.name).info.run_id)
        if tracked.key is None:
            for parameter, value in tracked.parameters.items():
                self.client.log_param(self.run, parameter, str(value)[:500])

    @property
    def key(self) -> str | None:
        return self.run

    def scalars(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def picture(self, step: int, name: str, picture: Picture) -> None:
        self.client.log_image(self.run, picture, artifact_file=f"previews/{step:07d}.png")

    def artifact(self, path: Path) -> bool:
        self.client.log_artifact(self.run, str(path))
        return True

    def close(self) -> None:
        self.client.set_terminated(self.run)


class WandB(Tracker):
    """A run of Weights & Biases, kept in ``train/wandb`` until ``wandb sync`` or, with mode online, sent at once."""

    def __init__(
        self,
        tracked: Tracked,
        *,
        project: Annotated[str, Field(min_length=1, description="that the run belongs to")] = "medgan",
        entity: Annotated[str | None, Field(description="team or account; null: the default one")] = None,
        mode: Annotated[
            Literal["offline", "online"], Field(description="offline keeps all on disk; online sends it")
        ] = "offline",
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its makers would get what it trips over
        import wandb

        quiet = wandb.Settings(
            silent=True,
            host="not told",
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        self.wandb = wandb
        self.run = wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            dir=str(tracked.folder),
            id=tracked.key,
            name=tracked.name,
            resume="allow",
            config=dict(tracked.parameters),
            settings=quiet,
        )

    @property
    def key(self) -> str | None:
        return str(self.run.id)

    def scalars(self, step: int, values: Values) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, name: str, picture: Picture) -> None:
        self.run.log({"previews": self.wandb.Image(picture, caption=name)}, step=step)

    def artifact(self, path: Path) -> bool:
        kept = self.wandb.Artifact(path.stem, type="report")
        kept.add_file(str(path))
        self.run.log_artifact(kept)
        return True

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[..., Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class Trackers:
    """All trackers of a run as one; it remembers in ``train/trackers.json`` under which keys they know it."""

    def __init__(
        self, choices: Sequence[Component], folder: Path, step: int, parameters: Mapping[str, Any] | None = None
    ) -> None:
        """
        Args:
            choices: from `TRACKERS`.
            folder: of the training, ``RUN/train``.
            step: of the checkpoint that it goes on from, 0 at the start.
            parameters: nested plain values.

        Raises:
            InputError: a tracker whose package is missing, or that refuses.
        """
        self.index = folder / "trackers.json"
        known = _read(self.index)
        flat = dict(_flat(parameters or {}))
        self.trackers: dict[str, Tracker] = {}
        for choice in choices:
            target, options = bind(choice, TRACKERS, "tracker")
            tracked = Tracked(folder, folder.resolve().parent.name, step, known.get(choice.name), flat)
            try:
                tracker = target(tracked, **options)
            except ImportError as error:
                way_out = f"pip install 'medgan[{choice.name}]', or leave it out"
                raise InputError(f"train.trackers: {choice.name} needs {error.name}; {way_out}") from None
            self.trackers[choice.name] = tracker
        keys = {name: tracker.key for name, tracker in self.trackers.items() if tracker.key}
        if keys:
            self.index.write_text(json.dumps({**known, **keys}, indent=2) + "\n", encoding="utf-8")

    def scalars(self, step: int, values: Values) -> None:
        """Numbers by name, at a step."""
        for tracker in self.trackers.values():
            tracker.scalars(step, values)

    def picture(self, step: int, name: str, picture: Picture) -> None:
        """A picture (H, W) or (H, W, 3), uint8."""
        for tracker in self.trackers.values():
            tracker.picture(step, name, picture)

    def close(self) -> None:
        """The last word of all."""
        for tracker in self.trackers.values():
            tracker.close()


def track_report(run: RunDir, choices: Sequence[Component], page: Path) -> list[str]:
    """Keep a report with the run, where trackers keep files and know the run; returns their names."""
    known = _read(run.train / "trackers.json")
    kept = [choice for choice in choices if choice.name in known]
    if not kept:
        return []
    trackers = Trackers(kept, run.train, 0)
    took = [name for name, tracker in trackers.trackers.items() if tracker.artifact(page)]
    trackers.close()
    return took


def _read(index: Path) -> dict[str, str]:
    return cast(dict[str, str], json.loads(index.read_text(encoding="utf-8"))) if index.is_file() else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values by dotted name."""
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return flat
