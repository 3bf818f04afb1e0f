"""Recipes: one paper, one file."""

from collections.abc import Callable

from medgan.recipes.cyclegan import CycleGAN
from medgan.recipes.pix2pix import Pix2Pix
from medgan.recipes.recipe import Batch, Direction, Losses, Pairing, Recipe, Sampler
from medgan.recipes.seg_cyclegan import SegCycleGAN

RECIPES: dict[str, Callable[..., Recipe]] = {"cyclegan": CycleGAN, "seg_cyclegan": SegCycleGAN, "pix2pix": Pix2Pix}

__all__ = [
    "RECIPES",
    "Batch",
    "CycleGAN",
    "Direction",
    "Losses",
    "Pairing",
    "Pix2Pix",
    "Recipe",
    "Sampler",
    "SegCycleGAN",
]
