"""What a translation has to keep: the way back, the labels, the edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

UNLABELLED = -1


def soft_dice_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Soft Dice plus cross-entropy of class logits ``(B, K, *S)`` against labels ``(B, 1, *S)``, a scalar.

    Voxels labelled -1 are unlabelled and do not count. Dice is taken per class over the batch and averaged over the
    classes that stand in the labels, so that an absent class neither rewards nor punishes. 0 where nothing is labelled.

    Milletari et al., "V-Net", 2016 (squared denominators); the sum with cross-entropy as in Isensee et al.,
    "nnU-Net", 2021.
    """
    known = label != UNLABELLED
    target = torch.where(known, label, 0).squeeze(1).long()
    one_hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype) * known
    probability = logits.softmax(dim=1) * known
    axes = (0, *range(2, logits.ndim))
    present = one_hot.sum(axes) > 0
    overlap = 2 * (probability * one_hot).sum(axes)
    dice = (overlap + 1e-5) / (probability.square().sum(axes) + one_hot.sum(axes) + 1e-5)
    soft_dice = ((1 - dice) * present).sum() / present.sum().clamp(min=1)
    entropy = F.cross_entropy(logits, target, reduction="none")[:, None]
    return soft_dice + (entropy * known).sum() / known.sum().clamp(min=1)


def gradient_difference(first: Tensor, second: Tensor) -> Tensor:
    """How far the edges of two images ``(B, C, *S)`` of the same size are from each other, a scalar.

    The mean of ``| |d first| - |d second| |`` over voxels and axes: edge strengths, whichever way the contrast goes.
    Mathieu et al., "Deep multi-scale video prediction beyond mean square error", 2016, Equation 6, with exponent 1.
    """
    gaps = [(first.diff(dim=axis).abs() - second.diff(dim=axis).abs()).abs().mean() for axis in range(2, first.ndim)]
    return torch.stack(gaps).mean()
