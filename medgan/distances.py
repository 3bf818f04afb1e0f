"""How near translations are to real images as a set, without pairs: distances of features that lie in files.

`medgan translate` writes the features (`medgan.translate.unpaired`), `medgan evaluate` reads them here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.config import InputError
from medgan.metrics.distribution import fid, polynomial_mmd2, precision_recall, two_sample_test

Features = Mapping[str, NDArray[np.float32]]  # by plane, and "volume": (n, D)
SETS = ("source", "translation", "real")
_MEASURES = ("kid", "fid", "precision", "recall", "accuracy")
_MADE_FROM = "made_from"
_LEAST = 4  # samples of a set
_MOST = 2000  # samples of a set: beyond, distances only take longer
_SPLITS = 10


def write_features(path: Path, features: Mapping[str, Features], *, made_from: str = "") -> None:
    """Write the features of a case, by the image that they are of, whole or not at all; with a note of their making."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        f"{image}.{plane}": rows for image, of in features.items() for plane, rows in of.items()
    }
    arrays[_MADE_FROM] = np.array(made_from)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def read_features(path: Path) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The reverse of `write_features`.

    Raises:
        InputError: it is missing or broken.
    """
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    try:
        with np.load(path) as arrays:
            for name, rows in arrays.items():
                if name == _MADE_FROM:
                    continue
                image, _, plane = name.partition(".")
                found.setdefault(image, {})[plane] = rows
    except (OSError, ValueError, EOFError) as error:
        kind = type(error).__name__
        raise InputError(f"{path}: features that cannot be read ({kind}); run `medgan translate` again") from None
    return found


def features_made_from(path: Path) -> str:
    """The note of `write_features`; empty where the file cannot be read."""
    try:
        with np.load(path) as arrays:
            return str(arrays[_MADE_FROM])
    except (OSError, ValueError, EOFError, KeyError):
        return ""


def distances(
    cases: Mapping[str, Mapping[str, Features]], reals: Mapping[str, Features], *, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Means over random splits of the real patients, by plane, set and measure.

    In each split half of the real patients are the reference; sources, translations and the other real patients, all of
    patients outside that half and thinned to one count, are held against it. So the row ``real`` is the floor: what two
    sets of real patients of that size are apart. Measures are ``kid`` (the unbiased squared MMD of all samples),
    ``fid``, ``precision``, ``recall`` and ``accuracy`` of the nearest neighbour as two-sample test. Slices of one
    patient are alike, so accuracies count as high above the row ``real``, not above 1/2.

    Args:
        cases: by subject, the features of ``"source"`` and ``"translation"``.
        reals: by subject, the features of real images of the target domain.
        seed: of the splits and of thinning.

    Returns:
        ``[plane][set][measure]``, NaN where a set is too small; ``count`` is the mean number of samples of the set.

    Raises:
        ValueError: fewer than two real patients, or no patient outside a half to compare with.
    """
    if len(reals) < 2:
        raise ValueError(f"{len(reals)} real patients of the target domain, distances need two")
    rng = np.random.default_rng(seed)
    planes = list(next(iter(reals.values())))
    found: dict[str, dict[str, list[dict[str, float]]]] = {plane: {name: [] for name in SETS} for plane in planes}
    for _ in range(_SPLITS):
        order = rng.permutation(sorted(reals))
        half = set(order[: len(order) // 2].tolist())
        for plane in planes:
            reference = _stack([reals[name][plane] for name in sorted(half)], rng)
            others = {
                "source": [case["source"][plane] for name, case in cases.items() if name not in half],
                "translation": [case["translation"][plane] for name, case in cases.items() if name not in half],
                "real": [reals[name][plane] for name in order if name not in half],
            }
            if not all(others.values()):
                continue
            sets = {name: _stack(rows, rng) for name, rows in others.items()}
            count = min(map(len, sets.values()))
            for name, rows in sets.items():
                thinned = rows[rng.permutation(len(rows))[:count]]
                found[plane][name].append(_measures(reference, thinned, seed) | {"count": float(count)})
    if not any(split for sets_of in found.values() for split in sets_of.values()):
        raise ValueError("no translated patient outside half of the real ones; translate more patients")
    return {plane: {name: _mean(splits) for name, splits in sets_of.items()} for plane, sets_of in found.items()}


def _stack(rows: Sequence[NDArray[np.float32]], rng: np.random.Generator) -> NDArray[np.float32]:
    whole = np.concatenate(rows)
    return whole if len(whole) <= _MOST else whole[rng.choice(len(whole), _MOST, replace=False)]


def _measures(reference: NDArray[np.float32], other: NDArray[np.float32], seed: int) -> dict[str, float]:
    if min(len(reference), len(other)) < _LEAST:
        return dict.fromkeys(_MEASURES, math.nan)
    inside = precision_recall(reference, other)
    return {
        "kid": polynomial_mmd2(reference, other),
        "fid": fid(reference, other),
        "precision": inside.precision,
        "recall": inside.recall,
        "accuracy": two_sample_test(reference, other, seed=seed).accuracy,
    }


def _mean(splits: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([split[key] for split in splits])) for key in (*_MEASURES, "count")} if splits else {}


def distances_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows of a short table of the distances of a summary; no rows where it has none."""
    rows = [
        [part["title"], plane, name, *(_cell(sets[name].get(measure)) for measure in _MEASURES)]
        for part in summary["directions"].values()
        for plane, sets in (part.get("distances") or {}).items()
        for name in SETS
    ]
    return ["direction", "features of", "against real", *_MEASURES], rows


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
