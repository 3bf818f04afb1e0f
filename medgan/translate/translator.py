"""A trained run as a function of volumes: the other modality, on the input's own grid.

A volume is prepared as the training's volumes were, goes through the generator as if in one piece, however large it is
(`medgan.networks.windows`), and back to its own grid and to stored units. Beside it lies what the target's segmentor
reads off it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.config import InputError
from medgan.data.grid import GridMap, triple
from medgan.data.intensity import Intensity, from_dict
from medgan.data.simpleitk import from_sitk, is_sitk, to_sitk
from medgan.data.transforms import Prepared
from medgan.data.volume import Volume, from_metatensor, from_nibabel, read_volume, to_metatensor, to_nibabel
from medgan.device import is_bf16
from medgan.metrics.seams import SeamScore, border_jumps, difference_rms
from medgan.networks.cuts import Size
from medgan.networks.windows import Evaluation, Evaluator, filled_up, frozen_for
from medgan.preprocess.preparation import PreparedDomain, PreprocessOptions, prepare_input
from medgan.translate.options import TranslateOptions

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor
    from SimpleITK import Image as SitkImage

Look = Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor] | None]

_MOST_VOXELS = 2**31  # of a working grid: beyond lies a mistaken voxel size, not a patient
_FAR_SPACING = 1.5  # ratio to the training's spacing from which a volume is resampled to it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Translation:
    """A translated volume on the grid of its source.

    Attributes:
        image: (X, Y, Z) in stored units of the target: int16 HU for CT, else float32.
        segmentation: (X, Y, Z) integer labels that the target's segmentor reads off the translation, or None.
        seams: what the cut into windows did to the image, in the body, in stored units.
        maps: (X, Y, Z) float32 by name, what the look has made of it; 0 outside the working grid.
    """

    image: NDArray[Any]
    segmentation: NDArray[Any] | None
    seams: SeamScore
    maps: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class VolumeTranslator:
    """Volumes of one domain as volumes of the other; made by `medgan.translate.load.load_translator`."""

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
        self._evaluators: dict[nn.Module, Evaluator] = {}

    @overload
    def __call__(self, image: Volume) -> Volume: ...
    @overload
    def __call__(self, image: MetaTensor) -> MetaTensor: ...
    @overload
    def __call__(self, image: Path | str | SpatialImage | SitkImage) -> Any: ...
    def __call__(self, image: Any) -> Any:
        """The translation of a volume, as the same kind of thing.

        That is a MONAI tensor, a `Volume`, an image of nibabel or one of SimpleITK. A path (a file or a DICOM folder)
        gives a nibabel image.

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
        elif is_sitk(image):
            return to_sitk(self.translate(from_sitk(image)).image, image)
        else:
            kind = type(image).__name__
            kinds = "a path, an image of nibabel or SimpleITK, a MetaTensor or a Volume"
            raise InputError(f"{kind}: has no place in space; give {kinds}")
        return to_nibabel(self.translate(volume).image, volume)

    def translate(self, volume: Volume, look: Look | None = None) -> Translation:
        """The translation of a volume and what the segmentor reads off it, on the volume's grid.

        NaN and infinities are read as background. `look`, if given, is shown image, translation and body on the working
        grid, (1, 1, X, Y, Z) each; what it returns of the same shape comes back on the volume's grid as `maps`.

        Raises:
            InputError: there is no body in it, or it is too large for the memory.
        """
        place = str(volume.path or "volume")
        with _enough_memory(place), torch.inference_mode():
            prepared = self._prepare(volume, place)
            given, body = torch.from_numpy(prepared.image)[None, None], torch.from_numpy(prepared.body)[None, None]
            made = self._evaluate(self.generator, given, body)
            seams = self._seams(made, given, body)
            fake = made.values
            seen = look(given, fake, body) if look is not None else None
            image = prepared.undo.to_input(fake[0, 0].numpy(), 1, fill=-1.0)
            if self._is_masked:
                image[~prepared.undo.to_input(prepared.body, 0, fill=False)] = -1.0
            maps = {
                name: prepared.undo.to_input(values[0, 0].numpy(), 1, fill=0.0) for name, values in (seen or {}).items()
            }
            labels = self._read_labels(fake, body, prepared.undo)
            return Translation(self._in_stored_units(image), labels, seams, maps)

    def generate(self, image: Tensor, body: Tensor) -> Tensor:
        """The generator's answer to a prepared image and its body, (1, 1, X, Y, Z) each."""
        with torch.inference_mode():
            return self._evaluate(self.generator, image, body).values

    @cached_property
    def fingerprint(self) -> str:
        """Changes with all that decides a translation: weights, domains, options."""
        digest = hashlib.sha256()
        for network in filter(None, (self.generator, self.segmentor)):
            for name, value in network.state_dict().items():
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for model in (self.source, self.target, self.options):
            digest.update(model.model_dump_json(exclude={"spread_flips", "spread_from"}).encode())
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

    def _read_labels(self, fake: Tensor, body: Tensor, undo: GridMap) -> NDArray[Any] | None:
        if self.segmentor is None:
            return None
        labels = self._evaluate(self.segmentor, fake, body, _largest_class).values
        return undo.to_input(labels[0, 0].numpy(), 0, fill=0)

    def _seams(self, made: Evaluation, given: Tensor, body: Tensor) -> SeamScore:
        low, high = self.intensity.ends
        scale, mask = (high - low) / 2, body[0, 0].numpy()
        jumps = border_jumps(made.values[0, 0].numpy(), made.borders, mask)
        across, inside = (jumps[0] * scale, jumps[1] * scale) if jumps else (None, None)
        shifted = None
        if self.options.seam_check:
            again = self._evaluate(self.generator, given, body, is_shifted=True).values
            shifted = difference_rms(made.values[0, 0].numpy(), again[0, 0].numpy(), mask) * scale
        return SeamScore(made.windows, across, inside, shifted)

    def _in_stored_units(self, image: NDArray[Any]) -> NDArray[Any]:
        stored: NDArray[Any] = self.intensity.denormalize(image)
        if self.target.modality != "ct":
            return np.asarray(stored, dtype=np.float32)
        low, high = self.intensity.ends
        whole: NDArray[Any] = np.clip(np.rint(stored), math.ceil(low), math.floor(high))
        return whole.astype(np.int16)

    def _evaluate(
        self,
        network: nn.Module,
        image: Tensor,
        body: Tensor,
        finish: Callable[[Tensor], Tensor] | None = None,
        *,
        is_shifted: bool = False,
    ) -> Evaluation:
        """A network over an image, outside which lies background; outside the body it is background, if masked."""
        patch = self.patch_size or (1, 1, 1)
        image, place = filled_up(image, patch)
        where = filled_up(body, patch, False)[0] if self._is_masked else None
        bf16 = is_bf16(self.options.precision, self.device)
        frozen = frozen_for(network, image, patch, device=self.device, bf16=bf16, where=where)
        known = self._evaluators.get(network)
        if known is None or frozen is not network:
            known = Evaluator(frozen, channels=image.shape[1], device=self.device, bf16=bf16, like=known)
            self._evaluators[network] = known
        made = known(
            image,
            memory_gb=self.options.memory_gb,
            window=self.options.window,
            where=where,
            fill=0.0 if finish else -1.0,
            finish=finish,
            is_shifted=is_shifted,
        )
        return made.within(place)


def _largest_class(logits: Tensor) -> Tensor:
    return logits.argmax(dim=1, keepdim=True).to(torch.uint8 if logits.shape[1] <= 256 else torch.int16)


@contextmanager
def _enough_memory(place: str) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        way_out = "lower translate.memory_gb, or use --device cpu"
        raise InputError(f"{place}: too large for the memory; {way_out}") from None
