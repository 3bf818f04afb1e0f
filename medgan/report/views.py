"""A translated case as one looks at it: its images with the window and unit of each, its label maps, its mask.

Pictures on paper and the viewer on the screen show the same `Views`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgan.data.volume import read_volume

READ, DRAWN = "read off the translation", "label"
Kind = Literal["source", "translation", "reference", "error"]


@dataclass(frozen=True)
class View:
    """One image of a case.

    Attributes:
        kind: what it is.
        title: for people, with the domain's name.
        image: (X, Y, Z).
        window: values drawn at the ends of the grey or colour scale.
        unit: of the values, "HU" or "stored units".
        path: where it is stored; None where it was computed.
    """

    kind: Kind
    title: str
    image: NDArray[Any]
    window: tuple[float, float]
    unit: str
    path: Path | None

    @property
    def scale(self) -> str:
        """What the colour bar says."""
        if self.kind == "error":
            return f"{self.unit}, inside the mask"
        low, high = self.window
        return f"HU, window {low:g} to {high:g}" if self.unit == "HU" else f"{self.unit}, {low:.0f} to {high:.0f}"


@dataclass(frozen=True)
class Views:
    """All that there is to see of a case, on one grid.

    Attributes:
        subject: whose.
        affine: (4, 4), voxel to RAS mm.
        images: source, translation, reference and error, those that there are.
        labels: label maps (X, Y, Z) by what they are: `READ` and `DRAWN`.
        mask: (X, Y, Z), where the case was scored.
        classes: names of the labels.
    """

    subject: str
    affine: NDArray[np.float64]
    images: tuple[View, ...]
    labels: Mapping[str, NDArray[Any]]
    mask: NDArray[np.bool_]
    classes: Mapping[int, str]

    @property
    def centre(self) -> tuple[int, int, int]:
        """The voxel in the middle of the mask."""
        x, y, z = (int(np.median(where)) for where in np.nonzero(self.mask))
        return x, y, z

    def image(self, kind: Kind) -> View | None:
        """The image of that kind, if there is one."""
        return next((view for view in self.images if view.kind == kind), None)


def load_views(
    run: Path,
    way: str,
    part: Mapping[str, Any],
    case: Mapping[str, Any],
    classes: Mapping[int, str],
    *,
    ct_window_hu: tuple[float, float],
    error_hu: float,
) -> Views:
    """The views of one case of ``evaluate/summary.json``.

    Args:
        run: the run's folder, where the paths of the summary start.
        way: the direction's key in the summary, AB or BA.
        part: the direction's entry.
        case: the case's entry.
        classes: names of the labels, without background.
        ct_window_hu: HU drawn black and white.
        error_hu: HU off the truth at the ends of the colour bar; half the window where values are no HU.

    Raises:
        InputError: a file of the case cannot be read.
    """
    paths = {key: run / path for key, path in case["files"].items() if path}
    volumes = {key: read_volume(path) for key, path in paths.items()}
    translation = volumes["translation"]
    kept = run / "evaluate" / way / f"{case['subject']}_mask.nii.gz"
    mask = read_volume(kept).array > 0 if kept.is_file() else np.ones(translation.array.shape, dtype=bool)
    if not mask.any():
        mask = np.ones_like(mask)

    def view(kind: Kind, side: Mapping[str, str], like: str, word: str) -> View:
        hounsfield = side.get("modality") == "ct"
        window = ct_window_hu if hounsfield else _percentiles(volumes[like].array, mask)
        unit = "HU" if hounsfield else "stored units"
        return View(kind, f"{word} ({side['name']})", volumes[kind].array, window, unit, paths[kind])

    source, target = part["source"], part["target"]
    truth = "reference" if "reference" in volumes else "translation"
    images = [view("source", source, "source", "source")] if "source" in volumes else []
    shown = view("translation", target, truth, "translation")
    images.append(shown)
    if "reference" in volumes:
        images.append(view("reference", target, truth, "truth"))
        error = translation.array.astype(np.float32) - volumes["reference"].array
        end = error_hu if shown.unit == "HU" else (shown.window[1] - shown.window[0]) / 2
        images.append(View("error", "translation - truth", error, (-end, end), shown.unit, None))
    drawn = "reference_label" if "reference_label" in volumes else "label"
    labels = {word: volumes[key].array for word, key in ((READ, "segmentation"), (DRAWN, drawn)) if key in volumes}
    return Views(str(case["subject"]), translation.affine, tuple(images), labels if classes else {}, mask, classes)


def _percentiles(image: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[float, float]:
    low, high = (float(value) for value in np.nanpercentile(image[mask], (0.5, 99.5)))
    return (low, high) if low < high else (low, low + 1)
