"""Recipes: one paper, one file."""

from collections.abc import Callable

from medgan.recipes.cgan import CGAN
from medgan.recipes.conditional_cyclegan import ConditionalCycleGAN
from medgan.recipes.cut import CUT
from medgan.recipes.cyclegan import CycleGAN
from medgan.recipes.dcgan import DCGAN
from medgan.recipes.density_network import DensityNetwork
from medgan.recipes.dvdgan import DVDGAN
from medgan.recipes.gan import GAN
from medgan.recipes.pix2pix import Pix2Pix
from medgan.recipes.recipe import Batch, Direction, Losses, Pairing, Recipe, Sampler
from medgan.recipes.seg_cyclegan import SegCycleGAN
from medgan.recipes.segmentation import Segmentation
from medgan.recipes.sngan import SNGAN
from medgan.recipes.srgan import SRGAN
from medgan.recipes.stylegan2 import StyleGAN2
from medgan.recipes.wgan import WGAN
from medgan.recipes.wgan_gp import WGANGP

RECIPES: dict[str, Callable[..., Recipe]] = {
    "density_network": DensityNetwork,
    "gan": GAN,
    "cgan": CGAN,
    "dcgan": DCGAN,
    "wgan": WGAN,
    "wgan_gp": WGANGP,
    "sngan": SNGAN,
    "pix2pix": Pix2Pix,
    "cyclegan": CycleGAN,
    "conditional_cyclegan": ConditionalCycleGAN,
    "seg_cyclegan": SegCycleGAN,
    "segmentation": Segmentation,
    "cut": CUT,
    "srgan": SRGAN,
    "stylegan2": StyleGAN2,
    "dvdgan": DVDGAN,
}

__all__ = [
    "CGAN",
    "CUT",
    "DCGAN",
    "DVDGAN",
    "GAN",
    "RECIPES",
    "SNGAN",
    "SRGAN",
    "WGAN",
    "WGANGP",
    "Batch",
    "ConditionalCycleGAN",
    "CycleGAN",
    "DensityNetwork",
    "Direction",
    "Losses",
    "Pairing",
    "Pix2Pix",
    "Recipe",
    "Sampler",
    "SegCycleGAN",
    "Segmentation",
    "StyleGAN2",
]
