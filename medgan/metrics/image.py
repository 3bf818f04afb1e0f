"""How far a translated image is from the truth: MAE, bias, PSNR and SSIM, inside a mask.

Images are numpy arrays or torch tensors of one shape, 2D or 3D, in stored units (HU for CT); so are the results.
A mask is a boolean array of that shape; without one the whole image counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.metrics.similarity import SIDE, mean_similarity, similarity

if TYPE_CHECKING:
    from torch import Tensor

Image: TypeAlias = "NDArray[Any] | Tensor"
Window = Literal["uniform", "gaussian"]

_SIGMA = 1.5  # voxels of the Gaussian window, cut off at 3.5 sigma: 11 voxels wide
_CHUNK = 1 << 16  # voxels that are looked at together, few enough for the processor's cache


@dataclass(frozen=True)
class Differences:
    """Means over the voxels of a mask.

    Attributes:
        absolute: of |prediction - reference|.
        signed: of prediction - reference.
        squared: of the squared difference, after both were cut off at the limits, if there are any.
    """

    absolute: float
    signed: float
    squared: float


def differences(
    prediction: Image, reference: Image, mask: Image | None = None, limits: tuple[float, float] | None = None
) -> Differences:
    """What MAE, bias and PSNR are made of, in one pass over the voxels of `mask`.

    Args:
        prediction: image in stored units.
        reference: the truth, same shape.
        mask: None takes all voxels.
        limits: lowest and highest value; what is beyond them is set to them before it is squared.

    Raises:
        ValueError: shapes differ, the mask is empty, or a voxel inside it is not finite (all metrics here alike).
    """
    a, b, where = _comparable(prediction, reference, mask)
    sums, count = np.zeros(3), 0
    bad = {"prediction": 0, "reference": 0}
    rows = max(1, _CHUNK * len(a) // max(1, a.size))
    for first in range(0, len(a), rows):
        part = slice(first, first + rows)
        x, y = (image[part] if where is None else image[part][where[part]] for image in (a, b))
        x, y = x.astype(np.float64), y.astype(np.float64)
        for name, values in (("prediction", x), ("reference", y)):
            bad[name] += values.size - int(np.isfinite(values).sum())
        if any(bad.values()):
            continue
        count += x.size
        gap = x - y
        sums[:2] += np.abs(gap).sum(), gap.sum()
        if limits is not None:
            gap = np.clip(x, *limits) - np.clip(y, *limits)
        sums[2] += np.square(gap).sum()
    for name, number in bad.items():
        if number:
            raise ValueError(f"{name} holds {number} voxels that are NaN or infinite where it is scored")
    if not count:
        raise ValueError("the mask is empty, so there is nothing to compare")
    return Differences(*(float(value) for value in sums / count))


def mae(prediction: Image, reference: Image, mask: Image | None = None) -> float:
    """Mean of |prediction - reference| inside `mask`."""
    return differences(prediction, reference, mask).absolute


def bias(prediction: Image, reference: Image, mask: Image | None = None) -> float:
    """Mean of prediction - reference inside `mask`: above 0 where the prediction is too bright."""
    return differences(prediction, reference, mask).signed


def psnr(
    prediction: Image,
    reference: Image,
    data_range: float,
    mask: Image | None = None,
    limits: tuple[float, float] | None = None,
) -> float:
    """Peak signal to noise ratio in dB inside `mask`: 20 log10(data_range / RMSE); infinite for equal images.

    Args:
        prediction: image in stored units.
        reference: the truth, same shape.
        data_range: highest minus lowest value that the images can take, in stored units; state it with the result.
        mask: None takes all voxels.
        limits: what both images are cut off at first; None leaves them.
    """
    return decibels(differences(prediction, reference, mask, limits).squared, data_range)


def decibels(squared: float, data_range: float) -> float:
    """PSNR of a mean squared difference, see `psnr`."""
    _check_range(data_range)
    return math.inf if squared == 0 else 20 * math.log10(data_range / math.sqrt(squared))


def ssim(
    prediction: Image,
    reference: Image,
    data_range: float,
    mask: Image | None = None,
    window: Window = "uniform",
) -> float:
    """Structural similarity, at most 1: the mean inside `mask` of the map of local similarity.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, Equation 13, with
    K1 = 0.01 and K2 = 0.03, on windows in all dimensions: "uniform" is 7 voxels wide, "gaussian" has a sigma of 1.5
    voxels. Along an axis that is shorter than 7 the uniform window takes the longest odd length that fits. Without a
    mask only voxels whose uniform window lies within the image count; with a mask every voxel in it does, and windows
    reach beyond the mask (and mirror the image at its border), so that the rim is judged against its surroundings.
    """
    _check_range(data_range)
    differences(prediction, reference, mask)
    a, b, where = _comparable(prediction, reference, mask)
    if where is not None:  # what is not finite outside the mask must not leak through the windows
        a, b = (np.where(np.isfinite(image), image, 0) for image in (a, b))
    side = [min(SIDE, n - 1 + n % 2) for n in a.shape]
    if window == "gaussian":
        return _gaussian_ssim(a, b, data_range, where, side)
    if where is None:
        return mean_similarity(a, b, data_range, side=side)
    rim = [(n // 2, n // 2) for n in side]
    a, b = np.pad(a, rim, mode="symmetric"), np.pad(b, rim, mode="symmetric")
    return mean_similarity(a, b, data_range, np.pad(where, rim), side)


def _gaussian_ssim(
    a: NDArray[Any], b: NDArray[Any], data_range: float, where: NDArray[np.bool_] | None, side: list[int]
) -> float:
    def local_mean(x: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(x, _SIGMA, truncate=3.5))

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = local_mean(a), local_mean(b)
    var = local_mean(a * a + b * b) - mean_a * mean_a - mean_b * mean_b
    found = similarity(mean_a, mean_b, var, local_mean(a * b) - mean_a * mean_b, data_range)
    if where is not None:
        return float(found[where].mean())
    return float(found[tuple(slice(n // 2, length - n // 2) for n, length in zip(side, a.shape, strict=True))].mean())


def _comparable(
    prediction: Image, reference: Image, mask: Image | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]:
    a, b = _array(prediction), _array(reference)
    if a.shape != b.shape:
        raise ValueError(f"prediction {a.shape} and reference {b.shape} differ in shape; resample one onto the other")
    where = None if mask is None else _array(mask) > 0
    if where is not None and where.shape != a.shape:
        raise ValueError(f"mask {where.shape} and image {a.shape} differ in shape; resample the mask")
    return a, b, where


def _array(image: Image) -> NDArray[Any]:
    return image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range {data_range:g} is not above 0; give highest minus lowest value")
