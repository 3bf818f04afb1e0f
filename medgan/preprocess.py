"""Orient, resample, crop and normalise every case once, so that training only reads.

`prepare_input` is the way from a volume to what a network sees; translation takes the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, field_validator
from rich.progress import track

from medgan.config import Component, InputError, StrictModel, bind, validate
from medgan.data.cases import Case, DataOptions, Domain, load_cases
from medgan.data.intensity import INTENSITIES, FixedRange, HounsfieldWindow, Intensity, from_dict, to_dict, typical
from medgan.data.store import StoredCase, open_store, read_json, write_case, write_index
from medgan.data.transforms import Prepared, prepare
from medgan.data.volume import Volume, read_volume
from medgan.rundir import RunDir

CT_BODY_THRESHOLD_HU = -300.0
CT_AIR_HU = -1000.0
_DARKEST_BODY = np.float32(-0.998)  # -1 itself is background and nothing else; 1.3 HU in a window of 2500 HU
_FORMAT = 4  # raised when equal inputs come out differently: stored cases are then made anew


class PreprocessOptions(StrictModel):
    """The `preprocess:` section: the grid that networks work on."""

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

    def measure(self, prepared: Prepared) -> FixedRange | HounsfieldWindow:
        """The intensity map of one image, looked for in its body."""
        return from_dict(self.rule).measure(prepared.image, prepared.body)


def prepare_input(volume: Volume, domain: PreparedDomain) -> tuple[Prepared, Intensity]:
    """A volume as networks see it, in [-1, 1], and the intensity map that leads back to its stored units.

    Raises:
        InputError: there is no body in the volume, or one value only.
    """
    prepared = _placed(volume, None, domain)
    intensity = _measured(prepared, domain, volume)
    return _normalized(prepared, domain, intensity, prepared.body), intensity


def _placed(volume: Volume, label: Volume | None, domain: PreparedDomain) -> Prepared:
    """On the working grid, still whole and in stored units."""
    return prepare(
        volume,
        label,
        orientation=domain.preprocess.orientation,
        spacing_mm=domain.preprocess.spacing_mm,
        threshold=domain.body_threshold,
        background=CT_AIR_HU if domain.modality == "ct" else None,
    )


def _measured(prepared: Prepared, domain: PreparedDomain, volume: Volume) -> FixedRange | HounsfieldWindow:
    try:
        return domain.measure(prepared)
    except InputError as error:
        raise InputError(f"{volume.path or 'volume'}: {error}") from None


def _normalized(prepared: Prepared, domain: PreparedDomain, intensity: Intensity, box: NDArray[np.bool_]) -> Prepared:
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


def preprocess(data: DataOptions, options: PreprocessOptions, root: Path, out: Path, workers: int = 1) -> None:
    """Write a store (`medgan.data.store`) of all cases to `out`; cases that are there and unchanged are left alone.

    A subject with an image on one and the same grid in both domains is cropped to the same box in both, so that pairs
    stay pairs. The typical intensity map of a domain is the median of its training images.

    Args:
        data: which cases there are.
        options: the working grid.
        root: where relative paths of `data` start.
        out: folder of the store, ``RUN/preprocess``.
        workers: processes.

    Raises:
        InputError: a case that cannot be read, placed or normalised, label values that are no classes, or a patient
            that has moved between splits since the run was trained.
    """
    cases = load_cases(data, root)
    if RunDir(out.parent).is_trained and (out / "cases.json").is_file():
        _refuse_moves(open_store(out), cases)
    if not data.classes:
        cases = [replace(case, label=None) for case in cases]
    domains = {side: PreparedDomain.of(domain, options) for side, domain in (("A", data.A), ("B", data.B))}
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.subject].append(case)
    jobs = (delayed(_preprocess_subject)(group, domains, data.classes, out) for group in groups.values())
    done = Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)
    for _ in track(done, description="preprocess", total=len(groups)):
        pass
    stored = [StoredCase(case.subject, case.domain, case.split, _folder(case, out), case.image) for case in cases]
    for side in domains:
        domains[side] = _summary(domains[side], [case for case in stored if case.domain == side])
    write_index(out, stored, {side: domain.model_dump(mode="json") for side, domain in domains.items()})


def _refuse_moves(stored: Sequence[StoredCase], cases: Sequence[Case]) -> None:
    """What a run was trained on stays what it was, and nobody held out then is anything else now."""
    before = {(case.subject, case.domain): case.split for case in stored}
    now: dict[tuple[str, str], str] = {(case.subject, case.domain): case.split for case in cases}
    for subject, domain in dict.fromkeys([*before, *now]):
        was, is_now = before.get((subject, domain)), now.get((subject, domain))
        if was != is_now and ("train" in (was, is_now) or (was and is_now)):
            raise InputError(
                f"data: {subject} (domain {domain}) was {was or 'absent'} when the run was trained, is "
                f"{is_now or 'absent'}; give every patient its old split, or name another run folder"
            )


def _summary(domain: PreparedDomain, cases: Sequence[StoredCase]) -> PreparedDomain:
    """The domain with what its training cases (all cases, if none is for training) have in common."""
    seen = [case for case in cases if case.split == "train"] or cases
    x, y, z = np.median([case.meta["spacing_mm"] for case in seen], axis=0).tolist()
    values = {
        **domain.model_dump(),
        "intensity": to_dict(typical([cast(Intensity, from_dict(case.meta["intensity"])) for case in seen])),
        "spacing_mm": (x, y, z),
    }
    return validate(PreparedDomain, values)


def _folder(case: Case, out: Path) -> Path:
    return out / case.domain / case.subject


def _preprocess_subject(
    group: Sequence[Case], domains: dict[str, PreparedDomain], classes: dict[int, str], out: Path
) -> None:
    """All images of one subject, unless they stand there already."""
    fingerprint = _fingerprint(group, domains, classes)
    if all(_is_unchanged(_folder(case, out), fingerprint) for case in group):
        return
    volumes = [read_volume(case.image, dtype=np.float32) for case in group]
    placed = [
        _placed(volume, _labels(case, classes), domains[case.domain])
        for case, volume in zip(group, volumes, strict=True)
    ]
    if (
        len(placed) == 2
        and placed[0].undo == placed[1].undo
        and np.allclose(placed[0].affine, placed[1].affine, atol=1e-2)
    ):
        common = placed[0].body & placed[1].body  # a pair teaches where both images show the body, and nowhere else
        placed = [replace(one, body=common) for one in placed] if common.any() else placed
    for case, volume, one in zip(group, volumes, placed, strict=True):
        intensity = _measured(one, domains[case.domain], volume)
        result = _normalized(one, domains[case.domain], intensity, one.body)
        meta = {
            "fingerprint": fingerprint,
            "spacing_mm": list(result.spacing_mm),
            "affine": result.affine.tolist(),
            "undo": result.undo.to_dict(),
            "intensity": to_dict(intensity),
        }
        write_case(_folder(case, out), image=result.image, label=result.label, body=result.body, meta=meta)


def _labels(case: Case, classes: dict[int, str]) -> Volume | None:
    if case.label is None:
        return None
    label = read_volume(case.label, dtype=np.int16)
    strange = sorted({int(value) for value in np.unique(label.array)} - set(classes) - {-1})
    if strange:
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise InputError(f"{case.label}: label values {shown} are no classes; name them in data.classes or relabel")
    return label


def _fingerprint(group: Sequence[Case], domains: dict[str, PreparedDomain], classes: dict[int, str]) -> str:
    """Changes with the settings and with the name, size or time of any file read."""
    parts: list[Any] = [_FORMAT, sorted(classes)]
    for case in group:
        parts.append([case.domain, domains[case.domain].model_dump(mode="json", exclude={"name"})])
        for path in (case.image, case.label):
            parts.append(None if path is None else [_stamp(file) for file in _files(path)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    """The file, the files of a DICOM folder, or a detached header and its neighbours of the same stem."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return sorted(path.parent.glob(f"{path.stem}.*")) if path.suffix.lower() in (".nhdr", ".mhd") else [path]


def _stamp(file: Path) -> list[Any]:
    status = file.stat()
    return [file.name, status.st_size, status.st_mtime_ns]


def _is_unchanged(folder: Path, fingerprint: str) -> bool:
    return (folder / "case.json").is_file() and read_json(folder / "case.json").get("fingerprint") == fingerprint
