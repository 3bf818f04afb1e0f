"""Cine slices of synthetic bodies that breathe and whose hearts beat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from medgan.config import InputError
from medgan.data.cases import SPLITS, Split
from medgan.data.phantom import make_phantom
from medgan.data.phantom_slices import RANGES
from medgan.data.source import Pairing, Source

_FINER = 2  # bodies are kept on a grid this much finer than films, which average it
_DEPTHS = 24  # coronal planes of a body that its film is chosen from
_LIVER, _BLOOD = 3, 7
_BREATH_REACH, _HEART_REACH = 0.45, 0.30  # how far a movement is felt; the field of view runs from -1 to 1
_DARKEST_BODY = -0.998


class PhantomFilms(Source):
    """Films of the coronal plane through the heart: ``(1, frames, size, size)``, one body each.

    Axes are time, rows and columns; the first row is superior, the first column the patient's right. The diaphragm and
    what lies about it goes up and down as the patient breathes, by the fourth power of a cosine: longer at the end of
    expiration (Lujan et al., "A method for incorporating organ motion due to breathing into 3D dose calculations",
    1999). The heart contracts and widens, several beats in a breath. Tissue moves with its texture, and each frame has
    noise of its own. Amplitudes, periods and phases are the film's own. Each split has bodies of its own.
    """

    def __init__(
        self,
        *,
        contrast: Annotated[Literal["ct", "mr"], Field(description="which scanner looks")] = "mr",
        frames: Annotated[int, Field(ge=3, description="of a film")] = 8,
        size: Annotated[int, Field(ge=8, description="of a frame, voxels along each axis")] = 32,
        breath_frames: Annotated[float, Field(gt=2, description="frames of a breath, give or take a fifth")] = 8.0,
        beat_frames: Annotated[float, Field(gt=2, description="frames of a heartbeat, give or take a fifth")] = 3.5,
        breath: Annotated[
            float, Field(ge=0, le=0.4, description="way of the diaphragm as a share of half the field of view")
        ] = 0.2,
        beat: Annotated[float, Field(ge=0, le=0.5, description="share of its radius that a heart loses")] = 0.3,
        noise: Annotated[float, Field(ge=0, description="standard deviation in each frame, of [-1, 1]")] = 0.02,
        bodies: Annotated[int, Field(ge=1, description="bodies to learn from")] = 100,
        held_out_bodies: Annotated[int, Field(ge=1, description="bodies for validation, and as many for testing")] = 20,
        seed: Annotated[int, Field(ge=0, description="of the bodies; that of the training decides the order")] = 0,
    ) -> None:
        self.contrast, self.frames, self.size, self.seed = contrast, frames, size, seed
        self.breath_frames, self.beat_frames = breath_frames, beat_frames
        self.breath, self.beat, self.noise = breath, beat, noise
        self.bodies: dict[Split, int] = {"train": bodies, "validation": held_out_bodies, "test": held_out_bodies}
        self.image_shape = (1, frames, size, size)

    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        """`count` films of bodies of this split."""
        if pairing not in self.pairings:
            raise InputError(f"data: films have one domain and are no data for {pairing} learning; use another source")
        numbers = rng.integers(self.bodies[split], size=count)
        planes = [_plane((self.seed, SPLITS.index(split), int(n)), self.contrast, self.size * _FINER) for n in numbers]
        diaphragm = self.breath * rng.uniform(0.6, 1.0, count)[:, None] * self._breathing(rng, count)
        squeeze = self.beat * rng.uniform(0.6, 1.0, count)[:, None] * self._beating(rng, count)
        films = _moved(planes, diaphragm.astype(np.float32), squeeze.astype(np.float32))
        films = films.flip(2, 3).transpose(2, 3)  # upright
        grain = rng.standard_normal(films.shape, dtype=np.float32) * self.noise
        noisy = (films + torch.from_numpy(grain)).clamp(_DARKEST_BODY, 1.0)
        return {"A": torch.where(films > -1 + 1e-3, noisy, -1.0)[:, None]}

    def _breathing(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """(count, frames), 0 at the end of expiration, 1 at the end of inspiration, when the diaphragm is lowest."""
        return np.asarray(np.cos(np.pi * self._turns(rng, count, self.breath_frames)) ** 4, np.float64)

    def _beating(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """(count, frames), 0 when the heart is wide, 1 when it is narrow."""
        return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * self._turns(rng, count, self.beat_frames)), np.float64)

    def _turns(self, rng: np.random.Generator, count: int, period: float) -> NDArray[np.float64]:
        own = period * rng.uniform(0.8, 1.2, count)[:, None]
        return np.asarray(np.arange(self.frames) / own + rng.random(count)[:, None], np.float64)


@dataclass(frozen=True)
class _Plane:
    """A body's coronal plane, and where it moves; coordinates from -1 to 1 towards right and superior."""

    image: NDArray[np.float32]
    diaphragm: float
    heart: tuple[float, float]


