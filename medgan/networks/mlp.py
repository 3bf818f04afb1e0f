"""Fully connected networks, for points and for images small enough to be points."""

from __future__ import annotations

import math
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

Width = Annotated[int, Field(gt=0, description="units of a hidden layer")]
Layers = Annotated[int, Field(ge=1, description="hidden layers")]


class MLPSynthesizer(nn.Module):
    """Samples from latents: ``(B, latent_dim)`` to ``(B, *image_shape)``, images in [-1, 1], points unbounded.

    A class is an embedding beside the latent (Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014).
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        num_classes: int = 0,
        *,
        width: Width = 128,
        layers: Layers = 3,
        norm: Annotated[bool, Field(description="batch norm in every hidden layer")] = False,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.embedding = nn.Embedding(num_classes, latent_dim) if num_classes else None
        inputs = latent_dim * (2 if num_classes else 1)
        body: list[nn.Module] = []
        for layer in range(layers):
            body.append(nn.Linear(width if layer else inputs, width))
            body += [nn.BatchNorm1d(width)] if norm else []
            body.append(nn.ReLU())
        body.append(nn.Linear(width, math.prod(image_shape)))
        self.body = nn.Sequential(*body)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            assert classes is not None, "a class-conditional network needs classes"
            latents = torch.cat([latents, self.embedding(classes)], dim=1)
        samples = cast(Tensor, self.body(latents)).reshape(-1, *self.image_shape)
        return samples.tanh() if len(self.image_shape) > 1 else samples


class MLPCritic(nn.Module):
    """One raw logit per sample: ``(B, *image_shape)`` to ``(B, 1)``. A class is an embedding beside the sample."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        width: Width = 128,
        layers: Layers = 3,
        embedding: Annotated[int, Field(gt=0, description="numbers that stand for a class")] = 16,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share of hidden units left out; 0: off")] = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding) if num_classes else None
        inputs = math.prod(image_shape) + (embedding if num_classes else 0)
        body: list[nn.Module] = []
        for layer in range(layers):
            body += [nn.Linear(width if layer else inputs, width), nn.LeakyReLU(0.2)]
            body += [nn.Dropout(dropout)] if dropout else []
        body.append(nn.Linear(width, 1))
        self.body = nn.Sequential(*body)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        features = images.flatten(1)
        if self.embedding is not None:
            assert classes is not None, "a class-conditional network needs classes"
            features = torch.cat([features, self.embedding(classes)], dim=1)
        return cast(Tensor, self.body(features)).float()
