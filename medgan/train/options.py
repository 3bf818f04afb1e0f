"""The ``train:`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medgan.config import Component, StrictModel, component
from medgan.data.transforms import Augment
from medgan.device import Precision
from medgan.train.trackers import TRACKERS

Tracker = component(TRACKERS, "tracker")
OnNan = Literal["stop", "skip"]
FREE = (  # what may change in mid-training: the weights do not depend on it
    "workers",
    "recompute",
    "log_every",
    "preview_every",
    "checkpoint_every",
    "keep_last",
    "keep_every",
    "on_nan",
    "max_skipped",
    "trackers",
)


class TrainOptions(StrictModel):
    """The ``train:`` section."""

    num_steps: int = Field(20_000, gt=0, description="steps of the whole training; schedules are shares of it")
    batch_size: int = Field(1, gt=0, description="patches of each domain per step and rank")
    patch_size: tuple[int, int, int] = Field((128, 128, 128), description="voxels of the prepared grid along x, y, z")
    label_focus: float = Field(0.5, ge=0, le=1, description="share of patches centred on a class drawn uniformly")
    position_jitter: float | None = Field(
        0.1,
        ge=0,
        description="B's patch lies where A's lies in its body, within this share of the body; null: anywhere",
    )
    augment: Augment | None = Field(Augment(), description="of patches, on the fly; null: off")
    augment_on: Literal["workers", "device"] = Field(
        "workers", description="where that happens: with the cutting, or on the device, a whole batch at a time"
    )
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm of a player; null: off")
    precision: Precision = Field(
        "auto", description="of the networks; auto: bf16 where the processor is faster with it"
    )
    accumulate: int = Field(
        1,
        gt=0,
        description="parts in which a batch goes through the networks before a step: the same step, less memory",
    )
    recompute: bool = Field(
        False, description="compute the maps inside blocks again for the gradients, not keep them: less memory, slower"
    )
    compile: bool = Field(
        False, description="networks through torch.compile: minutes at the start, then faster steps; see performance"
    )
    workers: int = Field(0, ge=0, description="processes that cut patches; 0: in the training process")
    log_every: int = Field(20, gt=0, description="steps between lines of losses.jsonl, means since the last")
    validate_every: int = Field(500, gt=0, description="steps between looks at the validation patients")
    validation_patches: int = Field(8, gt=0, description="patches per look, always the same ones")
    preview_every: int = Field(500, gt=0, description="steps between preview pictures")
    checkpoint_every: int = Field(500, gt=0, description="steps between checkpoints")
    on_nan: OnNan = Field(
        "stop", description="at a loss or weight that is not finite; skip: go on as if that batch had not been"
    )
    max_skipped: int = Field(10, ge=0, description="batches that may be left out so, then the training stops")
    keep_last: int = Field(3, gt=0, description="checkpoints to go on from that stay, the newest included")
    keep_every: int | None = Field(
        None, gt=0, description="steps between networks that are kept for good, checkpoints/<step>.pt; null: none"
    )
    trackers: tuple[Tracker, ...] = Field(  # type: ignore[valid-type]
        (Component(name="tensorboard"),), description="where the training can be watched: tensorboard, mlflow, wandb"
    )
