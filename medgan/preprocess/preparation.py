"""The way from a volume to what a network sees; preprocessing and translation take the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, field_validator

from medgan.config import Component, InputError, StrictModel, bind
from medgan.data.bias import BiasCorrection, BiasField, find_bias
from medgan.data.cases import Domain
from medgan.data.intensity import INTENSITIES, Intensity, Map, Nyul, from_dict, to_dict
from medgan.data.registration import Registration
from medgan.data.table import without_plates
from medgan.data.transforms import Prepared, body_mask, prepare
from medgan.data.volume import Volume

CT_BODY_THRESHOLD_HU = -300.0
CT_AIR_HU = -1000.0
_DARKEST_BODY = np.float32(-0.998)  # -1 itself is background and nothing else; 1.3 HU in a window of 2500 HU

Remember = Callable[[Callable[[], BiasField]], BiasField]


class PreprocessOptions(StrictModel):
    """The `preprocess:` section: the grid that networks work on, and what is harmonised on the way there."""

    orientation: str = Field("RAS", description="where the working axes point, such as RAS or LPS")
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="of the working grid, along its axes; null keeps each volume's own"
    )
    crop_margin_mm: float | None = Field(
        10.0, ge=0, description="kept around the body's bounding box; null crops nothing"
    )
    mask_background: bool = Field(
        True, description="whether tables, air and noise outside the body become plain background"
    )
    bias_correction: BiasCorrection | None = Field(
        None, description="N4 on MR domains, {} with its defaults; null: off. Not undone in translations"
    )
    table_mm: PositiveFloat | None = Field(
        None, description="plates in CT up to so thick are no body, even where the patient lies on them; null: off"
    )
    registration: Registration | None = Field(
        None, description="of patients with an image in both domains, {} with its defaults; null: off"
    )

    @field_validator("orientation")
    @classmethod
    def _three_directions(cls, orientation: str) -> str:
        named = [pair for pair in ("RL", "AP", "SI") for letter in orientation if letter in pair]
        if named != ["RL", "AP", "SI"] or len(orientation) != 3:
            raise ValueError(f"'{orientation}' names no three axes; write one of R/L, one of A/P and one of S/I")
        return orientation


class PreparedDomain(StrictModel):
    """All that it takes to prepare an image of a domain; an entry of ``domains.json`` and of every checkpoint."""

    name: str = Field(description="the domain's name in the configuration")
    modality: str = Field(description="ct, mr or other")
    rule: dict[str, Any] = Field(description="how the intensity map of an image is found")
    intensity: dict[str, Any] | None = Field(None, description="the typical map of the training images")
    body_threshold: float | None = Field(None, description="stored units; null: found for each image")
    spacing_mm: tuple[float, float, float] | None = Field(None, description="median of the working grids")
    preprocess: PreprocessOptions = Field(PreprocessOptions(), description="the `preprocess:` section")

    @classmethod
    def of(cls, domain: Domain, options: PreprocessOptions) -> Self:
        """A domain as configured, before any image was seen."""
        rule, values = bind(cast(Component, domain.intensity), INTENSITIES, "intensity map")
        threshold = domain.body_threshold
        return cls(
            name=domain.name,
            modality=domain.modality,
            rule=to_dict(rule(**values)),
            body_threshold=CT_BODY_THRESHOLD_HU if threshold is None and domain.modality == "ct" else threshold,
            preprocess=options,
        )

    @property
    def unlearnt(self) -> Nyul | None:
        """The rule, if it has to be learnt from training images first."""
        rule = from_dict(self.rule)
        return rule if isinstance(rule, Nyul) and rule.levels is None else None

    def measure(self, prepared: Prepared) -> Map:
        """The intensity map of one image, looked for in its body."""
        return from_dict(self.rule).measure(prepared.image, prepared.body)


def prepare_input(volume: Volume, domain: PreparedDomain) -> tuple[Prepared, Intensity]:
    """A volume as networks see it, in [-1, 1], and the intensity map that leads back to its stored units.

    Raises:
        InputError: there is no body in the volume, or one value only.
    """
    prepared = placed(corrected(volume, domain), None, domain)
    intensity = measured(prepared, domain, volume)
    return normalized(prepared, domain, intensity, prepared.body), intensity


def corrected(volume: Volume, domain: PreparedDomain, remember: Remember | None = None) -> Volume:
    """A volume without its bias field, where the domain asks for that; `remember` may know the field already."""
    options = domain.preprocess.bias_correction
    if options is None or domain.modality != "mr":
        return volume

    image = np.nan_to_num(volume.array.astype(np.float32), posinf=0.0, neginf=0.0)

    def look() -> BiasField:
        assert options is not None
        return find_bias(image, body_mask(image, domain.body_threshold), volume.spacing_mm, options)

    field = look() if remember is None else remember(look)
    return replace(volume, array=field.divide(image))


def placed(volume: Volume, label: Volume | None, domain: PreparedDomain) -> Prepared:
    """On the working grid, still whole and in stored units.

    Raises:
        InputError: there is no body in the volume.
    """
    options = domain.preprocess
    prepared = prepare(
        volume,
        label,
        orientation=options.orientation,
        spacing_mm=options.spacing_mm,
        threshold=domain.body_threshold,
        background=CT_AIR_HU if domain.modality == "ct" else None,
    )
    if options.table_mm is None or domain.modality != "ct":
        return prepared
    axial_axis = next(i for i, letter in enumerate(options.orientation) if letter in "SI")
    return replace(prepared, body=without_plates(prepared.body, prepared.spacing_mm, options.table_mm, axial_axis))


def measured(prepared: Prepared, domain: PreparedDomain, volume: Volume) -> Map:
    """The intensity map of one image, which `volume` was; see `PreparedDomain.measure`."""
    try:
        return domain.measure(prepared)
    except InputError as error:
        raise InputError(f"{volume.path or 'volume'}: {error}") from None


def normalized(prepared: Prepared, domain: PreparedDomain, intensity: Intensity, box: NDArray[np.bool_]) -> Prepared:
    """Cropped to the bounding box of a mask, in [-1, 1], -1 outside the body if that is masked.

    What a label map shows there, on another modality's word, the image does not: it becomes unlabelled.
    """
    if domain.preprocess.crop_margin_mm is not None:
        prepared = prepared.cropped(box, domain.preprocess.crop_margin_mm)
    image = intensity.normalize(prepared.image)
    image = np.where(prepared.body, np.maximum(image, _DARKEST_BODY), image)
    if domain.preprocess.mask_background:
        image = np.where(prepared.body, image, np.float32(-1))
        if prepared.label is not None:
            prepared = replace(prepared, label=np.where(prepared.body | (prepared.label == 0), prepared.label, -1))
    return replace(prepared, image=image)
