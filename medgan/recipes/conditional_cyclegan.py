"""CycleGAN with classes: one model, several targets. After Lu et al., "Attribute-Guided Face Generation Using
Conditional CycleGAN", 2018, and Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from medgan.config import Component, InputError
from medgan.losses import OBJECTIVES, ObjectiveName
from medgan.networks import SpatialDims
from medgan.networks.background import background_kept
from medgan.recipes.parts import (
    Discriminator,
    Generator,
    ImagePool,
    Warmup,
    adam,
    averaged,
    discriminator,
    frozen,
    generator,
    intensity_distance,
    judged,
    refuse_warmup,
)
from medgan.recipes.recipe import Batch, Direction, Losses, Pairing, Recipe
from medgan.recipes.view import Tones, TonesFrom, toned, tones_weight


def with_class(image: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """An image ``(B, C, *S)`` with one constant channel per class behind it, 1 for its own and 0 for all others.

    Choi et al., "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation", 2018,
    section 3.1.
    """
    one_hot = F.one_hot(classes, num_classes).to(image.dtype)
    maps = one_hot[(..., *[None] * (image.ndim - 2))].expand(-1, -1, *image.shape[2:])
    return torch.cat([image, maps], dim=1)


class ClassGenerator(nn.Module):
    """A generator that is told a class: ``(B, C, *S)`` and ``(B,)`` int64 to ``(B, C', *S)``."""

    def __init__(self, network: nn.Module, num_classes: int, keep_background: bool) -> None:
        super().__init__()
        self.network, self.num_classes, self.keep_background = network, num_classes, keep_background

    def forward(self, image: Tensor, classes: Tensor) -> Tensor:
        fake: Tensor = self.network(with_class(image, classes, self.num_classes))
        return background_kept(image, fake) if self.keep_background else fake


class OneClass(nn.Module):
    """A generator that is told a class, as one that always hears the same: ``(B, C, *S)`` to ``(B, C', *S)``."""

    def __init__(self, network: nn.Module, class_index: int) -> None:
        super().__init__()
        self.network, self.class_index = network, class_index

    def forward(self, image: Tensor) -> Tensor:
        classes = torch.full((len(image),), self.class_index, dtype=torch.int64, device=image.device)
        translated: Tensor = self.network(image, classes)
        return translated


class ConditionalCycleGAN(Recipe):
    """From A to any of several contrasts of B and back, one model for all, no pairs.

    Both generators and the discriminator of B are told the class of B as constant one-hot channels. A translation is
    asked for the class of the B that the batch holds at its place. As Zhu et al. 2017 otherwise, with averaged
    generators after training and background that passes unchanged.
    """

    pairing: ClassVar[Pairing] = "unpaired"
    at_once: ClassVar[bool] = True
    first_order: ClassVar[bool] = True

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Field(ge=2, description="kinds of images in domain B; the data settle it")],
        target_class: Annotated[
            int, Field(ge=0, description="class that translators use unless another is chosen, from 0")
        ] = 0,
        spatial_dims: Annotated[SpatialDims, Field(description="2 for slices, 3 for volumes")] = 3,
        channels_A: Annotated[int, Field(gt=0, description="image channels of domain A")] = 1,
        channels_B: Annotated[int, Field(gt=0, description="image channels of domain B")] = 1,
        generator_net: Annotated[Generator, Field(description="both generators")] = Component(name="unet"),
        discriminator_net: Annotated[Discriminator, Field(description="both discriminators")] = Component(
            name="patchgan"
        ),
        keep_background: Annotated[
            bool, Field(description="-1 in the source is -1 in the translation; false: generators paint everywhere")
        ] = True,
        objective: Annotated[ObjectiveName, Field(description="the game; Zhu et al. play lsgan")] = "lsgan",
        lambda_adv: Annotated[float, Field(ge=0, description="weight of the adversarial terms of G")] = 1.0,
        lambda_cycle: Annotated[
            float, Field(ge=0, description="weight of the cycle terms, mean absolute error in [-1, 1]")
        ] = 10.0,
        lambda_identity: Annotated[
            float, Field(ge=0, description="weight of G_AB(B, own class) = B and G_BA(A, any class) = A; 0: off")
        ] = 0.0,
        warmup: Warmup = 0.0,
        tones: Tones = (),
        tones_from: TonesFrom = 0.3,
        pool_size: Annotated[int, Field(ge=0, description="earlier fakes kept for each discriminator, images")] = 50,
        lr: Annotated[float, Field(gt=0, description="Adam's initial learning rate, generators")] = 2e-4,
        lr_discriminator: Annotated[
            float, Field(gt=0, description="Adam's initial learning rate, discriminators")
        ] = 2e-4,
        beta1: Annotated[float, Field(ge=0, lt=1, description="Adam's first decay")] = 0.5,
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="of the averaged generators, per step")] = 0.995,
    ) -> None:
        super().__init__()
        refuse_warmup(warmup, channels_A, channels_B)
        self.num_classes, self.target_class, self.warmup = num_classes, target_class, warmup
        self._known(target_class)

        def told(channels_in: int, channels_out: int) -> ClassGenerator:
            network = generator(generator_net, spatial_dims, channels_in + num_classes, channels_out, False)
            return ClassGenerator(network, num_classes, keep_background)

        self.G_AB, self.G_BA = told(channels_A, channels_B), told(channels_B, channels_A)
        self.tones, self.tones_from = tones, tones_from
        self.D_A = discriminator(discriminator_net, spatial_dims, channels_A * (1 + 2 * len(tones)))
        self.D_B = discriminator(discriminator_net, spatial_dims, (channels_B + num_classes) * (1 + 2 * len(tones)))
        self.ema_AB, self.ema_BA = averaged(self.G_AB, ema_decay), averaged(self.G_BA, ema_decay)
        self.pool_A, self.pool_B = ImagePool(pool_size), ImagePool(pool_size)
        self.game = OBJECTIVES[objective]
        self.lambda_adv, self.lambda_cycle, self.lambda_identity = lambda_adv, lambda_cycle, lambda_identity
        self.optimizers = {
            "G": adam([self.G_AB, self.G_BA], lr, beta1),
            "D": adam([self.D_A, self.D_B], lr_discriminator, beta1),
        }

    def training_step(self, batch: Batch, progress: float) -> Losses:
        """Equation 3 of Zhu et al. 2017, given the class; a fake goes into its pool with the class it was asked for."""
        real_A, real_B, classes = batch["A"], batch["B"], _classes(batch)
        if progress < self.warmup:
            return self._give_back(real_A, real_B, classes)
        weight = tones_weight(self.tones_from, progress)

        def fine(images: Tensor) -> Tensor:
            return toned(images, self.tones, weight)

        with frozen(self.D_A, self.D_B):
            fake_B, fake_A = self.G_AB(real_A, classes), self.G_BA(real_B, classes)
            seen_B = with_class(fake_B, classes, self.num_classes)
            losses_G = {
                "G/adv_B": self.lambda_adv * self.game.generator(self.D_B(fine(seen_B))),
                "G/adv_A": self.lambda_adv * self.game.generator(self.D_A(fine(fake_A))),
                "G/cycle_A": self.lambda_cycle * l1_loss(self.G_BA(fake_B, classes), real_A),
                "G/cycle_B": self.lambda_cycle * l1_loss(self.G_AB(fake_A, classes), real_B),
            }
            if self.lambda_identity:
                losses_G["G/idt_A"] = self.lambda_identity * l1_loss(self.G_BA(real_A, classes), real_A)
                losses_G["G/idt_B"] = self.lambda_identity * l1_loss(self.G_AB(real_B, classes), real_B)
            self.update("G", losses_G)
        told_B = with_class(real_B, classes, self.num_classes)
        past_A, past_B = self.pool_A(fake_A.detach()), self.pool_B(seen_B.detach())
        losses_D = {
            "D/A": self.game.discriminator(*judged(self.D_A, fine(real_A), fine(past_A))),
            "D/B": self.game.discriminator(*judged(self.D_B, fine(told_B), fine(past_B))),
        }
        self.update("D", losses_D)
        self.follow(self.ema_AB, self.G_AB)
        self.follow(self.ema_BA, self.G_BA)
        return losses_G | losses_D

    def _give_back(self, real_A: Tensor, real_B: Tensor, classes: Tensor) -> Losses:
        """Each generator as the identity, whatever it is told; as `CycleGAN` begins."""
        losses = {
            "G/start_A": l1_loss(self.G_AB(real_A, classes), real_A),
            "G/start_B": l1_loss(self.G_BA(real_B, classes), real_B),
        }
        self.update("G", losses)
        self.follow(self.ema_AB, self.G_AB)
        self.follow(self.ema_BA, self.G_BA)
        return losses

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> Losses:
        """The score asks for each class's own intensities and for the way back."""
        real_A, real_B, classes = batch["A"], batch["B"], _classes(batch)
        fake_B, fake_A = self.ema_AB(real_A, classes), self.ema_BA(real_B, classes)
        cycle = l1_loss(self.ema_BA(fake_B, classes), real_A) + l1_loss(self.ema_AB(fake_A, classes), real_B)
        asked = [classes == kind for kind in range(self.num_classes) if (classes == kind).any()]
        apart = [intensity_distance(fake_B[mine], real_A[mine], real_B[mine]) for mine in asked]
        distance = torch.stack(apart).mean() + intensity_distance(fake_A, real_B, real_A)
        return {"cycle": cycle, "intensity_distance": distance, "score": -cycle - distance}

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """A in every class of B, and B as A."""
        real_A, real_B = batch["A"], batch["B"]
        asked = {f"fake_B {kind}": self.translator_to(kind)(real_A) for kind in range(self.num_classes)}
        return {"real_A": real_A, **asked, "real_B": real_B, "fake_A": self.ema_BA(real_B, _classes(batch))}

    def translator(self, direction: Direction) -> nn.Module:
        """The averaged generator, told ``target_class``."""
        return self.translator_to(self.target_class, direction)

    def translator_to(self, class_index: int, direction: Direction = "AB") -> nn.Module:
        """The averaged generator for one class of B: into it, or (direction "BA") back from it.

        Raises:
            InputError: there is no such class.
        """
        self._known(class_index)
        return OneClass(self.ema_AB if direction == "AB" else self.ema_BA, class_index)

    def _known(self, class_index: int) -> None:
        if not 0 <= class_index < self.num_classes:
            raise InputError(f"target_class: {class_index}; the classes of B are 0 to {self.num_classes - 1}")


def _classes(batch: Batch) -> Tensor:
    if "class_B" not in batch:
        raise InputError("data: nothing says which class an image of B is of; use a source with several contrasts in B")
    return batch["class_B"]
