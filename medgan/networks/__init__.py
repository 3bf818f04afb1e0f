"""Networks: torch and MONAI only. The first argument is the number of spatial dimensions, 2 or 3."""

from collections.abc import Callable

from torch import nn

from medgan.networks.blocks import SpatialDims
from medgan.networks.dcgan import DCGANCritic, DCGANSynthesizer
from medgan.networks.mlp import MLPCritic, MLPSynthesizer
from medgan.networks.patchgan import PatchGAN
from medgan.networks.resnet import ResNetGenerator
from medgan.networks.segmentor import SegResNetSegmentor, UNetSegmentor
from medgan.networks.srgan import Scale, SRGANCritic, SRResNet
from medgan.networks.stylegan2 import ResidualCritic, StyleGenerator
from medgan.networks.temporal import FilmGenerator, SpectralCritic
from medgan.networks.unet import UNetGenerator

GENERATORS: dict[str, Callable[..., nn.Module]] = {"unet": UNetGenerator, "resnet": ResNetGenerator}
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {"patchgan": PatchGAN}
ENLARGERS: dict[str, Callable[..., nn.Module]] = {"srresnet": SRResNet}
SEGMENTORS: dict[str, Callable[..., nn.Module]] = {"segresnet": SegResNetSegmentor, "unet": UNetSegmentor}
SYNTHESIZERS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLPSynthesizer,
    "dcgan": DCGANSynthesizer,
    "films": FilmGenerator,
}
CRITICS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLPCritic,
    "dcgan": DCGANCritic,
    "srgan": SRGANCritic,
    "stylegan2": ResidualCritic,
    "spectral": SpectralCritic,
}

__all__ = [
    "CRITICS",
    "DISCRIMINATORS",
    "ENLARGERS",
    "GENERATORS",
    "SEGMENTORS",
    "SYNTHESIZERS",
    "DCGANCritic",
    "DCGANSynthesizer",
    "FilmGenerator",
    "MLPCritic",
    "MLPSynthesizer",
    "PatchGAN",
    "ResNetGenerator",
    "ResidualCritic",
    "SRGANCritic",
    "SRResNet",
    "Scale",
    "SegResNetSegmentor",
    "SpatialDims",
    "SpectralCritic",
    "StyleGenerator",
    "UNetGenerator",
    "UNetSegmentor",
]
