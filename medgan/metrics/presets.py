"""Figures by which published challenges compare translations, each by its own range, mask and window.

`PRESETS` are for CT in HU; ``docs/evaluation.md`` has the formulas. medgan's own figures, ``default``, are
`medgan.metrics.scores.image_scores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medgan.metrics.image import decibels, differences
from medgan.metrics.similarity import mean_similarity, ms_ssim

PresetName = Literal["default", "synthrad2023", "synthrad2025_metrics", "synthrad2025_evaluation"]
Volume: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published way of comparing a synthetic CT with a CT.

    Attributes:
        low_hu: lowest value: what is below is cut off for PSNR and similarity, and what is outside the mask is set to
            it for similarity.
        high_hu: highest value; highest minus lowest is the data range.
        structure: "ssim" or "ms_ssim", which the result bears as its name.
        source: where the definition was published.
    """

    low_hu: float
    high_hu: float
    structure: Literal["ssim", "ms_ssim"]
    source: str

    def scores(self, prediction: Volume, reference: Volume, mask: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """``mae`` in HU, ``psnr`` in dB, and ``ssim`` or ``ms_ssim``.

        MAE is taken of the values as they are, PSNR of the values cut off at the range, both inside `mask`. The map of
        similarity is averaged where the mask is and where the window lies within the volume; NaN if that is nowhere.

        Args:
            prediction: in HU, 2D or 3D.
            reference: the truth, same shape.
            mask: None takes the whole volume.

        Raises:
            ValueError: shapes differ, the mask is empty, or a voxel inside it is not finite.
        """
        span = self.high_hu - self.low_hu
        apart = differences(prediction, reference, mask, (self.low_hu, self.high_hu))
        order = np.argsort(reference.strides, kind="stable")[::-1]  # tiles lie along the volume's memory
        where = None if mask is None else np.asarray(mask > 0).transpose(order)
        a, b = (self._prepared(image.transpose(order), where) for image in (prediction, reference))
        measure = ms_ssim if self.structure == "ms_ssim" else mean_similarity
        return {
            "mae": apart.absolute,
            "psnr": decibels(apart.squared, span),
            self.structure: measure(a, b, span, where),
        }

    def _prepared(self, image: Volume, where: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """The image cut off at the range, at its lowest value outside the mask, moved so that this value is 0."""
        low, high = np.float32(self.low_hu), np.float32(self.high_hu)
        prepared = np.zeros(image.shape, dtype=np.float32)
        for row, values in enumerate(image):  # one row stays in the cache
            kept = np.clip(values, low, high, dtype=np.float32)
            kept -= low
            np.copyto(prepared[row], kept, where=True if where is None else where[row])
        return prepared


PRESETS: dict[PresetName, Preset] = {
    "synthrad2023": Preset(
        low_hu=-1024,
        high_hu=3000,
        structure="ssim",
        source="SynthRAD2023 challenge, github.com/SynthRAD2023/metrics, functions/image_metrics.py",
    ),
    "synthrad2025_metrics": Preset(
        low_hu=-1024,
        high_hu=3000,
        structure="ms_ssim",
        source="SynthRAD2025 challenge, github.com/SynthRAD2025/metrics, functions/image_metrics.py",
    ),
    "synthrad2025_evaluation": Preset(
        low_hu=-1024,
        high_hu=3071,
        structure="ms_ssim",
        source="SynthRAD2025 challenge, github.com/SynthRAD2025/evaluation, image_metrics.py",
    ),
}
