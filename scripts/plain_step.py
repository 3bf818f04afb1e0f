"""The step of `seg_cyclegan` and `cyclegan` written the ordinary way, to measure against: the same losses, no care.

Float32, contiguous maps, `nn.InstanceNorm3d`, an enlargement before each convolution, a pass and a backward pass per
term of D and S, Adam and averages one weight after another, losses read at each step.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from medgan.losses import soft_dice_cross_entropy
from medgan.networks.blocks import ChannelNorm, InstanceNorm, Upsample
from medgan.recipes import CycleGAN, SegCycleGAN
from medgan.recipes.parts import ImagePool


class PlainChannelNorm(nn.Module):
    """A layer norm over the channels of each voxel."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.permute(0, 2, 3, 4, 1))).permute(0, 4, 1, 2, 3).contiguous()


def plain_network(network: nn.Module) -> nn.Module:
    """A copy of a 3D network, contiguous, with the layers of torch that one would write first; the same weights."""
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            setattr(module, name, _plain(child))
    return plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def _plain(layer: nn.Module) -> nn.Module:
    if isinstance(layer, InstanceNorm):
        norm = nn.InstanceNorm3d(layer.num_channels, affine=True)
        norm.load_state_dict(layer.state_dict())
        return norm
    if isinstance(layer, ChannelNorm):
        return PlainChannelNorm(layer.norm)
    if isinstance(layer, Upsample):
        return nn.Sequential(nn.Upsample(scale_factor=2), _plain(layer.conv))
    return layer


class PlainStep:
    """One training step after another, from the weights that a recipe has.

    Of `seg_cyclegan` with its segmentation terms on from the start, S learning from translations; of `cyclegan` the
    rest. The objective is lsgan.
    """

    def __init__(self, recipe: CycleGAN | SegCycleGAN) -> None:
        self.recipe = recipe
        self.has_S = isinstance(recipe, SegCycleGAN)
        names = ("G_AB", "G_BA", "D_A", "D_B", *(("S_A", "S_B") if self.has_S else ()))
        self.nets = {name: plain_network(getattr(recipe, name)) for name in names}
        self.averages = {name: copy.deepcopy(net) for name, net in self.nets.items() if not name.startswith("D")}
        self.optimizers = {}
        for player, optimizer in recipe.optimizers.items():
            weights = [p for name in names if name.startswith(player) for p in self.nets[name].parameters()]
            group = optimizer.param_groups[0]
            self.optimizers[player] = torch.optim.Adam(weights, lr=group["lr"], betas=group["betas"])
        self.pool_A, self.pool_B = (ImagePool(pool.size) for pool in (recipe.pool_A, recipe.pool_B))

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """One step; the losses under the names of the recipe."""
        real_A, real_B = batch["A"], batch["B"]
        G_AB, G_BA = self.nets["G_AB"], self.nets["G_BA"]
        losses: dict[str, Tensor] = {}

        self._require_grad("DS", False)
        fake_B, fake_A = G_AB(real_A), G_BA(real_B)
        rec_A, rec_B = G_BA(fake_B), G_AB(fake_A)
        losses["G/adv_B"] = self.recipe.lambda_adv * (self.nets["D_B"](fake_B) - 1).square().mean()
        losses["G/adv_A"] = self.recipe.lambda_adv * (self.nets["D_A"](fake_A) - 1).square().mean()
        losses["G/cycle_A"] = self.recipe.lambda_cycle * l1_loss(rec_A, real_A)
        losses["G/cycle_B"] = self.recipe.lambda_cycle * l1_loss(rec_B, real_B)
        if isinstance(self.recipe, SegCycleGAN):
            beta = self.recipe.beta_seg
            losses["G/seg_A"] = beta * soft_dice_cross_entropy(self.nets["S_B"](fake_B), batch["label_A"])
            losses["G/seg_B"] = beta * soft_dice_cross_entropy(self.nets["S_A"](fake_A), batch["label_B"])
        self.optimizers["G"].zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        self._move("G")

        self._require_grad("DS", True)
        fake_A, fake_B = fake_A.detach(), fake_B.detach()
        self.optimizers["D"].zero_grad()
        for domain, real, fake in (("A", real_A, self.pool_A(fake_A)), ("B", real_B, self.pool_B(fake_B))):
            D = self.nets[f"D_{domain}"]
            loss = ((D(real) - 1).square().mean() + D(fake).square().mean()) / 2
            loss.backward()
            losses[f"D/{domain}"] = loss
        self._move("D")

        if isinstance(self.recipe, SegCycleGAN):
            self.optimizers["S"].zero_grad()
            for domain, real, label, fake, label_of_fake in (
                ("A", real_A, batch["label_A"], fake_A, batch["label_B"]),
                ("B", real_B, batch["label_B"], fake_B, batch["label_A"]),
            ):
                S = self.nets[f"S_{domain}"]
                for kind, weight, image, truth in (
                    ("real", 1.0, real, label),
                    ("fake", self.recipe.seg_fakes_weight, fake, label_of_fake),
                ):
                    loss = weight * soft_dice_cross_entropy(S(image), truth)
                    loss.backward()  # type: ignore[no-untyped-call]
                    losses[f"S/{kind}_{domain}"] = loss
            self._move("S")
        self._average(0.99)
        return {name: loss.item() for name, loss in losses.items()}

    def _require_grad(self, players: str, wanted: bool) -> None:
        for name, net in self.nets.items():
            if name[0] in players:
                net.requires_grad_(wanted)

    def _move(self, player: str) -> None:
        optimizer = self.optimizers[player]
        if self.recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.recipe.clip_norm)
        optimizer.step()

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for name, average in self.averages.items():
            for mean, weight in zip(average.parameters(), self.nets[name].parameters(), strict=True):
                mean.mul_(decay).add_(weight, alpha=1 - decay)
