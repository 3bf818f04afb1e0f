"""From two folders to translations, numbers and pictures: check, preprocess, train, translate, evaluate, report.

    python pipelines/ct_mr_translation.py configs/demo.yaml runs/demo

Each step is skipped if its result stands, so the same command goes on after an interruption. Every step is also a
command of its own: ``medgan train configs/demo.yaml runs/demo``.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medgan.check import print_check, run_check, write_check
from medgan.cli import guarded
from medgan.config import InputError
from medgan.data.cases import Case, Modality, Side, load_cases, table_cases
from medgan.evaluate import evaluate_run
from medgan.experiment import Experiment, load_experiment
from medgan.preprocess import preprocess
from medgan.report import report
from medgan.rundir import RunDir
from medgan.train import train
from medgan.train.trackers import track_report
from medgan.translate import directions, translate_run

console = Console()


def study(
    experiment_file: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The study; see configs/.")],
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    pairs: Annotated[
        Path | None, typer.Option(help="Case table of registered pairs, to fit lookup tables on for comparison.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes for preprocessing and scoring.")] = 1,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="section.key=value")] = None,
) -> None:
    """One study from files to report."""
    experiment, run = load_experiment(experiment_file, overrides or []), RunDir(run_folder)
    experiment.begin(run)
    cases = load_cases(experiment.cases, Path())

    findings_file = run.path / "check" / "findings.json"
    images = [path for case in cases for path in (case.image, case.label) if path is not None]
    if begins("check", findings_file, after=[run.experiment_yaml, *images]):
        modalities: dict[Side, Modality] = {"A": experiment.cases.A.modality, "B": experiment.cases.B.modality}
        checked = run_check(
            cases, experiment.cases.classes, modalities=modalities, deep=True, workers=workers, show_progress=True
        )
        print_check(checked.findings, checked.volumes, console)
        if checked.has_errors:
            raise InputError(f"{experiment_file}: the data have errors, listed above; mend them and start again")
        write_check(findings_file, checked.findings, checked.volumes)

    heading("preprocess")  # from here on a step looks for itself at what stands
    preprocess(experiment.cases, experiment.preprocess, Path(), run.preprocess, workers)

    heading("train")
    train(experiment.recipe, experiment.train, run, seed=experiment.seed, device=device)

    table, given = ([pairs], registered(pairs)) if pairs else ([], [])
    finish(experiment, run, cases, pairs=given, after=table, device=device, workers=workers)
    console.print(f"The report: {run.report / 'index.html'}", highlight=False)


def finish(
    experiment: Experiment,
    run: RunDir,
    cases: Sequence[Case],
    *,
    pairs: Sequence[tuple[Path, Path]],
    after: Iterable[Path] = (),
    device: str,
    workers: int,
) -> None:
    """What follows training: translate, evaluate, report. What is in `after` may have changed `pairs`."""
    heading("translate")
    translated = [
        translate_run(run, cases, direction=direction, options=experiment.translate, device=device)
        for direction in directions(run, experiment.translate.checkpoint)
    ]

    summary = run.evaluate / "summary.json"
    results = [path for index in translated for path in (index, *index.parent.glob("*.nii.gz"))]
    if begins("evaluate", summary, after=[run.experiment_yaml, *results, *after]):
        evaluate_run(run, experiment.evaluate, pairs=pairs, workers=workers)

    if begins("report", run.report / "index.html", after=[summary]):
        track_report(run, experiment.train.trackers, report(run, experiment.report))


def registered(table: Path) -> list[tuple[Path, Path]]:
    """The images (A, B) of each subject of a case table that stands in both domains."""
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    for case in table_cases(table):
        images[case.subject][case.domain] = case.image
    return [(of["A"], of["B"]) for of in images.values() if of.keys() == {"A", "B"}]


def begins(step: str, result: Path, *, after: Iterable[Path]) -> bool:
    """Whether a step has to run: its result is missing or older than something that it was made from."""
    stands = result.exists() and all(cause.stat().st_mtime <= result.stat().st_mtime for cause in after)
    heading(f"{step}: stands" if stands else step)
    return not stands


def heading(text: str) -> None:
    """Tell where the study is."""
    console.rule(f"[bold]{text}", align="left")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(study)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
