"""How far a translated image is from the truth: MAE, bias, PSNR and SSIM, inside a mask.

Images are numpy arrays or torch tensors of one shape, 2D or 3D, in stored units (HU for CT); so are the results.
A mask is a boolean array of that shape; without one the whole image counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from torch import Tensor

Image: TypeAlias = "NDArray[Any] | Tensor"
Window = Literal["uniform", "gaussian"]

_SIDE = 7  # voxels of the uniform window
_SIGMA = 1.5  # voxels of the Gaussian window, cut off at 3.5 sigma: 11 voxels wide


def mae(prediction: Image, reference: Image, mask: Image | None = None) -> float:
    """Mean of |prediction - reference| inside `mask`.

    Raises:
        ValueError: shapes differ, the mask is empty, or a voxel inside it is not finite (all metrics here alike).
    """
    a, b = _inside(prediction, reference, mask)
    return float(np.abs(a - b).mean())


def bias(prediction: Image, reference: Image, mask: Image | None = None) -> float:
    """Mean of prediction - reference inside `mask`: above 0 where the prediction is too bright."""
    a, b = _inside(prediction, reference, mask)
    return float((a - b).mean())


def psnr(prediction: Image, reference: Image, data_range: float, mask: Image | None = None) -> float:
    """Peak signal to noise ratio in dB inside `mask`: 20 log10(data_range / RMSE); infinite for equal images.

    Args:
        data_range: highest minus lowest value that the images can take, in stored units; state it with the result.
    """
    _check_range(data_range)
    a, b = _inside(prediction, reference, mask)
    rmse = math.sqrt(float(np.square(a - b).mean()))
    return math.inf if rmse == 0 else 20 * math.log10(data_range / rmse)


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
    _inside(prediction, reference, mask)
    a, b = _array(prediction), _array(reference)
    if mask is not None:  # what is not finite outside the mask must not leak through the windows
        a, b = (np.where(np.isfinite(image), image, 0.0) for image in (a, b))
    side = [min(_SIDE, n - 1 + n % 2) for n in a.shape]
    samples = math.prod(side)

    def local_mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        if window == "uniform":
            return np.asarray(ndimage.uniform_filter(x, side))
        return np.asarray(ndimage.gaussian_filter(x, _SIGMA, truncate=3.5))

    # covariances of a sample: divided by samples - 1
    unbiased = samples / (samples - 1) if window == "uniform" and samples > 1 else 1.0
    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = unbiased * (local_mean(a * a) - mean_a * mean_a)
    var_b = unbiased * (local_mean(b * b) - mean_b * mean_b)
    cov = unbiased * (local_mean(a * b) - mean_a * mean_b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    )
    if mask is not None:
        return float(similarity[_array(mask) > 0].mean())
    return float(
        similarity[tuple(slice(n // 2, length - n // 2) for n, length in zip(side, a.shape, strict=True))].mean()
    )


def _array(image: Image) -> NDArray[np.float64]:
    plain = image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    return np.asarray(plain, dtype=np.float64)


def _inside(prediction: Image, reference: Image, mask: Image | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The voxels that count, of both images, once they are known to be comparable."""
    a, b = _array(prediction), _array(reference)
    if a.shape != b.shape:
        raise ValueError(f"prediction {a.shape} and reference {b.shape} differ in shape; resample one onto the other")
    if mask is not None:
        where = _array(mask) > 0
        if where.shape != a.shape:
            raise ValueError(f"mask {where.shape} and image {a.shape} differ in shape; resample the mask")
        a, b = a[where], b[where]
    if not a.size:
        raise ValueError("the mask is empty, so there is nothing to compare")
    for name, values in (("prediction", a), ("reference", b)):
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            raise ValueError(f"{name} holds {bad} voxels that are NaN or infinite where it is scored")
    return a, b


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range {data_range:g} is not above 0; give highest minus lowest value")
