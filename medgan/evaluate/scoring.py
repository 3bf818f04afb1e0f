"""Score one case: its translation against its reference and its labels, in a mask.

`medgan.evaluate` finds the cases and sums them up; here is what is measured, and where.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rich.progress import track

from medgan.config import InputError, StrictModel
from medgan.data.geometry import largest_displacement_mm
from medgan.data.grid import GridMap, Triple, triple
from medgan.data.intensity import Intensity, from_dict
from medgan.data.transforms import otsu_threshold
from medgan.data.volume import Volume, read_volume, write_volume
from medgan.metrics.lookup import LookupTable, Statistic
from medgan.metrics.masks import Mask, ct_body, erode_in_plane, mr_body, smoothed
from medgan.metrics.presets import PRESETS, PresetName
from medgan.metrics.scores import image_scores, label_scores
from medgan.metrics.segmentation import dice

TRANSLATION = "translation"
CONSTANT = "one value everywhere"
_STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
_IMAGES = ("translation", "source", "reference")
_MAPS = ("label", "segmentation", "reference_label", "mask")

MaskKind = Literal["body", "common", "none"]
Scores = dict[str, float]
Pair = tuple[Path, Path]


class Region(StrictModel):
    """Part of the reference to score by itself: where it, smoothed, lies between two values."""

    domain: str = Field(description="the domain whose images, as references, it is looked for in")
    low: float | None = Field(
        None, description="stored value above which a voxel belongs to it, such as 180 HU for bone"
    )
    high: float | None = Field(None, description="stored value below which a voxel belongs to it")
    sigma_mm: float = Field(0.98, ge=0, description="of the Gaussian that smooths each slice first, against noise")

    @model_validator(mode="after")
    def _has_an_end(self) -> Region:
        if self.low is None and self.high is None:
            raise ValueError("neither low nor high; give it at least one end")
        return self

    def find(self, reference: Volume) -> Mask:
        """Where it is in `reference`, whose slices are the axial ones however it is stored."""
        axial = _axial(reference)
        image = smoothed(axial.array, axial.spacing_mm, self.sigma_mm)
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return _as_stored((image > low) & (image < high), reference)


class EvaluateOptions(StrictModel):
    """The `evaluate:` section."""

    mask: MaskKind = Field(
        "body", description="where images are compared: the source's body, the body that both show, or everywhere"
    )
    erosion_mm: float = Field(0.0, ge=0, description="rim in plane that the mask loses, where registration is worst")
    references: bool = Field(
        True, description="compare with the subject's own image of the target domain; false if they are not registered"
    )
    regions: dict[str, Region] = Field({}, description="parts by intensity to score by themselves, by name")
    data_range: dict[str, tuple[float, float]] = Field(
        {},
        description="by domain name: lowest and highest value, for PSNR and SSIM; default: the domain's intensity map",
    )
    presets: list[PresetName] = Field(
        ["default"],
        description="figures to compare images by: those of challenges, for CT in HU; medgan's own are always there",
    )
    surface_tolerance_mm: float = Field(2.0, ge=0, description="how far apart surfaces agree, for surface Dice")
    segmentation_in_mask: bool = Field(False, description="whether label maps, too, are compared inside the mask only")
    lookup: bool = Field(True, description="score lookup tables too, where there are registered pairs to fit them on")
    lookup_bins: int = Field(60, gt=0, description="of the lookup tables, over the source's intensity map")


@dataclass(frozen=True)
class Side:
    """What is known of a domain when its images are scored."""

    name: str
    modality: str
    body_threshold: float | None = None
    ends: tuple[float, float] | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Side:
        """An entry of ``domains.json``."""
        intensity = from_dict(facts["intensity"]) if facts.get("intensity") else None
        ends = intensity.ends if isinstance(intensity, Intensity) else None
        return cls(facts["name"], facts["modality"], facts.get("body_threshold"), ends)

    def body(self, image: NDArray[Any]) -> Mask:
        """Where an image of this domain shows the body; axial slices lie along its last axis."""
        if self.modality == "ct":
            return ct_body(image, -300.0 if self.body_threshold is None else self.body_threshold)
        return mr_body(image, otsu_threshold(image) if self.body_threshold is None else self.body_threshold)


@dataclass(frozen=True)
class Scoring:
    """All that scoring a case depends on, beside its files."""

    source: Side
    target: Side
    classes: Mapping[int, str]
    options: EvaluateOptions
    tables: Mapping[str, LookupTable] = field(default_factory=dict)

    @property
    def data_range(self) -> tuple[float, float] | None:
        """Lowest and highest value of the target; None: of each reference inside the mask."""
        return self.options.data_range.get(self.target.name, self.target.ends)

    def mask(self, source: Volume, reference: Volume | None) -> Mask:
        """Where to compare; the two volumes are on one grid."""
        if self.options.mask == "none":
            return np.ones(source.array.shape, dtype=bool)
        axial = _axial(source)
        mask = self.source.body(axial.array)
        if self.options.mask == "common" and reference is not None:
            mask &= self.target.body(_axial(reference).array)
        return _as_stored(erode_in_plane(mask, axial.spacing_mm, self.options.erosion_mm), source)


@dataclass(frozen=True)
class CaseFiles:
    """One translation, what it is compared with, and what `medgan translate` measured where nothing has to be compared.

    Attributes:
        features: of source and translation, see `medgan.translate.unpaired`.
        cycle_error: mean absolute error of the way back inside the body, in the stored units of the source.
    """

    subject: str
    split: str
    translation: Path
    source: Path | None = None
    label: Path | None = None
    segmentation: Path | None = None
    reference: Path | None = None
    reference_label: Path | None = None
    mask: Path | None = None
    features: Path | None = None
    cycle_error: float | None = None


@dataclass
class CaseResult:
    """The scores of one case by method, or the reasons why it has none."""

    files: CaseFiles
    scores: dict[str, Scores] = field(default_factory=dict)
    labels_of: str = ""
    voxels: int = 0
    mistakes: list[str] = field(default_factory=list)


def _axial(volume: Volume) -> Volume:
    """The volume with its axes permuted so that axial slices, which masks work on, lie along the last one."""
    order = _axial_order(volume)
    return replace(volume, array=volume.array.transpose(order), affine=volume.affine[:, [*order, 3]])


def _as_stored(mask: Mask, volume: Volume) -> Mask:
    """A mask of `_axial`'s grid on the grid of `volume`."""
    return mask.transpose(np.argsort(_axial_order(volume)))


