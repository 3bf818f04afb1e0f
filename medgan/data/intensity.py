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
from medgan.data.standardize import landmarks, standard_levels, tissue_peak

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", npt.NDArray[Any], "Tensor")


class Intensity(ABC):
    """An invertible map of one domain: stored units between two ends to [-1, 1] and back."""

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


@dataclass(frozen=True, kw_only=True)
class WhiteStripe:
    """A rule: the range in which the most frequent tissue of the body always comes out at one level, for MR."""

    level: Annotated[float, Field(gt=-1, lt=1, description="where the most frequent tissue comes out")] = 0.0

    def measure(self, image: Array, mask: Array | None = None) -> FixedRange:
        """From the darkest of the body, -1, linearly through its most frequent tissue; see `standardize.tissue_peak`.

        Raises:
            InputError: nothing to measure, or one value only.
        """
        low, peak = tissue_peak(_inside(image, mask))
        return FixedRange(low=low, high=low + (peak - low) * 2.0 / (self.level + 1.0))


@dataclass(frozen=True, kw_only=True)
class PiecewiseLinear(Intensity):
    """Map of landmarks in stored units to levels in [-1, 1], linear in between; values outside are clipped."""

    stored: Annotated[tuple[float, ...], Field(min_length=2, description="landmarks, each above the one before")]
    levels: Annotated[tuple[float, ...], Field(min_length=2, description="what they become, from -1 to 1")]

    def __post_init__(self) -> None:
        for name in ("stored", "levels"):  # lists in a file
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            if (np.diff(getattr(self, name)) <= 0).any():
                raise InputError(f"piecewise_linear.{name}: not each above the one before; put them in order")
        if len(self.stored) != len(self.levels):
            raise InputError("piecewise_linear: not as many levels as stored landmarks; give each its own")
        super().__post_init__()

    @property
    def ends(self) -> tuple[float, float]:
        return self.stored[0], self.stored[-1]

    def normalize(self, x: Array) -> Array:
        """`x` in stored units as [-1, 1], clipped; NaN stays NaN."""
        return _interpolated(x, self.stored, self.levels)

    def denormalize(self, y: Array) -> Array:
        """`y`, clipped to [-1, 1], in stored units between the ends (not rounded)."""
        return _interpolated(y, self.levels, self.stored)


@dataclass(frozen=True, kw_only=True)
class Nyul:
    """A rule: percentiles of each image's body come out at levels learnt from the training images, for MR."""

    percentiles: Annotated[
        tuple[float, ...], Field(min_length=3, description="landmarks within the body; the outer two become -1 and 1")
    ] = (0.5, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.5)
    levels: Annotated[
        tuple[float, ...] | None, Field(description="what the landmarks become; null: learnt from the training images")
    ] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "percentiles", tuple(float(value) for value in self.percentiles))
        if (np.diff(self.percentiles) <= 0).any() or not 0 <= self.percentiles[0] < self.percentiles[-1] <= 100:
            raise InputError("nyul.percentiles: not between 0 and 100, each above the one before; put them in order")
        if self.levels is not None:
            object.__setattr__(self, "levels", tuple(float(value) for value in self.levels))

    def landmarks(self, image: Array, mask: Array | None = None) -> npt.NDArray[np.float64]:
        """The percentiles of one image, stored units; see `standardize.landmarks`."""
        return landmarks(_inside(image, mask), self.percentiles)

    def learnt(self, rows: npt.NDArray[np.float64]) -> Self:
        """The rule with its levels, from the landmarks (N, K) of training images; see `standardize.standard_levels`."""
        return dataclasses.replace(self, levels=tuple(standard_levels(rows).tolist()))

    def measure(self, image: Array, mask: Array | None = None) -> PiecewiseLinear:
        """The map from the landmarks of `image`, looked for where `mask` is true, to the levels.

        Raises:
            InputError: nothing to measure, one value only, or levels that were never learnt.
        """
        if self.levels is None:
            raise InputError("nyul: its levels are learnt from training images; run `medgan preprocess` first")
        return PiecewiseLinear(stored=tuple(self.landmarks(image, mask).tolist()), levels=self.levels)


Map = FixedRange | HounsfieldWindow | PiecewiseLinear
Rule = Map | PercentileRange | WhiteStripe | Nyul

INTENSITIES: dict[str, type[Rule]] = {
    "hounsfield_window": HounsfieldWindow,
    "percentile_range": PercentileRange,
    "fixed_range": FixedRange,
    "white_stripe": WhiteStripe,
    "nyul": Nyul,
    "piecewise_linear": PiecewiseLinear,
}


def typical(maps: Sequence[Intensity]) -> Intensity:
    """The map of a domain: of each number of its images' maps the median, of the same kind as they.

    It inverts translated images, whose own range nobody knows.

    Raises:
        InputError: no maps, or maps of different kinds.
    """
    kinds = {type(one) for one in maps}
    if len(kinds) != 1:
        got = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise InputError(f"intensity: one kind of map per domain is needed, got {got}; use one for all images")
    values = [dataclasses.asdict(cast(Any, one)) for one in maps]
    return cast(Any, type(maps[0]))(**{name: _median([one[name] for one in values]) for name in values[0]})  # type: ignore[no-any-return]


def _median(values: Sequence[Any]) -> Any:
    """Of numbers, or of each place of tuples."""
    if isinstance(values[0], tuple):
        return tuple(median(place) for place in zip(*values, strict=True))
    return median(values)


def to_dict(intensity: object) -> dict[str, Any]:
    """The map (or rule) as plain values: its name in `INTENSITIES` and its fields.

    Raises:
        InputError: a class of another place; a saved map must be readable without running anybody's code.
    """
    name = _name(intensity)
    if name is None:
        raise InputError(f"intensity: {type(intensity).__name__} cannot be saved; use one of {', '.join(INTENSITIES)}")
    return {"name": name, **dataclasses.asdict(cast(Any, intensity))}


def from_dict(values: Mapping[str, Any]) -> Rule:
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


def _inside(image: Any, mask: Any) -> npt.NDArray[Any]:
    values = np.asarray(image)
    return values if mask is None else values[np.asarray(mask, dtype=bool)]


def _interpolated(x: Array, places: Sequence[float], values: Sequence[float]) -> Array:
    given = _float(x)
    if isinstance(given, np.ndarray):
        return np.asarray(np.interp(given, places, values), dtype=given.dtype)
    import torch

    plain = np.interp(given.detach().cpu().numpy(), places, values)
    return torch.as_tensor(plain, dtype=given.dtype, device=given.device)


def _float(x: Array) -> Array:
    if isinstance(x, np.ndarray):
        return x if x.dtype == np.float64 else x.astype(np.float32)
    return x if str(x.dtype) == "torch.float64" else x.float()
