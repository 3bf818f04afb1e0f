"""Batches of images as one picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def cuts(images: Tensor, is_upright: bool) -> Tensor:
    """``(B, C, *S)`` in [-1, 1] as ``(B, 1 or 3, H, W)`` to look at.

    Axes of patients' patches are x, y, z: they are turned as radiologists look, the patient's right on the left and
    anterior up, volumes by the middle axial cut. `is_upright` says that axes are a picture's, down and right, already;
    films ``(B, C, T, H, W)`` then lie out frame by frame.
    """
    shown = images.float().cpu()
    shown = shown[:, :3] if shown.shape[1] >= 3 else shown[:, :1]
    if is_upright and shown.ndim == 5:
        return torch.nn.functional.pad(shown, (0, 1), value=-1.0).permute(0, 1, 3, 2, 4).flatten(3)
    if is_upright:
        return shown
    flat = shown[..., shown.shape[-1] // 2] if shown.ndim == 5 else shown
    return flat.transpose(2, 3).flip(2, 3)


def mosaic(images: Tensor, columns: int, scale: int = 3) -> Picture:
    """Images ``(B, 1 or 3, H, W)`` in [-1, 1] row by row with a thin frame each; ``(H, W)`` grey or ``(H, W, 3)``.

    `scale` is the side, in pixels of the picture, of a pixel of an image.
    """
    framed = torch.nn.functional.pad(images, (1, 1, 1, 1), value=-1.0)
    missing = -len(framed) % columns
    framed = torch.cat([framed, framed.new_full((missing, *framed.shape[1:]), -1.0)])
    rows = framed.reshape(-1, columns, *framed.shape[1:]).permute(0, 3, 1, 4, 2)  # row, height, column, width, colour
    pixels = (rows.flatten(2, 3).flatten(0, 1).clamp(-1, 1) + 1) * 127.5
    large: Picture = pixels.round().to(torch.uint8).repeat_interleave(scale, 0).repeat_interleave(scale, 1).numpy()
    return large.squeeze(-1) if large.shape[-1] == 1 else large


def side_by_side(columns: list[Tensor], scale: int = 3) -> Picture:
    """Several batches ``(B, 1 or 3, H_i, W)`` in [-1, 1] of one B and W as the columns of one picture."""
    colours = max(column.shape[1] for column in columns)
    height = max(column.shape[2] for column in columns)
    width = max(column.shape[3] for column in columns)
    padded = [
        torch.nn.functional.pad(
            column.expand(-1, colours, -1, -1), (0, width - column.shape[3], 0, height - column.shape[2]), value=-1.0
        )
        for column in columns
    ]
    return mosaic(torch.stack(padded, dim=1).flatten(0, 1), len(columns), scale)


def columns_for(count: int, width: int) -> int:
    """How many images of this width stand in a row, so that a grid of `count` is about square or a film has its own."""
    return 1 if width > 256 else math.ceil(math.sqrt(count))