@lru_cache(maxsize=1024)
def _plane(seed: tuple[int, int, int], contrast: Literal["ct", "mr"], size: int) -> _Plane:
    """The coronal plane that holds most of the heart's blood, made when it is first asked for."""
    phantom = make_phantom(seed, (size, _DEPTHS, size))
    places = (2 * np.arange(size) + 1) / size - 1
    front = phantom.labels[:, _DEPTHS // 2 :] == _BLOOD  # the great vessels lie behind
    chest = front[:, :, places > -0.2]
    depth = int(chest.sum(axis=(0, 2)).argmax())
    across, along = np.nonzero(front[:, depth])
    heart = (float(places[across].mean()), float(places[along].mean())) if len(across) else (0.0, 0.3)
    labels = phantom.labels[:, _DEPTHS // 2 + depth]
    _, liver = np.nonzero(labels == _LIVER)
    volume = {"ct": phantom.ct, "mr": phantom.mr}[contrast]
    image = RANGES[contrast].normalize(volume[:, _DEPTHS // 2 + depth])
    image = np.where(labels > 0, np.maximum(image, _DARKEST_BODY), np.float32(-1))
    return _Plane(image.astype(np.float32), float(places[liver.max()]) if len(liver) else 0.0, heart)


def _moved(planes: list[_Plane], diaphragm: NDArray[np.float32], squeeze: NDArray[np.float32]) -> Tensor:
    """Each plane ``(count, T, size, size)`` with its diaphragm moved down and its heart narrowed, as far as told."""
    count, frames = diaphragm.shape
    size = planes[0].image.shape[0]
    places = (2 * torch.arange(size) + 1) / size - 1
    x, z = places[:, None], places[None, :]

    def of_body(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)[:, None, None]

    level = of_body([plane.diaphragm for plane in planes])
    heart_x, heart_z = (of_body([plane.heart[axis] for plane in planes]) for axis in (0, 1))
    wall = (1 - (x / 0.8) ** 4).clamp(min=0)  # ribs and skin stay
    felt = torch.exp(-(((z - level) / _BREATH_REACH) ** 2)) * wall
    near = torch.exp(-((x - heart_x) ** 2 + (z - heart_z) ** 2) / _HEART_REACH**2)

    def over_time(motion: NDArray[Any], where: Tensor) -> Tensor:
        return torch.from_numpy(motion)[:, :, None, None] * where[:, None]

    narrowed = over_time(squeeze, near)
    source_x = x + narrowed * (x - heart_x)[:, None]
    source_z = z + narrowed * (z - heart_z)[:, None] + over_time(diaphragm, felt)
    grid = torch.stack([source_z, source_x], dim=-1).flatten(0, 1)
    images = torch.from_numpy(np.stack([plane.image for plane in planes]))[:, None]
    still = images[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
    moved = F.grid_sample(still, grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(moved, _FINER).view(count, frames, size // _FINER, size // _FINER)
