"""Features of whole images for distances between distributions: per slice of each orthogonal plane and in 3D.

Only the body counts: a feature is the mean of an extractor's map over it, and where there is no body there is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLANES = ("sagittal", "coronal", "axial")  # across the first, second and third working axis of RAS
VOLUME = "volume"
_BLOCK = 4  # cells of a map along each side of a 3D feature
_LEAST_SHARE = 0.25  # of the body in the fullest slice or block: emptier ones say little


class Extractor(Protocol):
    """Feature maps ``(B, D, *s)`` of images ``(B, 1, *S)`` in [-1, 1]: slices or volumes, as `spatial_dims` says."""

    spatial_dims: int

    def __call__(self, image: Tensor) -> Tensor: ...


class SegmentorEncoder(nn.Module):
    """The coarsest level of a trained segmentor, as an `Extractor`: it knows anatomy and this domain's appearance."""

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        network: Any = segmentor
        while not hasattr(network, "encode") and (inner := _inside(network)) is not None:
            network = inner
        if not hasattr(network, "encode"):
            kind = type(network).__name__
            raise ValueError(f"{kind} has no encode(image); give translate.extractor another component, or set it null")
        self.network = network
        self.spatial_dims = int(network.spatial_dims)

    def forward(self, image: Tensor) -> Tensor:
        return cast(Tensor, self.network.encode(image))


def _inside(network: nn.Module) -> nn.Module | None:
    """What is wrapped by an average of weights or by what takes a volume slice by slice."""
    inner = getattr(network, "module", None) or getattr(network, "network", None)
    return inner if isinstance(inner, nn.Module) else None


EXTRACTORS: dict[str, Callable[..., Extractor]] = {"segmentor": SegmentorEncoder}


@torch.inference_mode()
def body_features(
    extractor: Extractor, image: Tensor, body: Tensor, *, tile: tuple[int, int, int], device: torch.device
) -> dict[str, Tensor]:
    """Features of a volume: ``(n, D)`` for the slices along each axis, and for blocks in 3D under ``"volume"``.

    A 3D extractor looks at `tile` after tile, an ever equal window as in its training, and its maps are averaged over
    the body within each slice and block. A 2D extractor looks at whole slices along each axis; it has no blocks.

    Args:
        extractor: on `device`.
        image: (1, 1, X, Y, Z) in [-1, 1], background -1.
        body: (1, 1, X, Y, Z) bool.
        tile: voxels that a 3D extractor sees at once, best those of its training.
        device: where the extractor is.
    """
    if extractor.spatial_dims == 2:
        return {plane: _of_slices(extractor, image, body, axis, device) for axis, plane in enumerate(PLANES, start=2)}
    maps, weights = _tiled_maps(extractor, image, body, tile, device)
    weighted = maps * weights
    found = {}
    for axis, plane in enumerate(PLANES, start=2):
        others = tuple(other for other in (0, 2, 3, 4) if other != axis)
        found[plane] = _full_enough(weighted.sum(others).T, weights.sum(others).T)
    block = [min(_BLOCK, n) for n in maps.shape[2:]]
    pooled, share = (F.avg_pool3d(one, block, ceil_mode=True, count_include_pad=False) for one in (weighted, weights))
    found[VOLUME] = _full_enough(pooled[0].flatten(1).T, share[0].flatten(1).T)
    return found


def _tiled_maps(
    extractor: Extractor, image: Tensor, body: Tensor, tile: tuple[int, int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The extractor's map ``(1, D, *s)`` over all tiles, and the share of body ``(1, 1, *s)`` in each of its cells."""
    shape = [-(-n // side) * side for n, side in zip(image.shape[2:], tile, strict=True)]
    image, where = _filled_up(image, shape, -1.0), _filled_up(body.float(), shape, 0.0)
    maps: Tensor | None = None
    weights = torch.empty(0)
    counts = [n // side for n, side in zip(shape, tile, strict=True)]
    for place in itertools.product(*map(range, counts)):
        seen = tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, tile, strict=True))
        one = extractor(image[(slice(None), slice(None), *seen)].to(device)).float().cpu()
        if maps is None:
            full = [count * n for count, n in zip(counts, one.shape[2:], strict=True)]
            maps, weights = torch.zeros((*one.shape[:2], *full)), torch.zeros((1, 1, *full))
        cells = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, one.shape[2:], strict=True))
        maps[(slice(None), slice(None), *cells)] = one
        weights[(slice(None), slice(None), *cells)] = F.adaptive_avg_pool3d(
            where[(slice(None), slice(None), *seen)], (one.shape[2], one.shape[3], one.shape[4])
        )
    assert maps is not None
    return maps, weights


def _filled_up(volume: Tensor, shape: list[int], value: float) -> Tensor:
    x, y, z = (n - had for n, had in zip(shape, volume.shape[2:], strict=True))
    return F.pad(volume, (0, z, 0, y, 0, x), value=value)


def _of_slices(extractor: Extractor, image: Tensor, body: Tensor, axis: int, device: torch.device) -> Tensor:
    slices, bodies = (volume[0].movedim(axis - 1, 0) for volume in (image, body.float()))
    rows, shares = [], []
    for one, where in zip(torch.split(slices, 16), torch.split(bodies, 16), strict=True):
        maps = extractor(one.to(device)).float().cpu()
        weights = F.adaptive_avg_pool2d(where, (maps.shape[2], maps.shape[3]))
        rows.append((maps * weights).sum((2, 3)))
        shares.append(weights.sum((2, 3)))
    return _full_enough(torch.cat(rows), torch.cat(shares))


def _full_enough(sums: Tensor, shares: Tensor) -> Tensor:
    """Weighted sums ``(n, D)`` as means, of those with enough of the body; shares are ``(n, 1)``."""
    keep = (shares > 0).flatten() & (shares >= _LEAST_SHARE * shares.max()).flatten()
    return sums[keep] / shares[keep]
