"""Cubic enlargement and reduction, in 2D and 3D from one source: one small matrix per axis."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_A = -0.5  # Keys's choice: exact for second-degree polynomials


def resize(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """`image` ``(B, C, *S)`` with spatial size `size`, by cubic convolution along each axis; float32.

    Where an axis shrinks, the kernel is widened by the same factor, so that what the smaller grid cannot hold is
    averaged away, not folded back (antialiasing). At the border the kernel is cut off and its weights made to sum to 1.
    Cubic interpolation overshoots at edges: values may leave the range of the image.

    Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, Equation 15, with a = -1/2. In 2D it is
    ``interpolate(mode="bicubic", antialias=True)``, which torch has for images only.
    """
    result = image.float()
    with torch.autocast(image.device.type, enabled=False):
        for axis, (old, new) in enumerate(zip(image.shape[2:], size, strict=True), start=2):
            if old != new:
                matrix = _matrix(old, new).to(image.device)
                result = torch.movedim(torch.movedim(result, axis, -1) @ matrix.T, -1, axis)
    return result


@cache
def _matrix(old: int, new: int) -> Tensor:
    """Weights ``(new, old)``: row i holds the kernel around voxel i of the new grid, each summing to 1."""
    scale = old / new
    width = max(scale, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    distance = (torch.arange(old, dtype=torch.float64) + 0.5 - centres[:, None]).abs() / width
    near = (_A + 2) * distance**3 - (_A + 3) * distance**2 + 1
    far = _A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def enlarged(image: Tensor, scale: int) -> Tensor:
    """`image` ``(B, C, *S)`` with every side `scale` times as long."""
    return resize(image, tuple(length * scale for length in image.shape[2:]))


def reduced(image: Tensor, scale: int) -> Tensor:
    """`image` ``(B, C, *S)``, its sides multiples of `scale`, with every side `scale` times as short."""
    assert not any(length % scale for length in image.shape[2:]), f"{tuple(image.shape[2:])} by {scale}"
    return resize(image, tuple(length // scale for length in image.shape[2:]))
