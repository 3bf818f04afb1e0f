"""Axial slices of synthetic bodies: images of several contrasts, labels and edge maps, with and without pairs."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from medgan.config import InputError
from medgan.data.cases import SPLITS, Split
from medgan.data.intensity import FixedRange, HounsfieldWindow, Intensity
from medgan.data.phantom import TISSUES, Phantom, make_phantom
from medgan.data.source import Pairing, Source

Contrast = Literal["ct", "mr", "t2", "labels", "edges"]
Contrasts = Contrast | tuple[Contrast, ...]

CT_WINDOW = HounsfieldWindow(low_hu=-1000.0, high_hu=1500.0)
MR_RANGE = FixedRange(low=0.0, high=1400.0)
RANGES: dict[str, Intensity] = {"ct": CT_WINDOW, "mr": MR_RANGE, "t2": MR_RANGE}

_DARKEST_BODY = np.float32(-0.998)  # -1 itself is background and nothing else, as in prepared volumes


class PhantomSlices(Source):
    """Axial slices of phantoms, CT and MR contrasts, labels or edges.

    Images are (1, size, size) in [-1, 1], upright as radiologists look at them: the first row is anterior, the first
    column the patient's right. Background is exactly -1 and the body at least -0.998. ``ct`` is a window of -1000 to
    1500 HU (`CT_WINDOW`), ``mr`` and ``t2`` a range of 0 to 1400 (`MR_RANGE`), ``labels`` the tissue's number from -1
    to 1, and ``edges`` is 1 where a pixel's tissue differs from that of the pixel below or to its right, else -1.

    In "paired", A and B are one slice of one body; in "unpaired" no body is in both domains. Each split has bodies of
    its own. A domain with a list of contrasts draws one for each sample, and its number is the sample's class.
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Field(ge=8, description="rows and columns of a slice, 192 mm across")] = 64,
        A: Annotated[Contrasts, Field(description="contrast of domain A: ct, mr, t2, labels, edges, or a list")] = "ct",
        B: Annotated[
            Contrasts | None, Field(description="contrast of domain B, or a list of them; null: there is no B")
        ] = None,
        bodies: Annotated[int, Field(ge=1, description="bodies to learn from (unpaired: of each domain)")] = 40,
        held_out_bodies: Annotated[
            int,
            Field(ge=1, description="bodies for validation, and as many again for testing (unpaired: of each domain)"),
        ] = 8,
        slices: Annotated[int, Field(ge=1, description="slices of a body, equally spaced over 144 mm")] = 24,
        seed: Annotated[int, Field(ge=0, description="of the bodies; that of the training decides the order")] = 0,
    ) -> None:
        self.contrasts = {"A": _listed(A, "A"), "B": () if B is None else _listed(B, "B")}
        self.listed = {"A": not isinstance(A, str), "B": B is not None and not isinstance(B, str)}
        self.size, self.slices, self.seed = size, slices, seed
        self.bodies: dict[Split, int] = {"train": bodies, "validation": held_out_bodies, "test": held_out_bodies}
        self.image_shape = (1, size, size)
        self.pairings = frozenset({"single"})
        classes_of = "A"
        if B is not None:
            self.image_shape_B = (1, size, size)
            self.pairings = frozenset({"single", "paired", "unpaired"})
            classes_of = "B"
        self.num_classes = len(self.contrasts[classes_of]) if self.listed[classes_of] else 0

    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        """`count` slices of each domain of this pairing, of bodies of this split."""
        if pairing not in self.pairings:
            raise InputError(f"data.B: missing, and {pairing} learning needs it; name a contrast, such as ct")
        places = {"A": self._places(rng, count, split)}
        if pairing == "paired":
            places["B"] = places["A"]
        elif pairing == "unpaired":
            bodies, cuts = self._places(rng, count, split)
            places["B"] = bodies + self.bodies[split], cuts
        drawn: dict[str, Tensor] = {}
        for domain, (bodies, cuts) in places.items():
            kinds = rng.integers(len(self.contrasts[domain]), size=count)
            images, labels = [], []
            for body, cut, kind in zip(bodies, cuts, kinds, strict=True):
                phantom = _body((self.seed, SPLITS.index(split), int(body)), self.size, self.slices)
                images.append(_image(phantom, int(cut), self.contrasts[domain][kind]))
                labels.append(_upright(phantom.labels, int(cut)).astype(np.int64))
            drawn[domain] = torch.from_numpy(np.stack(images)[:, None])
            drawn[f"label_{domain}"] = torch.from_numpy(np.stack(labels)[:, None])
            if self.listed[domain]:
                drawn[f"class_{domain}"] = torch.from_numpy(kinds)
        return drawn

    def _places(
        self, rng: np.random.Generator, count: int, split: Split
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return rng.integers(self.bodies[split], size=count), rng.integers(self.slices, size=count)


def _listed(contrasts: Contrasts, domain: str) -> tuple[Contrast, ...]:
    many = (contrasts,) if isinstance(contrasts, str) else tuple(contrasts)
    known = get_args(Contrast)
    if not many or len(set(many)) < len(many) or not set(many) <= set(known):
        raise InputError(f"data.{domain}: {list(many)}; name one or several of {', '.join(known)}, each once")
    return many


@lru_cache(maxsize=512)
def _body(seed: tuple[int, int, int], size: int, slices: int) -> Phantom:
    """A body, rendered when it is first asked for."""
    return make_phantom(seed, (size, size, slices))


def _upright(volume: NDArray[Any], cut: int) -> NDArray[Any]:
    """An axial slice with the first row anterior and the first column at the patient's right."""
    return volume[::-1, ::-1, cut].T


def _image(phantom: Phantom, cut: int, contrast: Contrast) -> NDArray[np.float32]:
    labels = _upright(phantom.labels, cut)
    if contrast == "edges":
        edge = np.zeros(labels.shape, dtype=bool)
        edge[:-1] |= labels[:-1] != labels[1:]
        edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
        return np.where(edge, np.float32(1), np.float32(-1))
    if contrast == "labels":
        return labels.astype(np.float32) * np.float32(2 / (len(TISSUES) - 1)) - np.float32(1)
    image = RANGES[contrast].normalize(_upright(getattr(phantom, contrast), cut))
    return np.where(labels > 0, np.maximum(image, _DARKEST_BODY), np.float32(-1)).astype(np.float32)
