"""A trained run as a function of volumes: the other modality, on the input's own grid.

A volume is prepared as the training's volumes were, goes through the generator in one piece (in blended windows where
it is too large), and back to its own grid and to stored units. Beside it lies what the target's segmentor reads off it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, overload

import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from medgan.checkpoint import (
    CheckpointKind,
    Precision,
    build_recipe,
    choose_device,
    find_checkpoint,
    is_bf16,
    read_checkpoint,
)
from medgan.config import InputError, StrictModel, suggest, validate
from medgan.data.grid import GridMap, triple
from medgan.data.intensity import Intensity, from_dict
from medgan.data.transforms import Prepared
from medgan.data.volume import (
    Volume,
    from_metatensor,
    from_nibabel,
    read_volume,
    to_metatensor,
    to_nibabel,
)
from medgan.networks.windows import Size, evaluate, largest_window, sees_window
from medgan.preprocess import PreparedDomain, PreprocessOptions, prepare_input
from medgan.recipes import Direction
from medgan.rundir import RunDir

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_MOST_VOXELS = 2**31  # of a working grid: beyond lies a mistaken voxel size, not a patient
_FAR_SPACING = 1.5  # ratio to the training's spacing from which a volume is resampled to it

logger = logging.getLogger(__name__)


class TranslateOptions(StrictModel):
    """The `translate:` section."""

    checkpoint: CheckpointKind = Field("best", description="of model selection, or the last; best falls back to last")
    segmentation: bool = Field(True, description="also write what the target domain's segmentor reads off translations")
    mask_background: bool = Field(
        True, description="outside the source's body the target's background, where training masked it too"
    )
    max_voxels: PositiveInt = Field(
        8_000_000, description="prepared volumes up to this size are translated in one piece, which has no seams"
    )
    window: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="voxels of the windows for larger ones; null: as large as max_voxels allows"
    )
    overlap: float = Field(0.25, ge=0, lt=1, description="of neighbouring windows, share of a window")
    batch_size: PositiveInt = Field(1, description="windows at a time")
    precision: Precision = Field("auto", description="of the networks; auto: bf16 where the processor has it")


@dataclass(frozen=True)
class Translation:
    """A translated volume on the grid of its source.

    Attributes:
        image: (X, Y, Z) in stored units of the target: int16 HU for CT, else float32.
        segmentation: (X, Y, Z) integer labels that the target's segmentor reads off the translation, or None.
    """

    image: NDArray[Any]
    segmentation: NDArray[Any] | None


class VolumeTranslator:
    """Volumes of one domain as volumes of the other; made by `load_translator`."""

    def __init__(
        self,
        generator: nn.Module,
        segmentor: nn.Module | None,
        *,
        source: PreparedDomain,
        target: PreparedDomain,
        patch_size: Size | None,
        options: TranslateOptions,
        device: torch.device,
    ) -> None:
        self.generator = generator.to(device).eval()
        self.segmentor = segmentor.to(device).eval() if segmentor and options.segmentation else None
        self.source, self.target = source, target
        self.patch_size, self.options, self.device = patch_size, options, device
        intensity = from_dict(target.intensity or target.rule)
        if not isinstance(intensity, Intensity):
            raise InputError(f"domain {target.name}: holds no typical intensity map; run `medgan preprocess` again")
        self.intensity: Intensity = intensity

    @overload
    def __call__(self, image: Volume) -> Volume: ...
    @overload
    def __call__(self, image: MetaTensor) -> MetaTensor: ...
    @overload
    def __call__(self, image: Path | str | SpatialImage) -> Any: ...
    def __call__(self, image: Any) -> Any:
        """The translation of a volume, as the same kind of thing: a MONAI tensor, a `Volume`, a nibabel image.

        A path (a file or a DICOM folder) gives a nibabel image.

        Raises:
            InputError: it cannot be read or placed, there is no body in it, or it is too large for the memory.
        """
        if isinstance(image, Volume):
            return replace(image, array=self.translate(image).image, path=None)
        if isinstance(image, Tensor) and hasattr(image, "affine"):
            volume = from_metatensor(cast("MetaTensor", image))
            translated = to_metatensor(self.translate(volume).image, volume, channel=image.ndim == 4)
            return translated.to(image.device)
        if isinstance(image, Path | str):
            volume = read_volume(image)
        elif isinstance(image, SpatialImage):
            volume = from_nibabel(image)
        else:
            kind = type(image).__name__
            raise InputError(f"{kind}: has no place in space; give a path, a nibabel image, a MetaTensor or a Volume")
        return to_nibabel(self.translate(volume).image, volume)

    def translate(self, volume: Volume) -> Translation:
        """The translation of a volume and what the segmentor reads off it, on the volume's grid.

        NaN and infinities are read as background.

        Raises:
            InputError: there is no body in it, or it is too large for the memory.
        """
        place = str(volume.path or "volume")
        with _enough_memory(place), torch.inference_mode():
            prepared = self._prepare(volume, place)
            fake = self._evaluate(self.generator, torch.from_numpy(prepared.image)[None, None])
            image = prepared.undo.to_input(fake[0, 0].numpy(), 1, fill=-1.0)
            if self._is_masked:
                image[~prepared.undo.to_input(prepared.body, 0, fill=False)] = -1.0
            return Translation(self._in_stored_units(image), self._read_labels(fake, prepared))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with all that decides a translation: weights, domains, options."""
        digest = hashlib.sha256()
        for network in filter(None, (self.generator, self.segmentor)):
            for name, value in network.state_dict().items():
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for model in (self.source, self.target, self.options):
            digest.update(model.model_dump_json().encode())
        return digest.hexdigest()

    @property
    def _is_masked(self) -> bool:
        return self.options.mask_background and self.source.preprocess.mask_background

    def _prepare(self, volume: Volume, place: str) -> Prepared:
        """The volume as the training's volumes were prepared: its image in [-1, 1] on the working grid."""
        bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
        if bad:
            logger.warning("%s: %d voxels are not finite numbers; they are read as background", place, bad)
        domain = self.source.model_copy(update={"preprocess": self._on_known_spacing(volume, place)})
        try:
            return prepare_input(volume, domain)[0]
        except InputError:
            if domain.body_threshold is None or domain.modality == "ct":
                raise
            logger.warning("%s: no body above %g; a threshold of its own is found", place, domain.body_threshold)
        return prepare_input(volume, domain.model_copy(update={"body_threshold": None}))[0]

    def _on_known_spacing(self, volume: Volume, place: str) -> PreprocessOptions:
        """The training's preparation; a volume that would keep a spacing far from the training's gets theirs."""
        options, known = self.source.preprocess, self.source.spacing_mm
        shape = triple(volume.array.shape)
        plan = GridMap.plan(shape, volume.affine, orientation=options.orientation)
        if options.spacing_mm is None and known is not None:
            own = [volume.spacing_mm[axis] for axis in plan.axes]
            if max(max(a / b, b / a) for a, b in zip(own, known, strict=True)) > _FAR_SPACING:
                logger.info("%s: resampled to %s mm for the networks", place, " x ".join(f"{mm:g}" for mm in known))
                options = options.model_copy(update={"spacing_mm": known})
        plan = GridMap.plan(shape, volume.affine, orientation=options.orientation, spacing_mm=options.spacing_mm)
        if math.prod(plan.working_shape) > _MOST_VOXELS:
            own_mm = " x ".join(f"{mm:g}" for mm in volume.spacing_mm)
            raise InputError(f"{place}: voxels of {own_mm} mm, far larger than the training's; check its voxel size")
        return options

    def _read_labels(self, fake: Tensor, prepared: Prepared) -> NDArray[Any] | None:
        if self.segmentor is None:
            return None
        if self._is_masked:
            fake = fake.masked_fill(~torch.from_numpy(prepared.body), -1.0)
        logits = self._evaluate(self.segmentor, fake)
        labels = logits.argmax(1)[0].numpy().astype(np.uint8 if logits.shape[1] <= 256 else np.int16)
        return prepared.undo.to_input(labels, 0, fill=0)

    def _in_stored_units(self, image: NDArray[Any]) -> NDArray[Any]:
        stored: NDArray[Any] = self.intensity.denormalize(image)
        if self.target.modality != "ct":
            return np.asarray(stored, dtype=np.float32)
        low, high = self.intensity.ends
        whole: NDArray[Any] = np.clip(np.rint(stored), math.ceil(low), math.floor(high))
        return whole.astype(np.int16)

    def _evaluate(self, network: nn.Module, image: Tensor) -> Tensor:
        """A network over an image, outside which lies background.

        A network whose norms look at all of a window (instance or group norm) gets windows as large as in training;
        to any other, all of the image in one piece is best.
        """
        options = self.options
        if self.patch_size and sees_window(network):
            window = options.window or self.patch_size
        else:
            shape, least = triple(image.shape[2:]), self.patch_size or (1, 1, 1)
            window = largest_window(shape, least, options.max_voxels)
            if options.window and any(length < n for length, n in zip(window, shape, strict=True)):
                window = options.window
        return evaluate(
            network,
            image,
            window=window,
            overlap=options.overlap,
            batch_size=options.batch_size,
            device=self.device,
            bf16=is_bf16(options.precision, self.device),
        )


