"""Losses: pure functions of tensors."""

from medgan.losses.adversarial import OBJECTIVES, Objective, ObjectiveName, one_sided
from medgan.losses.consistency import UNLABELLED, gradient_difference, mind_difference, soft_dice_cross_entropy
from medgan.losses.contrastive import patch_nce
from medgan.losses.regularizers import gradient_penalty, path_lengths, r1_penalty

__all__ = [
    "OBJECTIVES",
    "UNLABELLED",
    "Objective",
    "ObjectiveName",
    "gradient_difference",
    "gradient_penalty",
    "mind_difference",
    "one_sided",
    "patch_nce",
    "path_lengths",
    "r1_penalty",
    "soft_dice_cross_entropy",
]
