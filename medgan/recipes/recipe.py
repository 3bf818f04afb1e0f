"""What every recipe is: networks, an optimizer per player, and one paper's training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

Pairing = Literal["unpaired", "paired", "single"]
Direction = Literal["AB", "BA"]
DomainKey = Literal["A", "B"]
Batch = Mapping[str, Tensor]
Losses = dict[str, Tensor]


class Sampler(nn.Module, ABC):
    """Images (or points) out of latents.

    Attributes:
        latent_dim: numbers of a latent.
        num_classes: that can be asked for; 0 without classes.
    """

    latent_dim: int
    num_classes: int

    @abstractmethod
    def latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the prior, ``(count, latent_dim)``, on the CPU."""

    @abstractmethod
    def forward(self, latents: Tensor, classes: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Images ``(count, C, *S)`` in [-1, 1], or points ``(count, 2)``, of latents ``(count, latent_dim)``.

        `classes` ``(count,)`` int64 are asked of a class-conditional sampler. A `truncation` below 1 draws latents
        towards their middle: likelier images, fewer kinds.
        """


class Recipe(nn.Module, ABC):
    """One paper: its networks, its players and its algorithm.

    A batch holds images ``A``, ``B`` ``(B, C, *S)`` in [-1, 1] and, where there are any, ``label_A``, ``label_B``
    ``(B, 1, *S)`` integer with -1 where a voxel is unlabelled, and ``class_A``, ``class_B`` ``(B,)`` int64. Losses are
    keyed ``"player/term"`` and already weighted. Noise within a step comes from torch's global generator, which the
    loop seeds from (seed, step).

    Attributes:
        at_once: whether every loss of a step is that of the networks as they were before the step, whichever player has
            moved since; then a batch may go through them in parts.
        first_order: whether a step takes gradients alone, once from each call of a network, and no second derivatives;
            then networks may be compiled.
        optimizers: one per player.
        average_gradients: what ranks do with a player's gradients.
        clip_norm: largest gradient norm of a player; None: any.
        gradient_norms: by player, before clipping, where somebody watches them; None: not measured.
    """

    pairing: ClassVar[Pairing]
    at_once: ClassVar[bool] = False
    first_order: ClassVar[bool] = False
    optimizers: dict[str, Optimizer]

    def __init__(self) -> None:
        super().__init__()
        self.optimizers = {}
        self._part, self._parts = 0, 1
        self.average_gradients: Callable[[list[Tensor]], None] = _alone
        self.clip_norm: float | None = None
        self.gradient_norms: dict[str, Tensor] | None = None

    @abstractmethod
    def training_step(self, batch: Batch, progress: float) -> Losses:
        """One step of the paper's algorithm, every player's update included. `progress` runs from 0 to 1."""

    def training_step_in_parts(self, batch: Batch, progress: float, parts: int) -> Losses:
        """`training_step` of a batch that goes through the networks in equal parts, their gradients summed.

        The step is that of the whole batch (`at_once` recipes; losses that are means over samples; networks without
        batch norm), with the memory of a part. Losses are means over the parts.
        """
        if parts == 1:
            return self.training_step(batch, progress)
        assert self.at_once
        self._parts = parts
        means: Losses = {}
        for self._part in range(parts):
            share = {key: value.chunk(parts)[self._part] for key, value in batch.items()}
            for name, loss in self.training_step(share, progress).items():
                means[name] = means.get(name, 0.0) + loss.detach() / parts
        self._part, self._parts = 0, 1
        return means

    @abstractmethod
    def validation_step(self, batch: Batch) -> Losses:
        """Measures on patients that no player has learnt from; ``"score"``, the higher the better, picks the best."""

    @abstractmethod
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Images ``(B, C, *S)`` in [-1, 1] worth looking at, by name, in the order to show them."""

    def translator(self, direction: Direction) -> nn.Module | None:
        """The network for one direction, as it should be used after training, if this recipe trains one."""
        return None

    def sampler(self) -> Sampler | None:
        """What new images are drawn from after training (averaged weights where kept), if this recipe makes any."""
        return None

    def segmentor(self, domain: DomainKey) -> nn.Module | None:
        """The network that reads labels off images of a domain, if this recipe trains one."""
        return None

    def lr_factor(self, progress: float) -> float:
        """Learning rate as a share of the initial one: constant, then linear to 0 (Zhu et al. 2017, section 7.1)."""
        return min(1.0, 2.0 * (1.0 - progress))

    def networks(self) -> list[nn.Module]:
        """What the players train; averages apart."""
        return [network for network in self.children() if any(p.requires_grad for p in network.parameters())]

    def forget_gradients(self, player: str) -> None:
        """Zero a player's gradients, unless they are of an earlier part of the same batch."""
        if self._part == 0:
            self.optimizers[player].zero_grad(set_to_none=True)

    def update(self, player: str, losses: Losses, *, add: bool = False) -> None:
        """One step of a player: zero, sum, backward, average over ranks, clip, step; in parts, step after the last.

        With `add` the gradients are added to those that have gathered since `forget_gradients`.
        """
        optimizer = self.optimizers[player]
        if not add:
            self.forget_gradients(player)
        total = torch.stack([loss.float() for loss in losses.values()]).sum() / self._parts
        total.backward()  # type: ignore[no-untyped-call]
        if not self._is_last_part:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.average_gradients([p.grad for p in parameters if p.grad is not None])
        if self.gradient_norms is not None:
            self.gradient_norms[player] = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        optimizer.step()
        torch.clear_autocast_cache()  # else what follows in this step would see the weights of before

    def follow(self, average: AveragedModel, network: nn.Module) -> None:
        """Move an average of weights towards a network's, once per step."""
        if self._is_last_part:
            average.update_parameters(network)

    @property
    def _is_last_part(self) -> bool:
        return self._part == self._parts - 1

    def set_progress(self, progress: float) -> None:
        """Set every player's learning rate for this moment of the training."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.lr_factor(progress)

    def state(self) -> dict[str, Any]:
        """Everything that decides the next step: networks, averages, pools and optimizers."""
        return {
            "networks": self.state_dict(),
            "optimizers": {player: optimizer.state_dict() for player, optimizer in self.optimizers.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
        self.load_state_dict(state["networks"])
        for player, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][player])


def _alone(gradients: list[Tensor]) -> None:
    """One rank has nobody to average with."""