def load_translator(
    run: RunDir | Path | str,
    direction: Direction = "AB",
    *,
    checkpoint: CheckpointKind | None = None,
    device: str = "auto",
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
) -> VolumeTranslator:
    """The translator that a run has trained: call it with a path, a nibabel image, a MONAI tensor or a `Volume`.

    Args:
        run: the run's folder.
        direction: "AB" (A to B) or "BA".
        checkpoint: instead of ``options.checkpoint``, which is "best" and falls back to "last".
        device: "auto", "cpu", "cuda", "cuda:1", ...; auto takes a GPU where there is one.
        options: of translating.

    Raises:
        InputError: no checkpoint, one that cannot be read without running code from it, or no such direction.
    """
    if direction not in _DIRECTIONS:
        raise InputError(f"direction '{direction}'; {suggest(direction, _DIRECTIONS)}")
    path = find_checkpoint(_run_dir(run), checkpoint or options.checkpoint)
    state = read_checkpoint(path)
    recipe = build_recipe(state, path)
    generator = recipe.translator(direction)
    if generator is None:
        others = [other for other in _DIRECTIONS if recipe.translator(other) is not None]
        way_out = f"use {others[0]}" if others else "name another run"
        raise InputError(f"direction {direction}: {path} holds no network for it; {way_out}")
    source, target = (
        validate(PreparedDomain, state["domains"].get(side), f"{path}: domains.{side}") for side in direction
    )
    return VolumeTranslator(
        generator,
        recipe.segmentor("B" if direction == "AB" else "A"),
        source=source,
        target=target,
        patch_size=triple(state["patch_size"]) if "patch_size" in state else None,
        options=options,
        device=choose_device(device),
    )


def directions(run: RunDir | Path | str, checkpoint: CheckpointKind = "best") -> list[Direction]:
    """The directions in which a run can translate.

    Raises:
        InputError: no checkpoint, or one that cannot be read without running code from it.
    """
    path = find_checkpoint(_run_dir(run), checkpoint)
    recipe = build_recipe(read_checkpoint(path), path)
    return [direction for direction in _DIRECTIONS if recipe.translator(direction) is not None]


@contextmanager
def _enough_memory(place: str) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        way_out = "lower translate.max_voxels, or use --device cpu"
        raise InputError(f"{place}: too large for the memory; {way_out}") from None


def _run_dir(run: RunDir | Path | str) -> RunDir:
    return run if isinstance(run, RunDir) else RunDir(Path(run))
