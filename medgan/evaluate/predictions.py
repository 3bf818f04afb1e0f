"""Which translations there are to score, and with what each is compared: in a run, or in folders from anywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from medgan.config import InputError
from medgan.data.store import open_store, read_json
from medgan.data.volume import IMAGE_SUFFIXES
from medgan.evaluate.scoring import CaseFiles, EvaluateOptions, Pair
from medgan.rundir import Direction, RunDir

_SEGMENTATION = "_segmentation"
_PATHS = ("source", "label", "segmentation", "reference", "reference_label", "features")


class SeveralInputError(InputError):
    """Several mistakes that the user can mend, a line each."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(f"{len(lines)} mistakes:" + "".join(f"\n  {line}" for line in lines))
        self.lines = list(lines)


def refuse(mistakes: Iterable[str]) -> None:
    """Nothing, where there are no mistakes.

    Raises:
        InputError: there are some; all of them are told.
    """
    lines = list(dict.fromkeys(mistakes))
    if lines:
        raise InputError(lines[0]) if len(lines) == 1 else SeveralInputError(lines)


def translated_ways(run: RunDir) -> list[Direction]:
    """The directions in which a run has translated.

    Raises:
        InputError: none.
    """
    ways = [way for way in get_args(Direction) if (run.translate(way) / "cases.json").is_file()]
    if not ways:
        raise InputError(f"{run.path}: holds no translations; run `medgan translate {run.path}` first")
    return ways


def run_cases(run: RunDir, way: Direction, options: EvaluateOptions) -> tuple[list[CaseFiles], list[str]]:
    """The translated cases of a run, and a line for each held-out case of the store that has no translation."""
    folder = run.translate(way)
    rows = read_json(folder / "cases.json")

    def path(row: Mapping[str, Any], key: str) -> Path | None:
        if not options.references and key.startswith("reference"):
            return None
        return folder / row[key] if row.get(key) else None

    found = [
        CaseFiles(
            subject=row["subject"],
            split=row["split"],
            translation=folder / row["translation"],
            **{k: path(row, k) for k in _PATHS},
            cycle_error=row.get("cycle_error"),
        )
        for row in rows
    ]
    return found, _untranslated(run, way, found)


def _untranslated(run: RunDir, way: Direction, found: Sequence[CaseFiles]) -> list[str]:
    done = {case.subject for case in found}
    split = "test" if any(case.split == "test" for case in found) else "validation"
    held_out = [c.subject for c in open_store(run.preprocess) if c.domain == way[0] and c.split == split]
    return [
        f"{run.translate(way) / subject}.nii.gz: {split} case without a translation; run `medgan translate` again"
        for subject in held_out
        if subject not in done
    ]


def real_features(run: RunDir, way: Direction) -> dict[str, Path]:
    """Where the features of real images of the target domain lie, by subject."""
    return {path.stem: path for path in sorted((run.translate(way) / "features" / "real").glob("*.npz"))}


def training_pairs(run: RunDir) -> list[Pair]:
    """The original images of training subjects that stand in both domains; warns of those that are gone."""
    images: dict[str, dict[str, Path]] = {}
    for case in open_store(run.preprocess):
        if case.split == "train" and case.original is not None:
            images.setdefault(case.subject, {})[case.domain] = case.original
    pairs = [(both["A"], both["B"]) for both in images.values() if len(both) == 2]
    gone = [path for pair in pairs for path in pair if not path.exists()]
    if gone:
        print(
            f"medgan: {gone[0]}: image of a training pair, gone ({len(gone)} in all); no lookup table is fitted on it",
            file=sys.stderr,
        )
    return [pair for pair in pairs if all(path.exists() for path in pair)]


def folder_cases(prediction: Path, reference: Path, mask: Path | None) -> tuple[list[CaseFiles], list[str]]:
    """The volumes of a folder beside those of the same name in another, and a line for each that has no partner.

    Files whose name ends in ``_segmentation`` are label maps; every image needs a mask of its name where `mask` is a
    folder.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    predictions, references = _volumes_in(prediction), _volumes_in(reference)
    masks = _volumes_in(mask) if mask else {}
    if not predictions and not references:
        raise InputError(f"{prediction}: holds no volumes; give a folder of {', '.join(IMAGE_SUFFIXES)}")
    mistakes = _without_partner(references, predictions, f"no prediction of that name in {prediction}")
    mistakes += _without_partner(predictions, references, f"no reference of that name in {reference}")
    both = [stem for stem in predictions if stem in references]
    images = [stem for stem in both if not stem.endswith(_SEGMENTATION)]
    if mask:
        mistakes += _without_partner(
            {stem: predictions[stem] for stem in images}, masks, f"no mask of that name in {mask}"
        )
    found = []
    for stem in sorted({stem.removesuffix(_SEGMENTATION) for stem in both}):
        labels = stem + _SEGMENTATION if stem + _SEGMENTATION in both else None
        image = stem if stem in images else stem + _SEGMENTATION
        found.append(
            CaseFiles(
                subject=stem,
                split="",
                translation=predictions[image],
                reference=references[stem] if stem in images else None,
                segmentation=predictions[labels] if labels else None,
                reference_label=references[labels] if labels else None,
                mask=masks.get(stem),
            )
        )
    return found, mistakes


def _without_partner(stems: Mapping[str, Path], others: Iterable[str], what: str) -> list[str]:
    there = set(others)
    return [f"{path}: {what}; add it, or take this one away" for stem, path in stems.items() if stem not in there]


def _volumes_in(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by stem."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path")
    found = {}
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in IMAGE_SUFFIXES if path.name.lower().endswith(suffix)), None)
        if suffix:
            found[path.name[: -len(suffix)]] = path
    return found


def volumes_folder(path: Path, direction: Direction | None = None) -> Path:
    """Where the translated volumes of a run lie; any other folder is its own.

    Raises:
        InputError: a run that has translated both ways, and no `direction` to choose; or none.
    """
    if not (path / "translate").is_dir():
        return path
    run = RunDir(path)
    there = translated_ways(run)
    ways = [way for way in there if direction in (None, way)]
    if len(ways) != 1:
        raise InputError(f"{path}: has translated {' and '.join(there)}; name one of them with --direction")
    return run.translate(ways[0])