def _axial_order(volume: Volume) -> Triple:
    return GridMap.plan(triple(volume.array.shape), volume.affine).axes


def fit_tables(scoring: Scoring, pairs: Sequence[Pair]) -> dict[str, LookupTable]:
    """A lookup table per statistic, and the median as one value everywhere, fitted where translations are scored."""
    sources, targets, masks = [], [], []
    for source_path, target_path in track(pairs, description="fit lookup tables"):
        source, target = read_volume(source_path, dtype=np.float32), read_volume(target_path, dtype=np.float32)
        problem = _grid_problem(target, source, "image that it is paired with")
        if problem:
            raise InputError(f"{problem}, or set evaluate.lookup to false")
        mask = scoring.mask(source, target)
        mask &= np.isfinite(source.array) & np.isfinite(target.array)
        sources.append(source.array[mask])
        targets.append(target.array[mask])
        masks.append(np.ones(sources[-1].shape, dtype=bool))
    if not any(part.size for part in sources):
        raise InputError("evaluate: no body in the pairs for the lookup table; set evaluate.lookup to false")
    low, high = scoring.source.ends or tuple(float(v) for v in np.percentile(np.concatenate(sources), (0.1, 99.9)))
    kinds = {f"lookup table ({statistic})": (scoring.options.lookup_bins, statistic) for statistic in _STATISTICS}
    return {
        name: LookupTable.fit(sources, targets, masks, low=low, high=high, bins=bins, statistic=statistic)
        for name, (bins, statistic) in {**kinds, CONSTANT: (1, "median")}.items()
    }


