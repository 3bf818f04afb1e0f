"""Differentiable augmentation of what a critic sees, in 2D and 3D.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020: reals and fakes are augmented alike,
in both players' steps, so that D cannot learn few reals by heart and G does not learn the augmentation. Functions of
images ``(B, C, *S)`` to images of the same shape; each image has its own draw, from torch's generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Augmentation = Literal["brightness", "translation", "cutout"]


def brightness(images: Tensor, most: float = 0.5) -> Tensor:
    """Each image brighter or darker by at most `most`."""
    return images + (_rand(images, 1) * 2 - 1) * most


def translation(images: Tensor, share: float = 0.125) -> Tensor:
    """Each image moved by whole voxels, at most this share of each side; -1, background, comes in from outside."""
    for axis, size in enumerate(images.shape[2:], start=2):
        most = int(size * share + 0.5)
        shift = torch.randint(-most, most + 1, (len(images),), device=images.device)
        source = torch.arange(size, device=images.device) - shift[:, None]
        shape = [1] * images.ndim
        shape[0], shape[axis] = len(images), size
        inside = ((source >= 0) & (source < size)).view(shape)
        moved = images.gather(axis, source.clamp(0, size - 1).view(shape).expand_as(images))
        images = torch.where(inside, moved, -1.0)
    return images


def cutout(images: Tensor, share: float = 0.5) -> Tensor:
    """Each image with a box of grey, 0, of this share of each side, anywhere, also across the border."""
    box = torch.ones_like(images, dtype=torch.bool)
    for axis, size in enumerate(images.shape[2:], start=2):
        half = size * share / 2
        centre = _rand(images, 1) * size
        shape = [1] * images.ndim
        shape[axis] = size
        place = torch.arange(size, device=images.device).view(shape) + 0.5
        box = box & ((place - centre).abs() < half)
    return torch.where(box, 0.0, images)


AUGMENTATIONS: dict[Augmentation, Callable[[Tensor], Tensor]] = {
    "brightness": brightness,
    "translation": translation,
    "cutout": cutout,
}


def augmented(images: Tensor, names: Sequence[Augmentation]) -> Tensor:
    """The images after these augmentations, in this order."""
    for name in names:
        images = AUGMENTATIONS[name](images)
    return images


def _rand(images: Tensor, channels: int) -> Tensor:
    return torch.rand(len(images), channels, *(1,) * (images.ndim - 2), device=images.device)
