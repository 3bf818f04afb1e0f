"""Segmentation-consistent CycleGAN.

Zhang, Yang and Zheng, "Translating and Segmenting Multimodal Medical Volumes with Cycle- and Shape-Consistency
Generative Adversarial Network", CVPR 2018, arXiv 1802.09655.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from medgan.config import Component
from medgan.losses import (
    OBJECTIVES,
    UNLABELLED,
    ObjectiveName,
    gradient_difference,
    mind_difference,
    soft_dice_cross_entropy,
)
from medgan.networks import SpatialDims
from medgan.recipes.parts import (
    Discriminator,
    Generator,
    ImagePool,
    Segmentor,
    adam,
    averaged,
    discriminator,
    frozen,
    generator,
    gradients_times,
    intensity_distance,
    judged,
    ramp,
    segmentor,
)
from medgan.recipes.recipe import Batch, Direction, DomainKey, Losses, Pairing, Recipe


class SegCycleGAN(Recipe):
    """Two generators, two discriminators and two segmentors, trained jointly.

    What S reads off a translation must be the label of the image that was translated: the label says where the
    anatomy is, which neither discriminator nor cycle can. Departures from the paper: Dice with cross-entropy instead of
    cross-entropy alone, a warm-up of the segmentors and a ramp of the term, averaged networks after training,
    background that passes the generators unchanged.
    """

    pairing: ClassVar[Pairing] = "unpaired"
    at_once: ClassVar[bool] = True
    first_order: ClassVar[bool] = True

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Field(ge=2, description="label values 0 to num_classes - 1, background included")],
        spatial_dims: Annotated[SpatialDims, Field(description="2 for slices, 3 for volumes")] = 3,
        channels_A: Annotated[int, Field(gt=0, description="image channels of domain A")] = 1,
        channels_B: Annotated[int, Field(gt=0, description="image channels of domain B")] = 1,
        generator_net: Annotated[Generator, Field(description="both generators")] = Component(name="unet"),
        discriminator_net: Annotated[Discriminator, Field(description="both discriminators")] = Component(
            name="patchgan"
        ),
        segmentor_net: Annotated[Segmentor, Field(description="both segmentors")] = Component(name="segresnet"),
        objective: Annotated[ObjectiveName, Field(description="the game; the paper's base plays lsgan")] = "lsgan",
        lambda_adv: Annotated[float, Field(ge=0, description="weight of the adversarial terms of G")] = 1.0,
        lambda_cycle: Annotated[
            float, Field(ge=0, description="weight of the cycle terms, mean absolute error in [-1, 1]")
        ] = 10.0,
        lambda_identity: Annotated[
            float, Field(ge=0, description="weight of G_AB(B) = B and G_BA(A) = A; 0: off")
        ] = 0.0,
        lambda_gradient: Annotated[
            float, Field(ge=0, description="weight of equal edge strength of source and translation; 0: off")
        ] = 0.0,
        lambda_mind: Annotated[
            float, Field(ge=0, description="weight of edges in the same places, by MIND (Yang 2018); 0: off")
        ] = 0.0,
        beta_seg: Annotated[float, Field(ge=0, description="weight of the segmentation terms of G")] = 1.0,
        seg_warmup: Annotated[
            float, Field(ge=0, le=1, description="share of the training in which only S learns, on real images")
        ] = 0.1,
        seg_start: Annotated[
            float, Field(ge=0, le=1, description="share of the training before G sees the segmentation term")
        ] = 0.1,
        seg_ramp: Annotated[
            float, Field(ge=0, le=1, description="share of the training in which its weight grows to beta_seg")
        ] = 0.1,
        seg_fakes_start: Annotated[
            float,
            Field(ge=0, le=1, description="share of the training before S also learns from translations; 1: never"),
        ] = 0.5,
        seg_fakes_weight: Annotated[
            float, Field(ge=0, description="weight of translations beside real images in what S learns")
        ] = 0.5,
        pool_size: Annotated[int, Field(ge=0, description="earlier fakes kept for each discriminator, images")] = 50,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, generators")] = 2e-4,
        lr_discriminator: Annotated[
            float, Field(gt=0, description="Adam's initial learning rate, discriminators")
        ] = 2e-4,
        lr_segmentor: Annotated[float, Field(gt=0, description="Adam's initial learning rate, segmentors")] = 1e-3,
        beta1: Annotated[
            float, Field(ge=0, lt=1, description="Adam's first decay, generators and discriminators")
        ] = 0.5,
        ema_decay: Annotated[
            float, Field(ge=0, lt=1, description="of the averaged generators and segmentors, per step")
        ] = 0.995,
    ) -> None:
        super().__init__()
        self.G_AB = generator(generator_net, spatial_dims, channels_A, channels_B)
        self.G_BA = generator(generator_net, spatial_dims, channels_B, channels_A)
        self.D_A = discriminator(discriminator_net, spatial_dims, channels_A)
        self.D_B = discriminator(discriminator_net, spatial_dims, channels_B)
        self.S_A = segmentor(segmentor_net, spatial_dims, channels_A, num_classes)
        self.S_B = segmentor(segmentor_net, spatial_dims, channels_B, num_classes)
        self.ema_AB, self.ema_BA = averaged(self.G_AB, ema_decay), averaged(self.G_BA, ema_decay)
        self.ema_S_A, self.ema_S_B = averaged(self.S_A, ema_decay), averaged(self.S_B, ema_decay)
        self.pool_A, self.pool_B = ImagePool(pool_size), ImagePool(pool_size)
        self.game = OBJECTIVES[objective]
        self.lambda_adv, self.lambda_cycle = lambda_adv, lambda_cycle
        self.lambda_identity, self.lambda_gradient = lambda_identity, lambda_gradient
        self.lambda_mind = lambda_mind
        self.beta_seg, self.seg_start, self.seg_ramp = beta_seg, seg_start, seg_ramp
        self.seg_warmup = seg_warmup
        self.seg_fakes_start, self.seg_fakes_weight = seg_fakes_start, seg_fakes_weight
        self.optimizers = {
            "G": adam([self.G_AB, self.G_BA], lr, beta1),
            "D": adam([self.D_A, self.D_B], lr_discriminator, beta1),
            "S": adam([self.S_A, self.S_B], lr_segmentor, 0.9),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Equation 5: the generators against frozen D and S, then D, then S on real and translated images.

        No player has moved when S looks at translations, so that where both learn from what S reads off them, it is
        read once: one backward pass gives the generators' gradients and those of S.
        """
        real_A, real_B = batch["A"], batch["B"]
        label_A, label_B = (batch.get(f"label_{key}", _unlabelled(batch[key])) for key in "AB")
        self.forget_gradients("S")
        if progress < self.seg_warmup:
            return self._update_segmentors([(real_A, label_A)], [(real_B, label_B)])
        beta = self.beta_seg * ramp(progress, self.seg_start, self.seg_ramp)
        fakes = progress >= self.seg_fakes_start and self.seg_fakes_weight > 0
        shared = fakes and beta > 0
        with (
            frozen(self.D_A, self.D_B, *(() if shared else (self.S_A, self.S_B))),
            gradients_times(self.seg_fakes_weight / beta if shared else 1.0, self.S_A, self.S_B),
        ):
            fake_B, fake_A = self.G_AB(real_A), self.G_BA(real_B)
            losses_G = {
                "G/adv_B": self.lambda_adv * self.game.generator(self.D_B(fake_B)),
                "G/adv_A": self.lambda_adv * self.game.generator(self.D_A(fake_A)),
                "G/cycle_A": self.lambda_cycle * l1_loss(self.G_BA(fake_B), real_A),  # Equation 2
                "G/cycle_B": self.lambda_cycle * l1_loss(self.G_AB(fake_A), real_B),
            }
            if beta:
                losses_G["G/seg_A"] = beta * soft_dice_cross_entropy(self.S_B(fake_B), label_A)  # Equation 4
                losses_G["G/seg_B"] = beta * soft_dice_cross_entropy(self.S_A(fake_A), label_B)
            if self.lambda_identity:
                losses_G["G/idt_A"] = self.lambda_identity * l1_loss(self.G_BA(real_A), real_A)
                losses_G["G/idt_B"] = self.lambda_identity * l1_loss(self.G_AB(real_B), real_B)
            if self.lambda_gradient:
                losses_G["G/gradient_A"] = self.lambda_gradient * gradient_difference(fake_B, real_A)
                losses_G["G/gradient_B"] = self.lambda_gradient * gradient_difference(fake_A, real_B)
            if self.lambda_mind:
                losses_G["G/mind_A"] = self.lambda_mind * mind_difference(fake_B, real_A)
                losses_G["G/mind_B"] = self.lambda_mind * mind_difference(fake_A, real_B)
            self.update("G", losses_G)
        fake_A, fake_B = fake_A.detach(), fake_B.detach()
        losses_D = {
            "D/A": self.game.discriminator(*judged(self.D_A, real_A, self.pool_A(fake_A))),
            "D/B": self.game.discriminator(*judged(self.D_B, real_B, self.pool_B(fake_B))),
        }
        self.update("D", losses_D)
        looks = fakes and not shared
        losses_S = self._update_segmentors(
            [(real_A, label_A), (fake_A, label_B)] if looks else [(real_A, label_A)],
            [(real_B, label_B), (fake_B, label_A)] if looks else [(real_B, label_B)],
        )
        if shared:
            for name, term in (("S/fake_A", "G/seg_B"), ("S/fake_B", "G/seg_A")):
                losses_S[name] = losses_G[term].detach() * (self.seg_fakes_weight / beta)
        self.follow(self.ema_AB, self.G_AB)
        self.follow(self.ema_BA, self.G_BA)
        return losses_G | losses_D | losses_S

    def _update_segmentors(self, looks_A: list[tuple[Tensor, Tensor]], looks_B: list[tuple[Tensor, Tensor]]) -> Losses:
        """Each segmentor learns from real images, the first of its looks, and from translations, the second.

        What it has learnt from translations together with the generators is added.
        """
        losses: Losses = {}
        for key, network, looks in (("A", self.S_A, looks_A), ("B", self.S_B, looks_B)):
            for kind, weight, (image, label) in zip(
                ("real", "fake"), (1.0, self.seg_fakes_weight), looks, strict=False
            ):
                losses[f"S/{kind}_{key}"] = weight * soft_dice_cross_entropy(network(image), label)
        self.update("S", losses, add=True)
        self.follow(self.ema_S_A, self.S_A)
        self.follow(self.ema_S_B, self.S_B)
        return losses

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The score asks that S reads the source's label off the translation, and for the target's intensities."""
        real_A, real_B = batch["A"], batch["B"]
        fake_B, fake_A = self.ema_AB(real_A), self.ema_BA(real_B)
        measures = {
            "cycle": l1_loss(self.ema_BA(fake_B), real_A) + l1_loss(self.ema_AB(fake_A), real_B),
            "intensity_distance": intensity_distance(fake_B, real_A, real_B)
            + intensity_distance(fake_A, real_B, real_A),
        }
        if "label_A" in batch:
            measures["seg_A"] = soft_dice_cross_entropy(self.ema_S_B(fake_B), batch["label_A"])
            measures["seg_S_A"] = soft_dice_cross_entropy(self.ema_S_A(real_A), batch["label_A"])
        if "label_B" in batch:
            measures["seg_B"] = soft_dice_cross_entropy(self.ema_S_A(fake_A), batch["label_B"])
            measures["seg_S_B"] = soft_dice_cross_entropy(self.ema_S_B(real_B), batch["label_B"])
        terms = ("cycle", "intensity_distance", "seg_A", "seg_B")
        return measures | {"score": -torch.stack([measures[term] for term in terms if term in measures]).sum()}

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """There and back, both ways, and what S reads off each translation (spread over [-1, 1])."""
        real_A, real_B = batch["A"], batch["B"]
        fake_B, fake_A = self.ema_AB(real_A), self.ema_BA(real_B)
        return {
            "real_A": real_A, "fake_B": fake_B, "rec_A": self.ema_BA(fake_B),
            "S_B(fake_B)": _as_image(self.ema_S_B(fake_B)),
            "real_B": real_B, "fake_A": fake_A, "rec_B": self.ema_AB(fake_A),
            "S_A(fake_A)": _as_image(self.ema_S_A(fake_A)),
        }  # fmt: skip

    def translator(self, direction: Direction) -> nn.Module:
        """The averaged generator."""
        return self.ema_AB if direction == "AB" else self.ema_BA

    def segmentor(self, domain: DomainKey) -> nn.Module:
        """The averaged segmentor of a domain."""
        return self.ema_S_A if domain == "A" else self.ema_S_B


def _unlabelled(image: Tensor) -> Tensor:
    return torch.full_like(image[:, :1], UNLABELLED, dtype=torch.long)


def _as_image(logits: Tensor) -> Tensor:
    return logits.argmax(dim=1, keepdim=True) / (logits.shape[1] - 1) * 2.0 - 1.0
