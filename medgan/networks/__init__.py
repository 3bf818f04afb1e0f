"""Networks: torch and MONAI only. The first argument is the number of spatial dimensions, 2 or 3."""

from collections.abc import Callable

from torch import nn

from medgan.networks.blocks import SpatialDims
from medgan.networks.patchgan import PatchGAN
from medgan.networks.resnet import ResNetGenerator
from medgan.networks.segmentor import SegResNetSegmentor, UNetSegmentor
from medgan.networks.unet import UNetGenerator

GENERATORS: dict[str, Callable[..., nn.Module]] = {"unet": UNetGenerator, "resnet": ResNetGenerator}
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {"patchgan": PatchGAN}
SEGMENTORS: dict[str, Callable[..., nn.Module]] = {"segresnet": SegResNetSegmentor, "unet": UNetSegmentor}

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "SEGMENTORS",
    "PatchGAN",
    "ResNetGenerator",
    "SegResNetSegmentor",
    "SpatialDims",
    "UNetGenerator",
    "UNetSegmentor",
]
