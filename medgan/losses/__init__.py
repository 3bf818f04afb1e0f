"""Losses: pure functions of tensors."""

from medgan.losses.adversarial import OBJECTIVES, Objective, ObjectiveName
from medgan.losses.consistency import UNLABELLED, gradient_difference, soft_dice_cross_entropy

__all__ = ["OBJECTIVES", "UNLABELLED", "Objective", "ObjectiveName", "gradient_difference", "soft_dice_cross_entropy"]
