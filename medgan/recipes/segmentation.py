"""A segmentor on real images alone: who measures whether a translation shows the target's anatomy.

The S-score of Zhang, Yang and Zheng, "Translating and Segmenting Multimodal Medical Volumes with Cycle- and
Shape-Consistency Generative Adversarial Network", 2018, section 4.3.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from medgan.config import Component
from medgan.losses import UNLABELLED, soft_dice_cross_entropy
from medgan.networks import SpatialDims
from medgan.recipes.parts import Segmentor, adam, averaged, segmentor
from medgan.recipes.recipe import Batch, Direction, DomainKey, Losses, Pairing, Recipe


class Segmentation(Recipe):
    """One segmentor of domain A, learnt from its labelled images: Dice with cross-entropy.

    It never sees a translation, so its Dice on one (`medgan translate RUN --segmentor THIS`) is a judgement from
    outside, unlike that of a segmentor that was trained together with the generators.
    """

    pairing: ClassVar[Pairing] = "single"
    at_once: ClassVar[bool] = True
    first_order: ClassVar[bool] = True

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Field(ge=2, description="label values 0 to num_classes - 1, background included")],
        spatial_dims: Annotated[SpatialDims, Field(description="2 for slices, 3 for volumes")] = 3,
        channels_A: Annotated[int, Field(gt=0, description="image channels")] = 1,
        segmentor_net: Annotated[Segmentor, Field(description="the segmentor")] = Component(name="segresnet"),
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate")] = 1e-3,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.9,
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="of the averaged segmentor, per step")] = 0.995,
    ) -> None:
        super().__init__()
        self.S = segmentor(segmentor_net, spatial_dims, channels_A, num_classes)
        self.ema = averaged(self.S, ema_decay)
        self.optimizers = {"S": adam([self.S], lr, beta1)}

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Nothing to learn from a batch without labels: its loss is 0."""
        losses = {"S/real": soft_dice_cross_entropy(self.S(batch["A"]), _label(batch))}
        self.update("S", losses)
        self.follow(self.ema, self.S)
        return losses

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The score is the loss of the averaged segmentor on held-out patients."""
        error = soft_dice_cross_entropy(self.ema(batch["A"]), _label(batch))
        return {"seg": error, "score": -error}

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Image, what S reads off it, and the label (spread over [-1, 1])."""
        logits = self.ema(batch["A"])
        spread = 2.0 / (logits.shape[1] - 1)
        label = _label(batch).clamp(min=0)
        return {
            "real_A": batch["A"][:, :1],
            "S(real_A)": logits.argmax(dim=1, keepdim=True) * spread - 1.0,
            "label_A": label * spread - 1.0,
        }

    def translator(self, direction: Direction) -> nn.Module | None:
        """None: it reads images and makes none."""
        return None

    def segmentor(self, domain: DomainKey) -> nn.Module | None:
        """The averaged segmentor, of domain A."""
        return self.ema if domain == "A" else None


def _label(batch: Batch) -> Tensor:
    image = batch["A"]
    return batch.get("label_A", torch.full_like(image[:, :1], UNLABELLED, dtype=torch.long))
