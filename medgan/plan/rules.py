"""Rules for the grid, the patch and the length of a training: numbers in, numbers out.

After Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, supplementary note 2, with what two domains and a discriminator change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import Triple, triple

Spacing = tuple[float, float, float]

ANISOTROPIC = 3.0  # nnU-Net's: so many times coarser, and with so many times fewer voxels, than the other axes
LARGEST_EDGE = 256  # nnU-Net's: the first patch holds as many voxels as a cube of this edge
EPOCHS = 200  # Zhu et al., "Unpaired Image-to-Image Translation ...", 2017, section 7.1
_FEWEST_STEPS, _MOST_STEPS = 2_000, 100_000
_COARSEST_VOXELS = 4  # of the deepest map, along an axis; nnU-Net's
_SAME = 1.01  # spacings that differ by less are one


def domain_spacing(spacings_mm: NDArray[np.float64], shapes: NDArray[np.float64]) -> Spacing:
    """The spacing at which a domain is best seen: the median of each axis; along a coarse axis the finest tenth.

    Args:
        spacings_mm: (N, 3), a row for each image, working axes.
        shapes: (N, 3), voxels.
    """
    spacing, shape = np.median(spacings_mm, axis=0), np.median(shapes, axis=0)
    worst = int(np.argmax(spacing))
    others = [axis for axis in range(3) if axis != worst]
    if spacing[worst] > ANISOTROPIC * spacing[others].max() and shape[worst] * ANISOTROPIC < shape[others].min():
        spacing[worst] = max(np.percentile(spacings_mm[:, worst], 10), spacing[others].max())
    x, y, z = spacing.tolist()
    return x, y, z


def common_spacing(spacings_mm: Sequence[Spacing]) -> Spacing:
    """Of several domains, along each axis the coarsest: none is interpolated finer, which a discriminator would see."""
    x, y, z = np.max(spacings_mm, axis=0).tolist()
    return x, y, z


def is_one_grid(spacings_mm: NDArray[np.float64]) -> bool:
    """Whether all images (N, 3) have one spacing, to a hundredth."""
    return bool((spacings_mm.max(axis=0) <= _SAME * spacings_mm.min(axis=0)).all())


def halvings(body: Sequence[float], most: int) -> int:
    """How often a network may halve a body of so many voxels along each axis, at least once and at most `most`."""
    return max(1, min(most, int(math.log2(max(2.0, min(body) / _COARSEST_VOXELS)))))


def least_patch(levels: int, layers: int) -> int:
    """Voxels along an axis below which a generator of so many levels or a PatchGAN of so many layers sees too little.

    A PatchGAN halves the patch `layers` times and loses two voxels more; three must be left for one logit.
    """
    return max(_COARSEST_VOXELS << levels, 3 << layers)


def patches(body: Sequence[float], spacing_mm: Sequence[float], multiple: int, least: int) -> Iterator[Triple]:
    """Patches from the largest to the smallest: equal in mm along all axes, no larger than the body, then smaller and
    smaller along the axis on which they cover most of it.

    Args:
        body: median voxels along each axis.
        spacing_mm: of the working grid.
        multiple: what the networks divide by.
        least: voxels of the smallest patch.
    """
    edge_mm = LARGEST_EDGE * float(np.prod(spacing_mm)) ** (1 / 3)
    bottom = multiple * math.ceil(least / multiple)
    tops = [max(bottom, multiple * math.ceil(n / multiple)) for n in body]
    first = [multiple * round(edge_mm / mm / multiple) for mm in spacing_mm]
    patch = [min(top, max(bottom, n)) for n, top in zip(first, tops, strict=True)]
    yield triple(patch)
    while any(n > bottom for n in patch):
        shares = [n / size if n > bottom else -1.0 for n, size in zip(patch, body, strict=True)]
        patch[int(np.argmax(shares))] -= multiple
        yield triple(patch)


def steps(train_voxels: float, patch_voxels: int, batch_size: int) -> int:
    """As many steps as show every voxel of the training bodies `EPOCHS` times, rounded, within reason."""
    wanted = EPOCHS * train_voxels / (patch_voxels * batch_size)
    return _round(min(_MOST_STEPS, max(_FEWEST_STEPS, wanted)))


def steps_within(wanted: int, hours: float | None, seconds_per_step: float) -> int:
    """`wanted` steps, or what so many hours hold."""
    if hours is None:
        return wanted
    return min(wanted, max(1, _round(hours * 3600 / seconds_per_step)))


def _round(steps: float) -> int:
    """To two digits."""
    unit = int(math.pow(10, max(0, int(math.log10(max(steps, 1))) - 1)))
    return max(1, round(steps / unit)) * unit


def workers_beside(cores: int, on_gpu: bool) -> int:
    """Processes that cut patches: beside a GPU all cores but one, at most 8; beside a processor that trains, one of
    every four, since cutting costs little and takes a core away."""
    return max(0, min(8, cores - 1)) if on_gpu else min(4, cores // 4)
