"""Prepare a volume for the networks, and augment patches of it.

Preparing turns, resamples and crops along the axes of the volume (`GridMap`), finds the body and cleans what is not a
number. Augmenting goes through MONAI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from medgan.config import InputError, StrictModel
from medgan.data import geometry
from medgan.data.grid import GridMap, triple
from medgan.data.volume import Volume

_WIDEST_GAP_MM = 16.0  # in the bright rim of a body, such as a spinous process in the fat of an MR


def otsu_threshold(image: NDArray[Any]) -> float:
    """The value that parts background from body, for an image whose background is dark.

    Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979, Section III: the lower of the two thresholds
    that best make three classes (background, muscle, fat; two would part muscle from fat where there is little
    background), of the square root of the intensities, so that the spread of bright tissues does not outweigh the rest.
    """
    values = np.asarray(image, dtype=np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0
    low, high = (float(v) for v in np.percentile(values, (0.1, 99.9)))
    if high <= low:
        return low
    counts, edges = np.histogram(np.sqrt(np.clip(values - low, 0, high - low)), bins=128)
    share = np.concatenate([[0.0], np.cumsum(counts / counts.sum())])  # of all bins below an edge
    moment = np.concatenate([[0.0], np.cumsum(counts / counts.sum() * (edges[:-1] + edges[1:]) / 2)])

    def spread(below: Any, above: Any) -> NDArray[np.float64]:
        """A class's share times its mean squared; the sum over classes is largest where Otsu's criterion is."""
        part = share[above] - share[below]
        square = (moment[above] - moment[below]) ** 2
        return np.asarray(np.divide(square, part, out=np.zeros(np.shape(part)), where=part > 0))

    first, second = np.triu_indices(len(counts) + 1, k=1)
    between = spread(0 * first, first) + spread(first, second) + spread(second, 0 * second + len(counts))
    best = between >= between.max() * (1 - 1e-9)  # an empty stretch of the histogram leaves many equally good
    return low + float(edges[first[best]].mean()) ** 2


def body_mask(
    image: NDArray[Any], threshold: float | None, opening: int = 1, closing: int = 2, axial_axis: int = 2
) -> NDArray[np.bool_]:
    """Where the body is: what is brighter than `threshold`, its thin and small pieces dropped and its holes filled.

    Args:
        image: (X, Y, Z) in stored units; NaN counts as outside.
        threshold: in stored units; None finds one (`otsu_threshold`).
        opening: voxels, in plane: tables, sheets and tubes thinner than twice this vanish.
        closing: voxels, in plane: dark ways from the skin into the body, such as a spinous process on MR, are closed
            where they are narrower than twice this, so that what lies behind them counts as a hole.
        axial_axis: the axis along which the slices lie that are filled one by one.

    Keeps every part of at least a tenth of the largest one's volume (two thighs are two parts).
    """
    limit = otsu_threshold(image) if threshold is None else threshold
    slices = np.moveaxis(np.nan_to_num(image, nan=-np.inf, posinf=np.inf, neginf=-np.inf) > limit, axial_axis, 0)
    mask = np.ascontiguousarray(slices)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    if opening:
        opened = ndimage.binary_opening(mask, structure=cross, iterations=opening)
        mask = opened if opened.any() else mask
    parts, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = (sizes >= 0.1 * sizes.max())[parts]
    if closing:
        around = [(0, 0), (closing, closing), (closing, closing)]
        wide = ndimage.binary_closing(np.pad(mask, around, mode="edge"), structure=cross, iterations=closing)
        mask = mask | wide[:, closing:-closing, closing:-closing]
    for plane in mask:
        if plane.any():
            plane[...] = ndimage.binary_fill_holes(plane)
    return np.ascontiguousarray(np.moveaxis(mask, 0, axial_axis))


@dataclass(frozen=True)
class Prepared:
    """A volume on its working grid.

    Attributes:
        image: (X, Y, Z) float32, stored units.
        label: (X, Y, Z) integer or None.
        body: (X, Y, Z) bool.
        affine: (4, 4) working voxel to RAS in mm.
        undo: the way back to the input grid.
    """

    image: NDArray[np.float32]
    label: NDArray[Any] | None
    body: NDArray[np.bool_]
    affine: NDArray[np.float64]
    undo: GridMap

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the working grid."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def cropped(self, mask: NDArray[np.bool_], margin_mm: float) -> Prepared:
        """The box around `mask` (on this grid, not empty) and a margin, as far as the volume reaches."""
        margins = [math.ceil(margin_mm / mm) for mm in self.spacing_mm]
        sides = zip(bounding_box(mask), margins, mask.shape, strict=True)
        box = [slice(max(0, first - margin), min(n, last + margin)) for (first, last), margin, n in sides]
        image = np.ascontiguousarray(self.image[tuple(box)])
        body = np.ascontiguousarray(self.body[tuple(box)])
        label = None if self.label is None else np.ascontiguousarray(self.label[tuple(box)])
        shift = np.eye(4)
        shift[:3, 3] = [side.start for side in box]
        undo = self.undo.crop([side.start for side in box], image.shape)
        return Prepared(image, label, body, self.affine @ shift, undo)


def prepare(
    volume: Volume,
    label_volume: Volume | None = None,
    *,
    orientation: str = "RAS",
    spacing_mm: Sequence[float] | None = None,
    threshold: float | None = None,
    crop_margin_mm: float | None = None,
    background: float | None = None,
) -> Prepared:
    """Turn, resample and crop a volume, and its labels alike; NaN and infinities become background.

    Args:
        volume: the image.
        label_volume: integer labels on the same grid.
        orientation: where the working axes point.
        spacing_mm: of the working grid; None keeps the volume's.
        threshold: of the body mask, see `body_mask`.
        crop_margin_mm: kept around the body's bounding box; None crops nothing.
        background: in stored units; None takes the lowest finite value.

    Raises:
        InputError: the labels lie on another grid, or there is no body in the image.
    """
    place = str(volume.path or "volume")
    grid = GridMap.plan(triple(volume.array.shape), volume.affine, orientation=orientation, spacing_mm=spacing_mm)
    if label_volume is not None:
        check_same_grid(volume, label_volume)
    array = np.asarray(volume.array, dtype=np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        lowest = float(array[finite].min()) if finite.any() else 0.0
        array = np.where(finite, array, np.float32(lowest if background is None else background))
    image = grid.to_working(array, 1)
    working_mm = geometry.spacing_mm(grid.affine(volume.affine))
    axial_axis = next(i for i, letter in enumerate(orientation) if letter in "SI")
    closing = round(_WIDEST_GAP_MM / 2 / min(mm for i, mm in enumerate(working_mm) if i != axial_axis))
    body = body_mask(image, threshold, closing=closing, axial_axis=axial_axis)
    if not body.any():
        limit = "the automatic threshold" if threshold is None else f"{threshold:g}"
        raise InputError(f"{place}: no body, no voxel above {limit}; set the domain's body_threshold")
    label = None if label_volume is None else grid.to_working(label_volume.array, 0)
    prepared = Prepared(image, label, body, grid.affine(volume.affine), grid)
    return prepared if crop_margin_mm is None else prepared.cropped(body, crop_margin_mm)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """First voxel and one past the last, along each axis, of a mask that is not empty."""
    sides = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        sides.append((int(hit[0]), int(hit[-1]) + 1))
    return tuple(sides)


def check_same_grid(volume: Volume, label_volume: Volume) -> None:
    """Refuse labels that lie on another grid than their image.

    Raises:
        InputError: another shape, or a place further off than half a voxel.
    """
    place = str(label_volume.path or "labels")
    if volume.array.shape != label_volume.array.shape:
        shapes = f"{label_volume.array.shape} voxels, the image has {volume.array.shape}"
        raise InputError(f"{place}: {shapes}; resample the labels onto the image")
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*volume.array.shape, 1]
    gap_mm = np.abs(corners @ (volume.affine - label_volume.affine).T).max()
    if gap_mm > 0.5 * min(volume.spacing_mm):
        raise InputError(f"{place}: lies {gap_mm:.3g} mm off its image; resample the labels onto the image")


class Augment(StrictModel):
    """Random flips, small affine maps, gamma and noise for patches, through MONAI; equal seeds give equal results.

    Where an affine map looks past the patch, the patch's border goes on.
    """

    flip_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field(
        (), description="axes mirrored in half of the patches; 0 is left to right in RAS"
    )
    affine_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of patches that are rotated and scaled"
    )
    rotate_degrees: tuple[float, float, float] = Field((0.0, 0.0, 10.0), description="largest rotation about each axis")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="largest relative change of size, each axis")
    gamma: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="largest relative change of the gamma of the image; 0 keeps HU as they are"
    )
    noise: Annotated[float, Field(ge=0)] = Field(
        0.0, description="largest standard deviation of added Gaussian noise, where images lie in [-1, 1]"
    )

    def __call__(self, image: Tensor, label: Tensor | None, seed: int) -> tuple[Tensor, Tensor | None]:
        """Image (1, *S) in [-1, 1] and label (1, *S), both moved alike, then the image's intensities changed."""
        image, label = self.spatial(image, label, seed)
        return self.intensity(image, seed), label

    def spatial(self, image: Tensor, label: Tensor | None, seed: int) -> tuple[Tensor, Tensor | None]:
        """The flips and the affine map of this seed; the same for every image of the same shape."""
        moved = _spatial(self, image.ndim - 1).set_random_state(seed)(
            {"image": image} if label is None else {"image": image, "label": label.to(torch.float32)}
        )
        new_label = None if label is None else _plain(moved["label"]).round().to(label.dtype)
        return _plain(moved["image"]).to(image.dtype), new_label

    def intensity(self, image: Tensor, seed: int) -> Tensor:
        """The gamma and the noise of this seed; the result stays in [-1, 1]."""
        if self.gamma:
            change = float(np.random.default_rng(seed).uniform(-self.gamma, self.gamma))
            image = 2 * ((image + 1) / 2).clamp(0, 1) ** (1 + change) - 1
        if self.noise:
            image = _plain(_noise(self).set_random_state(seed)(image)).clamp(-1, 1)
        return image


def _plain(tensor: Tensor) -> Tensor:
    """Without MONAI's meta data, which costs in a hot loop."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor


@cache
def _spatial(augment: Augment, spatial_dims: int) -> Any:
    from monai.transforms.compose import Compose  # imported late: it takes seconds, and preparing does without
    from monai.transforms.spatial.dictionary import RandAffined, RandFlipd

    keys = ["image", "label"]
    radians = [math.radians(degrees) for degrees in augment.rotate_degrees]
    moves: list[Any] = [RandFlipd(keys, prob=0.5, spatial_axis=a, allow_missing_keys=True) for a in augment.flip_axes]
    if augment.affine_probability:
        moves.append(
            RandAffined(
                keys,
                prob=augment.affine_probability,
                rotate_range=radians if spatial_dims == 3 else radians[2:],
                scale_range=[augment.scale] * spatial_dims,
                mode=["bilinear", "nearest"],
                padding_mode="border",
                allow_missing_keys=True,
            )
        )
    return Compose(moves)


@cache
def _noise(augment: Augment) -> Any:
    from monai.transforms.intensity.array import RandGaussianNoise

    return RandGaussianNoise(prob=1.0, std=augment.noise)
