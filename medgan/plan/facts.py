"""What the cases are: spacings and shapes of all, and how large the body is in some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgan.data.cases import Case, Domain
from medgan.data.grid import GridMap, triple
from medgan.data.transforms import body_mask, bounding_box
from medgan.data.volume import read_header, read_volume
from medgan.preprocess import PreparedDomain, PreprocessOptions

_LOOKED_AT = 4  # volumes per domain that are read whole
_COARSE_MM = 3.0  # a body is measured on every so many millimetres


@dataclass(frozen=True)
class DomainFacts:
    """One domain's images. Axes are those of the working grid.

    Attributes:
        name: the domain's.
        cases: number of images.
        training: number of those to learn from.
        labelled: number of those with a label map.
        spacings_mm: (N, 3), a row for each image.
        shapes: (N, 3), voxels.
        body_mm: (3,) median extent of the bodies looked at, the crop's margin included.
    """

    name: str
    cases: int
    training: int
    labelled: int
    spacings_mm: NDArray[np.float64]
    shapes: NDArray[np.float64]
    body_mm: NDArray[np.float64]

    @property
    def extents_mm(self) -> NDArray[np.float64]:
        """(3,) median field of view."""
        return np.asarray(np.median(self.spacings_mm * self.shapes, axis=0))


def domain_facts(cases: Sequence[Case], domain: Domain, options: PreprocessOptions) -> DomainFacts:
    """Look at the headers of all images of one domain and at the bodies in some.

    Raises:
        InputError: a file that cannot be read or placed.
    """
    prepared = PreparedDomain.of(domain, options)
    spacings, shapes = [], []
    for case in cases:
        header = read_header(case.image)
        axes = list(GridMap.plan(header.shape, header.affine, orientation=options.orientation).axes)
        spacings.append(np.array(header.spacing_mm)[axes])
        shapes.append(np.array(header.shape, dtype=np.float64)[axes])
    chosen = {round(place) for place in np.linspace(0, len(cases) - 1, min(_LOOKED_AT, len(cases)))}
    bodies = [_body_mm(cases[index], prepared) for index in sorted(chosen)]
    return DomainFacts(
        name=domain.name,
        cases=len(cases),
        training=sum(case.split == "train" for case in cases),
        labelled=sum(case.label is not None for case in cases),
        spacings_mm=np.array(spacings),
        shapes=np.array(shapes),
        body_mm=np.median(bodies, axis=0),
    )


def _body_mm(case: Case, domain: PreparedDomain) -> NDArray[np.float64]:
    """Extent of the body with the margin that preparation keeps, within the field of view; all of it without a body."""
    volume = read_volume(case.image, dtype=np.float32)
    grid = GridMap.plan(triple(volume.array.shape), volume.affine, orientation=domain.preprocess.orientation)
    strides = [max(1, int(_COARSE_MM / mm)) for mm in volume.spacing_mm]
    thin = volume.array[tuple(slice(None, None, stride) for stride in strides)].transpose(grid.axes)
    mm = (np.array(strides) * volume.spacing_mm)[list(grid.axes)]
    body = body_mask(thin, domain.body_threshold)
    whole_mm = np.array(volume.array.shape)[list(grid.axes)] * np.array(volume.spacing_mm)[list(grid.axes)]
    margin = domain.preprocess.crop_margin_mm
    if margin is None or not body.any():
        return np.asarray(whole_mm, dtype=np.float64)
    found_mm = np.array([(last - first) for first, last in bounding_box(body)]) * mm
    return np.asarray(np.minimum(found_mm + 2 * margin, whole_mm), dtype=np.float64)
