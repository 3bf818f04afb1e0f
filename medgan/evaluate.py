"""Measure translations against the truth: per case in ``cases.csv``, over patients in ``summary.json``.

Reads files, not models. `evaluate_run` follows what `medgan translate` wrote into a run, `evaluate_folders` compares
two folders of volumes from anywhere.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track

from medgan.config import InputError, read_yaml, validate
from medgan.data.store import open_store, read_domains, read_json, write_json
from medgan.data.volume import IMAGE_SUFFIXES, read_volume
from medgan.metrics.statistics import summarize
from medgan.rundir import Direction, RunDir
from medgan.scoring import CaseFiles, CaseResult, EvaluateOptions, Pair, Scoring, Side, fit_tables, score_case

__all__ = ["EvaluateOptions", "evaluate_folders", "evaluate_run", "summary_table"]

_SEGMENTATION = "_segmentation"
_FACTS = ("direction", "subject", "split", "method", "labels_of", "voxels")


def evaluate_run(
    run: RunDir | Path | str,
    options: EvaluateOptions | None = None,
    *,
    pairs: Sequence[Pair] = (),
    workers: int = 1,
) -> dict[str, Any]:
    """Score what `medgan translate` wrote into a run, in each direction that it translated.

    A case with a reference (the subject's own image of the target domain, on the same grid) gets image metrics; any
    labelled case gets Dice and HD95 of what the segmentor read off its translation, against the reference's labels or,
    without a reference, against the source's: whether the translation kept the anatomy.

    Args:
        run: folder of the run.
        options: None takes the `evaluate:` section of the run.
        pairs: registered images (A, B) to fit lookup tables on; the default is the training pairs of the run, if any.
        workers: processes.

    Returns:
        The contents of ``evaluate/summary.json``; ``evaluate/cases.csv`` and a mask per case are written beside it.

    Raises:
        InputError: a translation, image or label map that is missing, broken or on another grid, NaN where it is
            scored, an empty mask: all of them are listed, and no table is written.
    """
    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    settings = read_yaml(run.experiment_yaml) if run.experiment_yaml.is_file() else {}
    if options is None:
        options = validate(EvaluateOptions, settings.get("evaluate", {}), "evaluate")
    classes = {int(k): str(v) for k, v in (settings.get("data", {}).get("classes") or {}).items() if int(k) > 0}
    sides = {side: Side.of(facts) for side, facts in read_domains(run.preprocess).items()}
    _check_names(options, [side.name for side in sides.values()], classes)
    directions = [way for way in get_args(Direction) if (run.translate(way) / "cases.json").is_file()]
    if not directions:
        raise InputError(f"{run.path}: holds no translations; run `medgan translate {run.path}` first")
    found = {way: _case_files(run, way, options) for way in directions}
    mistakes = [line for way in directions for line in _untranslated(run, way, found[way])]
    pairs = (pairs or _training_pairs(run)) if options.lookup else []
    parts: dict[str, Any] = {}
    for way in directions:
        source, target = sides[way[0]], sides[way[1]]
        scoring = Scoring(source, target, classes, options)
        if pairs and any(case.reference for case in found[way]):
            ordered = pairs if way == "AB" else [(b, a) for a, b in pairs]
            scoring = Scoring(source, target, classes, options, fit_tables(scoring, ordered))
        results = _score_all(found[way], scoring, run.evaluate / way, workers, f"evaluate {way}")
        mistakes += [line for result in results for line in result.mistakes]
        parts[way] = _part(scoring, results, run.path, f"{source.name} to {target.name}")
    _refuse(mistakes)
    return _write(run.evaluate, parts, classes, options)


def evaluate_folders(
    prediction: Path,
    reference: Path,
    out: Path,
    mask: Path | None = None,
    options: EvaluateOptions | None = None,
    *,
    workers: int = 1,
) -> dict[str, Any]:
    """Score the volumes of one folder against those of the same name in another, in the mask of the same name.

    Files whose name ends in ``_segmentation`` are compared as label maps. Without `mask` the whole volume counts.

    Returns:
        The contents of ``out/summary.json``.

    Raises:
        InputError: see `evaluate_run`.
    """
    options = options or EvaluateOptions()
    predictions, references = _volumes_in(prediction), _volumes_in(reference)
    masks = _volumes_in(mask) if mask else {}
    mistakes = [
        f"{path}: no prediction of that name in {prediction}"
        for stem, path in references.items()
        if stem not in predictions
    ]
    mistakes += [
        f"{path}: no reference of that name in {reference}"
        for stem, path in predictions.items()
        if stem not in references
    ]
    images = [stem for stem in predictions if not stem.endswith(_SEGMENTATION) and stem in references]
    maps = [stem for stem in predictions if stem.endswith(_SEGMENTATION) and stem in references]
    if mask:
        mistakes += [f"{predictions[stem]}: no mask of that name in {mask}" for stem in images if stem not in masks]
    _refuse(mistakes)
    found = []
    for stem in sorted({*images, *(stem.removesuffix(_SEGMENTATION) for stem in maps)}):
        labels = stem + _SEGMENTATION if stem + _SEGMENTATION in maps else None
        image = predictions[stem] if stem in images else predictions[stem + _SEGMENTATION]
        found.append(
            CaseFiles(
                subject=stem,
                split="",
                translation=image,
                reference=references[stem] if stem in images else None,
                segmentation=predictions[labels] if labels else None,
                reference_label=references[labels] if labels else None,
                mask=masks.get(stem),
            )
        )
    if not found:
        raise InputError(f"{prediction}: holds no volumes; give a folder of {', '.join(IMAGE_SUFFIXES)}")
    side = Side("reference", "other")
    values = {
        int(v) for case in found for path in (case.segmentation, case.reference_label) if path for v in _labels(path)
    }
    classes = {value: str(value) for value in sorted(values) if value > 0}
    _check_names(options, [side.name], classes)
    scoring = Scoring(side, side, classes, options.model_copy(update={"mask": "none"}))
    results = _score_all(found, scoring, None, workers, "evaluate")
    _refuse([line for result in results for line in result.mistakes])
    return _write(
        out, {"prediction": _part(scoring, results, out, "prediction to reference")}, classes, scoring.options
    )


def summary_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows of a short table of a summary: per direction and method the main means and intervals."""
    wanted = ("mae", "psnr", "ssim", "dice", "hd95_mm", "missed", "spurious")
    methods = [
        (part, name, scores) for part in summary["directions"].values() for name, scores in part["methods"].items()
    ]
    columns = [metric for metric in wanted if any(scores.get(metric, {}).get("count") for _, _, scores in methods)]
    rows = [[part["title"], name, *(_cell(scores.get(metric)) for metric in columns)] for part, name, scores in methods]
    return ["direction", "method", *columns], rows


def _cell(entry: Mapping[str, Any] | None) -> str:
    if not entry or not entry["count"]:
        return "-"
    if entry["mean"] is None:  # JSON has no infinity: the PSNR of an image without error
        return f"inf (n={entry['count']})"
    interval = "" if None in (entry["low"], entry["high"]) else f" [{entry['low']:.3g}, {entry['high']:.3g}]"
    return f"{entry['mean']:.3g}{interval} (n={entry['count']})"


def _check_names(options: EvaluateOptions, names: Sequence[str], classes: Mapping[int, str]) -> None:
    given = [(f"evaluate.regions.{name}.domain", region.domain) for name, region in options.regions.items()]
    given += [(f"evaluate.data_range.{name}", name) for name in options.data_range]
    for place, name in given:
        if name not in names:
            raise InputError(f"{place}: no domain named '{name}'; known: {', '.join(names)}")
    for name in options.regions:
        if name in classes.values():
            raise InputError(f"evaluate.regions.{name}: is also the name of a class; rename the region")


def _case_files(run: RunDir, way: Direction, options: EvaluateOptions) -> list[CaseFiles]:
    folder = run.translate(way)
    rows = read_json(folder / "cases.json")

    def path(row: Mapping[str, Any], key: str) -> Path | None:
        if not options.references and key.startswith("reference"):
            return None
        return folder / row[key] if row.get(key) else None

    return [
        CaseFiles(
            subject=row["subject"],
            split=row["split"],
            translation=folder / row["translation"],
            **{k: path(row, k) for k in ("source", "label", "segmentation", "reference", "reference_label")},
        )
        for row in rows
    ]


def _untranslated(run: RunDir, way: Direction, found: Sequence[CaseFiles]) -> list[str]:
    """Held-out cases of the store that have no translation."""
    done = {case.subject for case in found}
    split = "test" if any(case.split == "test" for case in found) else "validation"
    held_out = [c.subject for c in open_store(run.preprocess) if c.domain == way[0] and c.split == split]
    return [
        f"{run.translate(way) / subject}.nii.gz: {split} case without a translation; run `medgan translate` again"
        for subject in held_out
        if subject not in done
    ]


def _training_pairs(run: RunDir) -> list[Pair]:
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


def _score_all(
    cases: Sequence[CaseFiles], scoring: Scoring, masks: Path | None, workers: int, title: str
) -> list[CaseResult]:
    jobs = (delayed(score_case)(case, scoring, masks) for case in cases)
    done = Parallel(n_jobs=workers, return_as="generator")(jobs)
    return list(track(done, description=title, total=len(cases)))


def _part(scoring: Scoring, results: Sequence[CaseResult], start: Path, title: str) -> dict[str, Any]:
    """One direction of the summary."""
    methods = list(dict.fromkeys(name for result in results for name in result.scores))
    patients = [result.files.subject for result in results]
    return {
        "title": title,
        "source": {"name": scoring.source.name, "modality": scoring.source.modality},
        "target": {"name": scoring.target.name, "modality": scoring.target.modality},
        "data_range": scoring.data_range,
        "methods": {
            method: {
                metric: asdict(summarize([r.scores.get(method, {}).get(metric, math.nan) for r in results], patients))
                for metric in _metrics(results, method)
            }
            for method in methods
        },
        "cases": [_case_entry(result, start) for result in results],
    }


def _case_entry(result: CaseResult, start: Path) -> dict[str, Any]:
    files = {key: _told(value, start) for key, value in asdict(result.files).items() if isinstance(value, Path)}
    facts = {"subject": result.files.subject, "split": result.files.split, "files": files}
    return {**facts, "labels_of": result.labels_of, "voxels": result.voxels, "methods": result.scores}


def _told(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _metrics(results: Sequence[CaseResult], method: str | None = None) -> list[str]:
    """The metrics that some case has, in the order in which they came up."""
    found = (
        metric
        for result in results
        for name, scores in result.scores.items()
        if method in (None, name)
        for metric in scores
    )
    return list(dict.fromkeys(found))


def _write(folder: Path, parts: dict[str, Any], classes: Mapping[int, str], options: EvaluateOptions) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    metrics = list(
        dict.fromkeys(
            metric
            for part in parts.values()
            for case in part["cases"]
            for scores in case["methods"].values()
            for metric in scores
        )
    )
    partial = folder / ".cases.csv"
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=[*_FACTS, *metrics], restval="")
        writer.writeheader()
        writer.writerows(_csv_rows(parts))
    partial.replace(folder / "cases.csv")
    summary = {"options": options.model_dump(mode="json"), "classes": dict(classes), "directions": parts}
    summary = _without_nan(summary)
    write_json(folder / "summary.json", summary)
    return json.loads(json.dumps(summary))  # type: ignore[no-any-return]


def _csv_rows(parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for way, part in parts.items():
        for case in part["cases"]:
            for method, scores in case["methods"].items():
                facts = {"direction": way, "subject": case["subject"], "split": case["split"], "method": method}
                facts |= {"labels_of": case["labels_of"], "voxels": case["voxels"]}
                yield facts | {name: f"{value:.6g}" for name, value in scores.items() if not math.isnan(value)}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(mistakes: Iterable[str]) -> None:
    lines = list(mistakes)
    if lines:
        raise InputError(
            lines[0] if len(lines) == 1 else f"{len(lines)} mistakes:" + "".join(f"\n  {x}" for x in lines)
        )


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


def _labels(path: Path) -> list[int]:
    return [int(value) for value in np.unique(read_volume(path, dtype=np.int32).array)]
