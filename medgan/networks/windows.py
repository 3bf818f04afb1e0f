"""A network over a whole volume: in one piece where that fits, else in blended windows."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

Size = tuple[int, int, int]

_WINDOW_NORMS = (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def evaluate(
    network: nn.Module,
    image: Tensor,
    *,
    window: Size,
    overlap: float,
    batch_size: int,
    device: torch.device,
    bf16: bool,
    background: float = -1.0,
) -> Tensor:
    """What `network` makes of `image` (1, C, X, Y, Z): (1, K, X, Y, Z) float32 in main memory.

    A window at least as large as the image sees it in one piece. Smaller ones are blended in float32, weighted towards
    their centres. A larger window is filled up with `background` on all sides.

    Args:
        network: (B, C, *window) to (B, K, *window).
        image: float32, in main memory.
        window: voxels.
        overlap: of neighbouring windows, share of a window.
        batch_size: windows at a time.
        device: where the network is.
        bf16: whether the network runs under autocast to bfloat16.
        background: what lies outside the image.
    """
    from monai.inferers.utils import sliding_window_inference

    def predict(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return cast(Tensor, network(windows)).float()

    in_one_piece = all(length >= n for length, n in zip(window, image.shape[2:], strict=True))
    result = sliding_window_inference(
        image,
        window,
        batch_size,
        predict,
        overlap=overlap,
        mode="constant" if in_one_piece else "gaussian",
        padding_mode="constant",
        cval=background,
        sw_device=device,
        device="cpu",
    )
    assert isinstance(result, Tensor)
    return result


def sees_window(network: nn.Module) -> bool:
    """Whether a network's norms look at all of a window (instance and group norm), so that its size matters."""
    return any(isinstance(part, _WINDOW_NORMS) for part in network.modules())


def largest_window(shape: Size, least: Size, max_voxels: int) -> Size:
    """The window for an image of this shape: of at most `max_voxels` but never less than `least` along any axis.

    All of the image where that fits; else the sides are as equal as can be, and multiples of 16.
    """
    whole = _box(shape, least, max(shape))
    if math.prod(whole) <= max_voxels:
        return whole
    sides = (_box(shape, least, side) for side in range(16, max(shape), 16))
    return max((box for box in sides if math.prod(box) <= max_voxels), key=math.prod, default=least)


def _box(shape: Size, least: Size, side: int) -> Size:
    x, y, z = (max(smallest, min(n, side)) for n, smallest in zip(shape, least, strict=True))
    return x, y, z
