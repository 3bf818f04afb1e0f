"""The `translate:` section of a configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from medgan.config import Component, StrictModel, component
from medgan.device import Precision
from medgan.networks.features import EXTRACTORS
from medgan.rundir import CheckpointKind


class TranslateOptions(StrictModel):
    """The `translate:` section."""

    checkpoint: CheckpointKind = Field("best", description="of model selection, or the last; best falls back to last")
    segmentation: bool = Field(True, description="also write what the target domain's segmentor reads off translations")
    mask_background: bool = Field(
        True, description="outside the source's body the target's background, where training masked it too"
    )
    memory_gb: PositiveFloat = Field(
        2.0, description="GiB that a network's maps may take, on top of the volumes; decides time, never the result"
    )
    window: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="voxels of the working grid that are computed at a time; null: as memory_gb allows"
    )
    seam_check: bool = Field(
        False, description="translate twice, windows shifted by half, and note the difference; costs a second run"
    )
    precision: Precision = Field("auto", description="of the networks; auto: bf16 where the processor has it")
    features: bool = Field(True, description="of a run's cases, write features for distances without pairs")
    extractor: component(EXTRACTORS, "extractor") = Field(  # type: ignore[valid-type]
        Component(name="segmentor"), description="of features: the target's segmentor, or a class of your own"
    )
    cycle: bool = Field(True, description="of a run's cases, measure the way back where the run has learnt it")
    spread_flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] | None = Field(
        None, description="with --uncertainty, axes to mirror, one more run each; null: those that training mirrored"
    )
    spread_from: float = Field(
        0.5, ge=0, le=1, description="with --uncertainty, share of the training from which kept checkpoints take part"
    )
