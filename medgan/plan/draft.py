"""A first configuration out of nothing but a table of cases, or two folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.config import InputError
from medgan.data.cases import Case, DataOptions, Modality, load_cases, table_cases, table_domains
from medgan.data.names import named_modality
from medgan.data.volume import IMAGE_SUFFIXES, read_volume

_HU_AIR = -500.0  # what is darker somewhere was measured in HU


def draft(inputs: Sequence[Path]) -> dict[str, Any]:
    """The sections `name`, `data` and `recipe` for a CSV table, or for two folders: A, then B.

    A folder holds volumes, or ``images/`` and ``labels/``. Modalities are told by the domains' names, or else by the
    values. With labels in both domains the recipe is `seg_cyclegan`, otherwise `cyclegan`.

    Raises:
        InputError: neither a table nor two folders, no volumes, or label values with gaps.
    """
    if len(inputs) == 1 and inputs[0].suffix.lower() in (".csv", ".tsv"):
        table = inputs[0]
        names = table_domains(table)
        if len(names) != 2:
            raise InputError(f"{table}: names one domain, {names[0]}; give it images of a second one")
        data: dict[str, Any] = {"table": str(table)}
        sides = [_named(name) for name in names]
        cases = table_cases(table)
    elif len(inputs) == 2 and all(folder.is_dir() for folder in inputs):
        data = {}
        sides = [_named(folder.resolve().name) | _globs(folder) for folder in inputs]
        cases = _cases(sides)
    else:
        raise InputError("plan: give one EXPERIMENT.yaml, one CASES.csv, or two folders of volumes: A, then B")
    for side, values in zip("AB", sides, strict=True):
        values["modality"] = _modality(values["name"], [case for case in cases if case.domain == side])
        data[side] = values
    labels = [case.label for case in cases if case.label is not None]
    data["classes"] = _classes(labels)
    both = all(any(case.domain == side and case.label for case in cases) for side in "AB")
    return {
        "name": inputs[0].resolve().parent.name or "study",
        "data": data,
        "recipe": {"name": "seg_cyclegan" if both else "cyclegan"},
    }


def _named(name: str) -> dict[str, Any]:
    return {"name": name}


def _globs(folder: Path) -> dict[str, Any]:
    """Globs of a folder's images and labels."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    found = {"images": _glob(images)}
    if (folder / "labels").is_dir():
        found["labels"] = _glob(folder / "labels")
    return found


def _glob(folder: Path) -> str:
    names = [path.name.lower() for path in folder.iterdir()]
    suffix = next((end for end in IMAGE_SUFFIXES if any(name.endswith(end) for name in names)), None)
    if suffix is None:
        raise InputError(f"{folder}: no volume in this folder; give one of {', '.join(IMAGE_SUFFIXES)}")
    return str(folder / f"*{suffix}")


def _cases(sides: Sequence[dict[str, Any]]) -> list[Case]:
    a, b = ({**values, "modality": "other"} for values in sides)
    return load_cases(DataOptions.model_validate({"A": a, "B": b}), Path())


def _modality(name: str, cases: Sequence[Case]) -> Modality:
    """By the domain's name, else by whether values go down to air in HU."""
    known = named_modality(name)
    if known is not None:
        return known
    return "ct" if float(np.nanmin(read_volume(cases[0].image).array)) < _HU_AIR else "mr"


def _classes(labels: Sequence[Path]) -> dict[int, str]:
    """The values of all label maps, 0 being background."""
    values = sorted(
        {int(value) for path in labels for value in np.unique(read_volume(path, dtype=np.int16).array)} - {-1}
    )
    if values and values != list(range(len(values))):
        raise InputError(
            f"{labels[0].parent}: label values {', '.join(map(str, values))} are not 0..K-1 without gaps; renumber them"
        )
    return {value: f"class {value}" if value else "background" for value in values}
