"""Augmentation that adapts to how far D overfits.

Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020. All that D sees is augmented, reals
and fakes alike, each transform with probability p; p rises while D is surer of reals than it should be. As long as p
stays below 1, images as they are remain the likeliest, and G learns those.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TRANSLATION = 0.125  # of a side
_SCALE, _BRIGHTNESS, _CONTRAST = 0.2, 0.2, 0.5  # standard deviations; of scale and contrast in powers of 2


class AdaptiveAugmentation(nn.Module):
    """Images ``(B, C, *S)`` as D is to see them, in 2D and 3D; p and what it is adjusted by are buffers.

    Attributes:
        p: probability of each transform, in [0, 1].
        certainty: mean sign of D's logits on reals since the last adjustment, r_t in the paper's Equation 1.
    """

    p: Tensor
    certainty: Tensor

    def __init__(self, target: float, ramp_images: int, interval: int = 4) -> None:
        """
        Args:
            target: the certainty that p is adjusted to; 0 switches augmentation off.
            ramp_images: reals that D sees while p could rise from 0 to 1.
            interval: steps between adjustments.
        """
        super().__init__()
        self.target, self.ramp_images, self.interval = target, ramp_images, interval
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("certainty", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        p = float(self.p)
        return augment(images, p) if p > 0 else images

    @torch.no_grad()
    def see(self, real_logits: Tensor) -> None:
        """Take note of D's logits on a batch of reals."""
        self.certainty += real_logits.sign().mean() / self.interval

    @torch.no_grad()
    def adjust(self, images: int) -> None:
        """After `interval` batches, of so many reals in all: p a step up or down."""
        if self.target:
            self.p += (self.certainty - self.target).sign() * images / self.ramp_images
            self.p.clamp_(0.0, 1.0)
        self.certainty.zero_()


def augment(images: Tensor, p: float) -> Tensor:
    """`images` ``(B, C, *S)`` in float32, each transform at probability `p` for each image apart.

    Left-right flip (of the last axis), whole-voxel shift, one scale for all axes, rotation in the plane of the first
    two axes, shift by fractions, then brightness and contrast. Of the paper's set, colours, unequal scales, filters and
    noise are left out; beyond the border the image is mirrored.
    """
    images = images.float()
    geometry = _geometry(images, p)
    grid = F.affine_grid(geometry, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    brightness = _chosen(p, _normal(images)) * _BRIGHTNESS
    contrast = 2.0 ** (_chosen(p, _normal(images)) * _CONTRAST)
    shape = (len(images), *[1] * (images.ndim - 1))
    return (moved + brightness.view(shape)) * contrast.view(shape)


def _geometry(images: Tensor, p: float) -> Tensor:
    """For each image the map ``(B, d, d + 1)`` from output to input, in grid coordinates (last axis first)."""
    sides = torch.tensor(images.shape[:1:-1], dtype=torch.float32, device=images.device)
    dims, count = len(sides), len(images)
    flip = 1.0 - 2.0 * _chosen(p, torch.randint(2, (count,), device=images.device).float())
    scale = 2.0 ** (_chosen(p, _normal(images)) * _SCALE)
    angle = _chosen(p, (_uniform(images) * 2 - 1) * math.pi)
    matrix = torch.eye(dims, device=images.device).repeat(count, 1, 1) / scale[:, None, None]
    matrix[:, 0] *= flip[:, None]
    turn = torch.eye(dims, device=images.device).repeat(count, 1, 1)
    one, two = dims - 1, dims - 2  # the first two axes, in grid order
    turn[:, one, one], turn[:, two, two] = angle.cos(), angle.cos()
    turn[:, one, two], turn[:, two, one] = angle.sin(), -angle.sin()
    matrix = matrix @ (turn * sides[:, None].reciprocal() * sides)  # turned in voxels, not in shares of the sides
    whole = torch.stack([_chosen(p, (_uniform(images) * 2 - 1) * _TRANSLATION) for _ in range(dims)], dim=1)
    part = torch.stack([_chosen(p, _normal(images) * _TRANSLATION) for _ in range(dims)], dim=1)
    shift = (whole * sides).round() / sides + part
    return torch.cat([matrix, 2.0 * shift[:, :, None]], dim=2)


def _chosen(p: float, values: Tensor) -> Tensor:
    """Each value at probability p, otherwise 0."""
    return torch.where(torch.rand_like(values) < p, values, 0.0)


def _normal(images: Tensor) -> Tensor:
    return torch.randn(len(images), device=images.device)


def _uniform(images: Tensor) -> Tensor:
    return torch.rand(len(images), device=images.device)
