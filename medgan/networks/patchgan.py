"""The discriminator that judges patches."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.networks.blocks import NORMS, Norm, SpatialDims, conv, first_conv, initialize, layout


class PatchGAN(nn.Module):
    """A map of logits, each judging one patch: ``(B, C, *S)`` to ``(B, 1, *S')``, S' about ``S / 2**layers``.

    Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, section 3.2.2.
    No sigmoid: the objective decides what a logit means.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        *,
        channels: Annotated[int, Field(gt=0, description="of the first layer; doubled in each")] = 32,
        layers: Annotated[
            int, Field(ge=1, le=5, description="strided layers; with 3 a logit sees 70 voxels, with 2 it sees 34")
        ] = 3,
        norm: Annotated[Norm, Field(description="channel, instance (the paper's) or none")] = "instance",
        spectral: Annotated[bool, Field(description="spectral normalisation of every weight (Miyato 2018)")] = False,
        places: Annotated[
            bool,
            Field(description="the first layer sees where each pixel lies, too; for whole slices, whose places tell"),
        ] = False,
    ) -> None:
        super().__init__()
        widths = [channels * min(2**layer, 8) for layer in range(layers + 1)]
        first = first_conv(spatial_dims, in_channels, widths[0], 4, stride=2, places=places)
        body: list[nn.Module] = [first, nn.LeakyReLU(0.2)]
        for layer in range(1, layers + 1):
            stride = 2 if layer < layers else 1
            body += [
                conv(spatial_dims, widths[layer - 1], widths[layer], 4, stride=stride),
                NORMS[norm](widths[layer]),
                nn.LeakyReLU(0.2),
            ]
        body.append(conv(spatial_dims, widths[-1], 1, 4))
        self.body = nn.Sequential(*body)
        layout(spatial_dims, initialize(self))
        if spectral:
            for module in list(self.body):
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    spectral_norm(module)

    def forward(self, image: Tensor) -> Tensor:
        return cast(Tensor, self.body(image)).float()