def score_case(case: CaseFiles, scoring: Scoring, masks: Path | None) -> CaseResult:
    result = CaseResult(case)
    volumes = {}
    for key in (*_IMAGES, *_MAPS):
        path = getattr(case, key)
        try:
            if path is not None:
                volumes[key] = read_volume(path, dtype=np.float32 if key in _IMAGES else np.int32)
        except InputError as mistake:
            result.mistakes.append(str(mistake))
    if result.mistakes:
        return result
    translation = volumes["translation"]
    for key, volume in volumes.items():
        problem = _grid_problem(volume, translation, "translation")
        if problem and key.startswith("reference") and case.source:
            problem += ", or set evaluate.references to false"
        result.mistakes += [problem] if problem else []
    if result.mistakes:
        return result
    mask = volumes["mask"].array > 0 if "mask" in volumes else _mask(scoring, volumes)
    result.voxels = int(mask.sum())
    if not result.voxels:
        given = f"{case.mask}: no voxel above 0; draw the mask, or leave --mask out"
        found = f"{case.source}: the mask to score in is empty; check body_threshold"
        result.mistakes.append(given if case.mask else found)
        return result
    try:
        if "reference" in volumes:
            result.scores |= _image_scores(scoring, volumes, mask)
    except ValueError as mistake:
        result.mistakes.append(f"{case.translation}: {mistake}; look at it and at {case.reference}")
        return result
    _add_label_scores(result, scoring, volumes, mask)
    if case.cycle_error is not None:
        result.scores.setdefault(TRANSLATION, {})["cycle_error"] = case.cycle_error
    if not result.scores and case.features is None:
        result.mistakes.append(
            f"{case.translation}: neither a reference nor labels to compare it with; give one of them"
        )
    elif masks is not None:
        write_volume(masks / f"{case.subject}_mask.nii.gz", mask, translation)
    return result


def _mask(scoring: Scoring, volumes: Mapping[str, Volume]) -> Mask:
    if "source" in volumes:
        return scoring.mask(volumes["source"], volumes.get("reference"))
    return np.ones(volumes["translation"].array.shape, dtype=bool)


def _image_scores(scoring: Scoring, volumes: Mapping[str, Volume], mask: Mask) -> dict[str, Scores]:
    reference = volumes["reference"]
    regions = {
        name: region.find(reference)
        for name, region in scoring.options.regions.items()
        if region.domain == scoring.target.name
    }
    labels = volumes.get("reference_label", volumes.get("label"))
    if labels is not None:
        regions |= {name: labels.array == value for value, name in scoring.classes.items()}
    inside = reference.array[mask]
    low, high = scoring.data_range or (float(np.min(inside)), float(np.max(inside)))
    images = {TRANSLATION: volumes["translation"].array}
    if "source" in volumes:
        images |= {name: table.apply(volumes["source"].array) for name, table in scoring.tables.items()}
    return {
        name: {
            **image_scores(image, reference.array, mask, high - low, regions),
            **_preset_scores(scoring, image, reference.array, mask),
        }
        for name, image in images.items()
    }


def _preset_scores(scoring: Scoring, image: NDArray[Any], reference: NDArray[Any], mask: Mask) -> Scores:
    """The figures of the challenges' presets as ``<preset>/<figure>``; none where the target is MR."""
    if scoring.target.modality == "mr":
        return {}
    return {
        f"{name}/{figure}": value
        for name in scoring.options.presets
        if name in PRESETS
        for figure, value in PRESETS[name].scores(image, reference, mask).items()
    }


def _add_label_scores(result: CaseResult, scoring: Scoring, volumes: Mapping[str, Volume], mask: Mask) -> None:
    for key, whose in (("reference_label", "reference"), ("label", "source")):
        if key in volumes and "segmentation" in volumes and scoring.classes:
            segmentation, truth = volumes["segmentation"], volumes[key]
            within = mask if scoring.options.segmentation_in_mask else None
            tolerance_mm = scoring.options.surface_tolerance_mm
            scores = label_scores(
                segmentation.array, truth.array, scoring.classes, truth.spacing_mm, within, tolerance_mm
            )
            result.scores.setdefault(TRANSLATION, {}).update(scores)
            result.labels_of = whose
            break
    if "label" in volumes and "segmentation" in volumes and scoring.classes:
        consistency = _consistency(volumes["segmentation"].array, volumes["label"].array, scoring.classes)
        result.scores[TRANSLATION]["consistency"] = consistency


def _consistency(read: NDArray[Any], drawn: NDArray[Any], classes: Iterable[int]) -> float:
    """S-consistency: mean Dice of what S reads off the translation against the source's label where it is labelled."""
    known = drawn != -1
    overlaps = [dice((read == value) & known, (drawn == value) & known) for value in classes]
    found = [overlap for overlap in overlaps if not math.isnan(overlap)]
    return sum(found) / len(found) if found else math.nan


def _grid_problem(volume: Volume, like: Volume, what: str) -> str | None:
    place = f"{volume.path}"
    if volume.array.shape != like.array.shape:
        return f"{place}: {volume.array.shape} voxels, its {what} has {like.array.shape}; resample it onto that grid"
    apart = largest_displacement_mm(volume.affine, like.affine, volume.array.shape)
    if apart > 0.1 * min(like.spacing_mm):
        return f"{place}: lies {apart:.2g} mm off its {what}; resample it onto that grid"
    return None
