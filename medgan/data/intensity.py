"""Invertible maps between stored units (HU, MR signal) and the [-1, 1] that networks see.

A map is fixed at training, saved with the model and inverted on write. Arrays are numpy or torch; the same kind comes
back, in float32 (float64 stays float64), so that integers and half precision lose nothing on the way.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from medgan.config import InputError, suggest

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", npt.NDArray[Any], "Tensor")


class Intensity(ABC):
    """An invertible map of one domain: stored units between two ends, linearly, to [-1, 1] and back."""

    def __post_init__(self) -> None:
        _check_ends(self, *self.ends)

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """The stored values that become -1 and 1."""

    def normalize(self, x: Array) -> Array:
        """`x` in stored units as [-1, 1], clipped; NaN stays NaN."""
        low, high = self.ends
        return ((_float(x) - low) * (2.0 / (high - low)) - 1.0).clip(-1.0, 1.0)

    def denormalize(self, y: Array) -> Array:
        """`y`, clipped to [-1, 1], in stored units between the ends (not rounded)."""
        low, high = self.ends
        return (_float(y).clip(-1.0, 1.0) + 1.0) * ((high - low) / 2.0) + low

    def measure(self, image: Array, mask: Array | None = None) -> Self:
        """The map itself: it depends on no image."""
        return self


class IntensityRule(Protocol):
    """How the map of one image is found; a map that needs no image is its own rule."""

    def measure(self, image: Array, mask: Array | None = None) -> Intensity:
        """The map for `image`, looked for where `mask` is true (everywhere when None)."""
        ...


@dataclass(frozen=True, kw_only=True)
class FixedRange(Intensity):
    """Linear map of [low, high] in stored units to [-1, 1]; values outside are clipped."""

    low: Annotated[float, Field(description="stored value that becomes -1")]
    high: Annotated[float, Field(description="stored value that becomes 1")]

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True, kw_only=True)
class HounsfieldWindow(Intensity):
    """Linear map of a CT window in HU to [-1, 1]; denormalised CT lies within the window."""

    low_hu: Annotated[float, Field(description="HU that become -1; air is -1000")] = -1000.0
    high_hu: Annotated[float, Field(description="HU that become 1; dense cortical bone is near 1500")] = 1500.0

    @property
    def ends(self) -> tuple[float, float]:
        return self.low_hu, self.high_hu


@dataclass(frozen=True, kw_only=True)
class PercentileRange:
    """A rule, not a map: each image's own range between two percentiles of its body, for MR without units."""

    low: Annotated[float, Field(ge=0, lt=100, description="percentile within the body that becomes -1")] = 0.5
    high: Annotated[float, Field(gt=0, le=100, description="percentile within the body that becomes 1")] = 99.5

    def __post_init__(self) -> None:
        _check_ends(self, self.low, self.high)

    def measure(self, image: Array, mask: Array | None = None) -> FixedRange:
        """The range of `image` between the percentiles of its finite voxels where `mask` is true.

        Raises:
            InputError: nothing to measure (an empty mask, no finite voxel), or one value only.
        """
        values = np.asarray(image)
        inside = np.isfinite(values) if mask is None else np.isfinite(values) & np.asarray(mask, dtype=bool)
        if not inside.any():
            raise InputError("percentile_range: no finite voxel in the body; lower body_threshold or check the image")
        low, high = np.percentile(values[inside].astype(np.float64), [self.low, self.high])
        if not low < high:
            raise InputError(
                f"percentile_range: the body holds one value only ({low:g}); check the image or use fixed_range"
            )
        return FixedRange(low=float(low), high=float(high))


INTENSITIES: dict[str, type[FixedRange] | type[HounsfieldWindow] | type[PercentileRange]] = {
    "hounsfield_window": HounsfieldWindow,
    "percentile_range": PercentileRange,
    "fixed_range": FixedRange,
}


def typical(maps: Sequence[Intensity]) -> Intensity:
    """The map of a domain: the median low and the median high end of its images' maps, of the same kind as they.

    It inverts translated images, whose own range nobody knows.

    Raises:
        InputError: no maps, or maps of different kinds.
    """
    kinds = {type(one) for one in maps}
    if len(kinds) != 1:
        got = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise InputError(f"intensity: one kind of map per domain is needed, got {got}; use one for all images")
    low, high = median(one.ends[0] for one in maps), median(one.ends[1] for one in maps)
    first = maps[0]
    names = [field.name for field in dataclasses.fields(cast(Any, first))]
    return cast(Any, type(first))(**dict(zip(names, (low, high), strict=True)))  # type: ignore[no-any-return]


def to_dict(intensity: object) -> dict[str, str | float]:
    """The map (or rule) as plain values: its name in `INTENSITIES` and its fields.

    Raises:
        InputError: a class of another place; a saved map must be readable without running anybody's code.
    """
    name = _name(intensity)
    if name is None:
        raise InputError(f"intensity: {type(intensity).__name__} cannot be saved; use one of {', '.join(INTENSITIES)}")
    return {"name": name, **dataclasses.asdict(cast(Any, intensity))}


def from_dict(values: Mapping[str, Any]) -> FixedRange | HounsfieldWindow | PercentileRange:
    """The map (or rule) that `to_dict` wrote.

    Raises:
        InputError: an unknown name, an unknown or a missing field.
    """
    fields = dict(values)
    name = str(fields.pop("name", ""))
    if name not in INTENSITIES:
        raise InputError(f"intensity: unknown map '{name}'; {suggest(name, INTENSITIES)}")
    try:
        return INTENSITIES[name](**fields)
    except TypeError:
        known = [field.name for field in dataclasses.fields(INTENSITIES[name])]
        raise InputError(f"intensity: {name} got {sorted(fields)}; its fields are {known}") from None


def _name(intensity: object) -> str | None:
    return next((name for name, kind in INTENSITIES.items() if type(intensity) is kind), None)


def _check_ends(intensity: object, low: float, high: float) -> None:
    if not low < high:
        raise InputError(f"{_name(intensity)}: low end {low:g} is not below high end {high:g}; swap or change them")


def _float(x: Array) -> Array:
    if isinstance(x, np.ndarray):
        return x if x.dtype == np.float64 else x.astype(np.float32)
    return x if str(x.dtype) == "torch.float64" else x.float()
