"""Folders in the layouts of others: nnU-Net v2 raw datasets, the Medical Segmentation Decathlon, BIDS.

Isensee et al., nnU-Net, documentation/dataset_format.md; Antonelli et al., "The Medical Segmentation Decathlon", 2022;
Gorgolewski et al., "The brain imaging data structure", 2016, https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.config import InputError, suggest
from medgan.data.volume import IMAGE_SUFFIXES

_NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Listed:
    """One image of a folder: the patient as the folder names it, the image, and its label map if there is one."""

    subject: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Listing:
    """What a folder holds of one modality: its images, and what label values mean."""

    layout: str
    images: list[Listed]
    classes: dict[int, str]


def list_folder(folder: Path, what: str = "") -> Listing:
    """The images of one modality in a folder of any of the layouts, those that are held out left out.

    Args:
        folder: holds ``dataset.json``, or subjects ``sub-*``.
        what: channel or modality by number or name; of BIDS the suffix, such as T1w, or ses-01_T1w. May be left out
            where there is one only.

    Raises:
        InputError: none of the layouts, no such channel, several images of one patient, a file that is listed and
            missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder that holds dataset.json, or sub-* of BIDS")
    for layout, (fits, read) in LAYOUTS.items():
        if fits(folder):
            images, classes = read(folder, what)
            _refuse(folder, images)
            return Listing(layout, sorted(images, key=lambda one: one.subject), classes)
    raise InputError(f"{folder}: neither nnU-Net nor decathlon (no dataset.json that says so) nor BIDS (no sub-*)")


def _refuse(folder: Path, images: list[Listed]) -> None:
    if not images:
        raise InputError(f"{folder}: lists no images of this kind; check what comes after the colon")
    for one in images:
        for path in filter(None, (one.image, one.label)):
            if not path.is_file():
                raise InputError(f"{path}: no such file, but {folder} lists it; restore it, or mend dataset.json")
    subjects = [one.subject for one in images]
    twice = next((subject for subject in subjects if subjects.count(subject) > 1), None)
    if twice is not None:
        names = ", ".join(one.image.name for one in images if one.subject == twice)
        raise InputError(f"{folder}: {twice} has several images ({names}); say which, as in {folder.name}:ses-01_T1w")


def _description(folder: Path) -> Mapping[str, Any]:
    path = folder / "dataset.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        raise InputError(f"{path}: not JSON, or cut short; mend it") from None
    return told if isinstance(told, dict) else {}


def _inside(folder: Path, name: str) -> Path:
    """A file that a description names, which must lie in its folder."""
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise InputError(f"{folder / 'dataset.json'}: names {name}, outside its folder; mend it")
    return path


def _channel(place: Path, channels: Mapping[str, str], what: str) -> int:
    """The number of a channel that is told by number or name, or is the only one."""
    if not what and len(channels) == 1:
        return int(next(iter(channels)))
    by_name = {name.lower(): number for number, name in channels.items()}
    number = what if what in channels else by_name.get(what.lower())
    if number is None:
        has = ", ".join(f"{number} {name}" for number, name in channels.items())
        told = (
            f"no channel '{what}'; {suggest(what, list(channels.values()))}" if what else f"channels {has}; say which"
        )
        raise InputError(f"{place}: {told}, as in {place.name}:{next(iter(channels.values()))}")
    return int(number)


def _is_nnunet(folder: Path) -> bool:
    return "channel_names" in _description(folder)


def _nnunet(folder: Path, what: str) -> tuple[list[Listed], dict[int, str]]:
    told = _description(folder)
    channel = _channel(folder, {str(key): str(name) for key, name in told["channel_names"].items()}, what)
    ending = str(told.get("file_ending", ".nii.gz"))
    if ending.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{folder}: images end in {ending}, which is not read; convert them to .nii.gz")
    tail, images = f"_{channel:04d}{ending}", []
    for path in sorted((folder / "imagesTr").glob(f"*{tail}")):
        subject = path.name.removesuffix(tail)
        label = folder / "labelsTr" / f"{subject}{ending}"
        images.append(Listed(subject, path, label if label.is_file() else None))
    named = {
        name: value for name, value in told.get("labels", {}).items() if isinstance(value, int) and name != "ignore"
    }
    return images, {value: str(name) for name, value in sorted(named.items(), key=lambda item: item[1])}


def _is_decathlon(folder: Path) -> bool:
    told = _description(folder)
    return "modality" in told and isinstance(told.get("training"), list)


def _decathlon(folder: Path, what: str) -> tuple[list[Listed], dict[int, str]]:
    told = _description(folder)
    modalities = {str(key): str(name) for key, name in told["modality"].items()}
    if len(modalities) > 1:
        raise InputError(f"{folder}: {len(modalities)} modalities in one 4D file; split them into files of one first")
    _channel(folder, modalities, what)
    images = []
    for row in told["training"]:
        image, label = str(row["image"]), row.get("label")
        subject = next((Path(image).name.removesuffix(end) for end in _NIFTI if image.endswith(end)), Path(image).stem)
        images.append(Listed(subject, _inside(folder, image), _inside(folder, str(label)) if label else None))
    return images, {int(value): str(name) for value, name in told.get("labels", {}).items()}


def _is_bids(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.glob("sub-*"))


def _bids(folder: Path, what: str) -> tuple[list[Listed], dict[int, str]]:
    """Raw images whose name holds all parts of `what`, and the one ``dseg`` of the patient in derivatives, if any."""
    found = [path for path in sorted(folder.glob("sub-*/**/*")) if path.name.endswith(_NIFTI)]
    suffixes = sorted({_parts(path)[-1] for path in found})
    if not what and len(suffixes) != 1:
        raise InputError(f"{folder}: images {', '.join(suffixes)}; say which, as in {folder.name}:{suffixes[0]}")
    wanted = set(what.split("_")) if what else {suffixes[0]}
    chosen = [path for path in found if wanted <= set(_parts(path))]
    if not chosen:
        raise InputError(f"{folder}: no image '{what}'; {suggest(what, suffixes)}")
    maps = [path for path in sorted(folder.glob("derivatives/**/sub-*_dseg.*")) if path.name.endswith(_NIFTI)]
    images = []
    for path in chosen:
        subject = _parts(path)[0]
        of_subject = [one for one in maps if _parts(one)[0] == subject]
        alike = [one for one in of_subject if {f"space-{suffix}" for suffix in wanted} & set(_parts(one))] or of_subject
        images.append(Listed(subject, path, alike[0] if len(alike) == 1 else None))
    return images, {}


def _parts(path: Path) -> list[str]:
    """``sub-01_ses-02_T1w.nii.gz`` as its entities and its suffix."""
    return next(path.name.removesuffix(end) for end in _NIFTI if path.name.endswith(end)).split("_")


_Reads = Callable[[Path, str], tuple[list[Listed], dict[int, str]]]
LAYOUTS: dict[str, tuple[Callable[[Path], bool], _Reads]] = {
    "nnU-Net": (_is_nnunet, _nnunet),
    "decathlon": (_is_decathlon, _decathlon),
    "BIDS": (_is_bids, _bids),
}
