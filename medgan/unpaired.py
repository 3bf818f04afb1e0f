"""What can be measured of a translation without a pair, while the networks are at hand: its features and the way back.

`medgan translate` leaves both beside the volumes, so that `medgan evaluate` reads files and no models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medgan.data.grid import Triple
from medgan.data.intensity import Intensity, from_dict
from medgan.data.volume import Volume
from medgan.distances import Features
from medgan.networks.features import Extractor, body_features
from medgan.preprocess import PreparedDomain, prepare_input

WayBack = Callable[[Tensor, Tensor], Tensor]


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
        tile: Triple,
        device: torch.device,
    ) -> None:
        """
        Args:
            source: the domain that is translated.
            target: the domain that is translated to.
            extractor: of features, on `device`; None: no features.
            back: the other direction's generator, of image and body, (1, 1, X, Y, Z) each; None: no cycle error.
            tile: voxels that a 3D extractor sees at once.
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
        found = body_features(self.extractor, inside, body, tile=self.tile, device=self.device)
        return {plane: rows.numpy() for plane, rows in found.items()}

    def _cycle_error(self, given: Tensor, made: Tensor, body: Tensor) -> float | None:
        intensity = from_dict(self.source.intensity) if self.source.intensity else None
        if self.back is None or not isinstance(intensity, Intensity):
            return None
        low, high = intensity.ends
        error = (self.back(made, body) - given).abs()[body].mean()
        return error.item() * (high - low) / 2
