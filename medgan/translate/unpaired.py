"""What can be measured of a translation without a pair, while the networks are at hand: its features and the way back.

`medgan translate` leaves both beside the volumes, so that `medgan evaluate` reads files and no models.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from medgan.config import bind
from medgan.data.grid import Triple
from medgan.data.intensity import Intensity, from_dict
from medgan.data.volume import Volume
from medgan.distances import Features
from medgan.networks.features import EXTRACTORS, Extractor, body_features
from medgan.preprocess import PreparedDomain, prepare_input
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.translate.load import directions, load_translator
from medgan.translate.translator import VolumeTranslator

WayBack = Callable[[Tensor, Tensor], Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Of one translation.

    Attributes:
        features: of "source" and "translation", by plane; empty without an extractor.
        cycle_error: mean absolute error of the way back inside the body, in stored units of the source; None without
            a way back.
    """

    features: dict[str, Features]
    cycle_error: float | None


class Observer:
    """Looks at a source and its translation on the working grid."""

    def __init__(
        self,
        *,
        source: PreparedDomain,
        target: PreparedDomain,
        extractor: Extractor | None,
        back: WayBack | None,
        tile: Triple | None,
        device: torch.device,
    ) -> None:
        """
        Args:
            source: the domain that is translated.
            target: the domain that is translated to.
            extractor: of features, on `device`; None: no features.
            back: the other direction's generator, of image and body, (1, 1, X, Y, Z) each; None: no cycle error.
            tile: voxels that a 3D extractor sees at once; None: all.
            device: where the extractor is.
        """
        self.source, self.target = source, target
        self.extractor, self.back = extractor, back
        self.tile, self.device = tile, device

    def __call__(self, given: Tensor, made: Tensor, body: Tensor) -> Measured:
        """What is to be said of the image `given` and its translation `made`; (1, 1, X, Y, Z), `body` boolean."""
        images = {"source": given, "translation": made}
        features = {name: self._features(image, body) for name, image in images.items()} if self.extractor else {}
        return Measured(features, self._cycle_error(given, made, body))

    def real(self, volume: Volume) -> Features:
        """The features of a real image of the target domain.

        Raises:
            InputError: there is no body in it.
        """
        prepared, _ = prepare_input(volume, self.target)
        image, body = (torch.from_numpy(array)[None, None] for array in (prepared.image, prepared.body))
        return self._features(image, body)

    def _features(self, image: Tensor, body: Tensor) -> Features:
        assert self.extractor is not None
        inside = image.masked_fill(~body, -1.0) if self.target.preprocess.mask_background else image
        x, y, z = self.tile or inside.shape[2:]
        found = body_features(self.extractor, inside, body, tile=(x, y, z), device=self.device)
        return {plane: rows.numpy() for plane, rows in found.items()}

    def _cycle_error(self, given: Tensor, made: Tensor, body: Tensor) -> float | None:
        intensity = from_dict(self.source.intensity) if self.source.intensity else None
        if self.back is None or not isinstance(intensity, Intensity):
            return None
        low, high = intensity.ends
        error = (self.back(made, body) - given).abs()[body].mean()
        return error.item() * (high - low) / 2


def load_observer(run: RunDir, translator: VolumeTranslator, direction: Direction, device: str = "auto") -> Observer:
    """Who looks at what a run's translator makes, as its options say."""
    options, back = translator.options, None
    reverse: Direction = "BA" if direction == "AB" else "AB"
    if options.cycle and reverse in directions(run, options.checkpoint):
        back = load_translator(run, reverse, options=options, device=device).generate
    return Observer(
        source=translator.source,
        target=translator.target,
        extractor=_extractor(translator),
        back=back,
        tile=translator.patch_size,
        device=translator.device,
    )


def _extractor(translator: VolumeTranslator) -> Extractor | None:
    """The extractor of the options; None where features are not wanted or there is no segmentor to take them from."""
    choice, segmentor = translator.options.extractor, translator.segmentor
    if not translator.options.features or (choice.name == "segmentor" and segmentor is None):
        return None
    target, values = bind(choice, EXTRACTORS, "extractor")
    try:
        extractor = target(segmentor, **values)
    except ValueError as reason:
        logger.warning("%s; no features are written", reason)
        return None
    if isinstance(extractor, nn.Module):
        extractor.to(translator.device).eval()
    return cast(Extractor, extractor)
