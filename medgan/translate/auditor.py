"""Organs read off a source and off its translation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medgan.config import InputError
from medgan.data.volume import Volume, read_volume
from medgan.metrics.anatomy import OrganReading, read_organs
from medgan.translate.reader import VolumeReader

TOLERANCE = 0.06  # of the target's typical range, within which intensities are told apart by how far they are


class Auditor:
    """Reads organs off sources and compares them with what was read off translations."""

    def __init__(self, source_reader: VolumeReader | None, names: Mapping[int, str], intensity_range: float) -> None:
        """
        Args:
            source_reader: what reads organs off a source; None: label maps are asked for.
            names: of the organs, by label.
            intensity_range: width of the target's typical range, stored units.
        """
        self.source_reader, self.names, self.intensity_range = source_reader, names, intensity_range

    def read(
        self, source: Volume, image: NDArray[Any], labels: NDArray[Any], label: Path | None = None
    ) -> list[OrganReading]:
        """The organs of one case.

        Args:
            source: the volume that was translated.
            image: its translation, stored units, on its grid.
            labels: what was read off the translation.
            label: a label map of the source, taken where nothing reads organs off sources.

        Raises:
            InputError: nothing tells the source's organs, or grids differ.
        """
        place = str(source.path or "volume")
        if self.source_reader is not None:
            known = self.source_reader.read(source, source.array)
        elif label is not None:
            known = read_volume(label, dtype=np.int16).array
        else:
            raise InputError(f"{place}: no organs to compare with; add --segmentor RUN that reads them off such images")
        axis = int(np.argmax(nib.io_orientation(source.affine)[:, 0] == 2))  # type: ignore[no-untyped-call]
        tolerance, organs = TOLERANCE * self.intensity_range, sorted(self.names)
        try:
            return read_organs(known, labels, image, organs, source.spacing_mm, tolerance=tolerance, slice_axis=axis)
        except ValueError as reason:
            raise InputError(f"{place}: {reason}") from None
