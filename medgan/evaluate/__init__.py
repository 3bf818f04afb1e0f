"""Measure translations against the truth: per case in ``cases.csv``, over patients in ``summary.json``.

Reads files, not models. `evaluate_run` follows what `medgan translate` wrote into a run, `evaluate_folders` compares
two folders of volumes from anywhere, `evaluate_several` several runs or folders with each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track

from medgan.config import InputError, read_yaml, validate
from medgan.data.store import read_domains
from medgan.data.volume import read_volume
from medgan.distances import distances, distances_table, read_features
from medgan.evaluate.comparison import compare, comparison_table, write_comparison
from medgan.evaluate.predictions import (
    SeveralInputError,
    folder_cases,
    real_features,
    refuse,
    run_cases,
    training_pairs,
    translated_ways,
    volumes_folder,
)
from medgan.evaluate.scoring import CaseFiles, CaseResult, EvaluateOptions, Pair, Scoring, Side, fit_tables, score_case
from medgan.evaluate.summary import direction_summary, presets_table, summary_table, write_summary
from medgan.rundir import Direction, RunDir

__all__ = [
    "EvaluateOptions",
    "comparison_table",
    "distances_table",
    "evaluate_folders",
    "evaluate_run",
    "evaluate_several",
    "presets_table",
    "summary_table",
    "volumes_folder",
]


def evaluate_run(
    run: RunDir | Path | str,
    options: EvaluateOptions | None = None,
    *,
    pairs: Sequence[Pair] = (),
    direction: Direction | None = None,
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
        direction: the only one to score; None: all.
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
    ways = [way for way in translated_ways(run) if direction in (None, way)]
    if not ways:
        raise InputError(f"{run.path}: holds no translations {direction}; run `medgan translate {run.path}` first")
    found = {way: run_cases(run, way, options) for way in ways}
    mistakes = [line for _, lines in found.values() for line in lines]
    pairs = (pairs or training_pairs(run)) if options.lookup else []
    parts: dict[str, Any] = {}
    for way, (cases, _) in found.items():
        source, target = sides[way[0]], sides[way[1]]
        scoring = Scoring(source, target, classes, options)
        if pairs and any(case.reference for case in cases):
            ordered = pairs if way == "AB" else [(b, a) for a, b in pairs]
            scoring = Scoring(source, target, classes, options, fit_tables(scoring, ordered))
        results = _score_all(cases, scoring, run.evaluate / way, workers, f"evaluate {way}")
        mistakes += [line for result in results for line in result.mistakes]
        parts[way] = direction_summary(scoring, results, run.path, f"{source.name} to {target.name}")
    refuse(mistakes)
    for way, (cases, _) in found.items():
        if any(case.features for case in cases):
            parts[way]["distances"] = _distances(cases, real_features(run, way), parts[way]["title"])
    return write_summary(run.evaluate, parts, classes, options)


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
        InputError: see `evaluate_run`; also a volume without partner.
    """
    options = (options or EvaluateOptions()).model_copy(update={"mask": "none"})
    found, mistakes = folder_cases(prediction, reference, mask)
    side = Side("reference", "other")
    classes = _classes_in(found)
    _check_names(options, [side.name], classes)
    scoring = Scoring(side, side, classes, options)
    results = _score_all(found, scoring, None, workers, "evaluate")
    refuse([*mistakes, *(line for result in results for line in result.mistakes)])
    parts = {"prediction": direction_summary(scoring, results, out, "prediction to reference")}
    return write_summary(out, parts, classes, options)


def evaluate_several(
    predictions: Sequence[Path],
    output: Path,
    *,
    reference: Path | None = None,
    mask: Path | None = None,
    options: Sequence[EvaluateOptions] | None = None,
    direction: Direction | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Score several runs or folders on the same cases and compare them pairwise, see `comparison.compare`.

    Args:
        predictions: without `reference` runs, each scored into its own ``evaluate`` folder as by `evaluate_run`; with
            it folders of volumes, or runs whose translations are taken, each scored into ``output/<name>``.
        output: the folder for ``comparison.json`` and ``comparison.csv``.
        reference: a folder with the truth, same names.
        mask: a folder of masks, same names; only with `reference`.
        options: one for each; None: the section of each run, or the defaults.
        direction: which of the runs' translations; None: all (with `reference`: the only one).
        workers: processes.

    Returns:
        The contents of ``comparison.json``.

    Raises:
        InputError: what any of them cannot be scored for, all in one list; sets that are not of the same cases, or
            that were not scored alike.
    """
    chosen: Sequence[EvaluateOptions | None] = options or [None] * len(predictions)
    names = _names(predictions)
    jobs: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, path, one in zip(names, predictions, chosen, strict=True):
        jobs[name] = _job(path, output / name.replace("/", "_"), one, reference, mask, direction, workers)
    summaries: dict[str, Mapping[str, Any]] = {}
    mistakes: list[str] = []
    for name, job in jobs.items():
        try:
            summaries[name] = job()
        except InputError as mistake:
            mistakes += mistake.lines if isinstance(mistake, SeveralInputError) else [str(mistake)]
    refuse(mistakes)
    comparison = compare(summaries)
    write_comparison(output, comparison)
    return comparison


def _job(
    path: Path,
    out: Path,
    options: EvaluateOptions | None,
    reference: Path | None,
    mask: Path | None,
    direction: Direction | None,
    workers: int,
) -> Callable[[], dict[str, Any]]:
    if reference is None:
        return lambda: evaluate_run(path, options, direction=direction, workers=workers)
    return lambda: evaluate_folders(volumes_folder(path, direction), reference, out, mask, options, workers=workers)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart, at least the last part."""
    parts = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"evaluate: {paths[0]} stands twice; name each once")


def _distances(cases: Sequence[CaseFiles], reals: Mapping[str, Path], title: str) -> dict[str, Any] | None:
    """Distances of features, where translate left enough of them; else says why there are none."""
    read = {case.subject: read_features(case.features) for case in cases if case.features}
    real = {subject: read_features(path)["real"] for subject, path in reals.items()}
    try:
        return distances(read, real)
    except ValueError as reason:
        print(f"medgan: {title}: {reason}; none are given", file=sys.stderr)
        return None


def _classes_in(cases: Sequence[CaseFiles]) -> dict[int, str]:
    """The label values above 0 of all label maps, named by themselves; what cannot be read is told by its score."""
    values: set[int] = set()
    for case in cases:
        for path in filter(None, (case.segmentation, case.reference_label)):
            try:
                values |= {int(value) for value in np.unique(read_volume(path, dtype=np.int32).array)}
            except InputError:
                continue
    return {value: str(value) for value in sorted(values) if value > 0}


def _check_names(options: EvaluateOptions, names: Sequence[str], classes: Mapping[int, str]) -> None:
    given = [(f"evaluate.regions.{name}.domain", region.domain) for name, region in options.regions.items()]
    given += [(f"evaluate.data_range.{name}", name) for name in options.data_range]
    for place, name in given:
        if name not in names:
            raise InputError(f"{place}: no domain named '{name}'; known: {', '.join(names)}")
    for name in options.regions:
        if name in classes.values():
            raise InputError(f"evaluate.regions.{name}: is also the name of a class; rename the region")


def _score_all(
    cases: Sequence[CaseFiles], scoring: Scoring, masks: Path | None, workers: int, title: str
) -> list[CaseResult]:
    jobs = (delayed(score_case)(case, scoring, masks) for case in cases)
    done = Parallel(n_jobs=workers, return_as="generator")(jobs)
    return list(track(done, description=title, total=len(cases)))
