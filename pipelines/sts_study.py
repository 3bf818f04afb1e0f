"""Synthetic CT of soft-tissue sarcomas: seg_cyclegan, cyclegan and pix2pix trained and compared, one page at the end.

    python pipelines/sts_study.py DATA/sts-half runs/sts

Writes the case tables into RUNS, a run for each recipe below it, and docs/results/sts.md with its JSON and pictures.
Each step is skipped if its result stands, so the same command goes on after an interruption.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from ct_mr_translation import console, finish, heading

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from sts_cases import read_subjects, write_table  # noqa: E402
from sts_page import MEDIAN_TABLE, TRAINED_ON, comparisons, data_facts, training_facts, write_page  # noqa: E402
from sts_pictures import draw_curves, draw_patient, read_lines  # noqa: E402
from sts_scores import (  # noqa: E402
    MERGE,
    Method,
    baseline_methods,
    files_method,
    read_patients,
    score_methods,
    truth_method,
)

from medgan.checkpoint import find_checkpoint  # noqa: E402
from medgan.cli import guarded  # noqa: E402
from medgan.config import read_yaml  # noqa: E402
from medgan.data.cases import load_cases  # noqa: E402
from medgan.data.store import read_json, write_json  # noqa: E402
from medgan.experiment import Experiment, load_experiment  # noqa: E402
from medgan.preprocess import preprocess  # noqa: E402
from medgan.rundir import RunDir, environment  # noqa: E402
from medgan.train import train  # noqa: E402


class Name(StrEnum):
    """The three trainings."""

    SEG_CYCLEGAN = "seg_cyclegan"
    CYCLEGAN = "cyclegan"
    PIX2PIX = "pix2pix"


CONFIGS = {Name.SEG_CYCLEGAN: "sts_ct_mr", Name.CYCLEGAN: "sts_cyclegan", Name.PIX2PIX: "sts_pix2pix"}
COLUMNS = (Name.CYCLEGAN, Name.SEG_CYCLEGAN, Name.PIX2PIX)  # of tables and pictures


def study(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The folder with subjects.csv.")],
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder for the case tables and the three runs.")],
    only: Annotated[Name | None, typer.Option(help="Train and evaluate one of the three.")] = None,
    page_only: Annotated[bool, typer.Option("--page-only", help="Train nothing; a page of what is finished.")] = False,
    results: Annotated[Path, typer.Option(help="Where the page, its JSON and pictures go.")] = ROOT
    / "docs"
    / "results",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes for preprocessing and scoring.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="section.key=value", help="Of each run that is trained; those of RUNS keep it."),
    ] = None,
) -> None:
    """The study from volumes to page."""
    for name in [] if page_only else [only] if only else list(Name):
        one_run(data, runs, name, overrides=overrides or [], device=device, workers=workers)
    heading("page")
    console.print(f"The page: {write_results(data, runs, results)}", highlight=False)


def one_run(
    data: Path, runs: Path, name: Name, *, overrides: list[str], device: str = "auto", workers: int = 1
) -> None:
    """One recipe from case table to report."""
    console.rule(f"[bold]{name}")
    experiment, run = (
        load_experiment(config(name), [f"data.table={_table(runs, name)}", *overrides]),
        RunDir(runs / name),
    )
    write_table(data, runs / table_name(name), paired=name is Name.PIX2PIX, merge=MERGE)
    cases = load_cases(experiment.cases, Path())
    experiment.begin(run)

    heading("preprocess")
    preprocess(experiment.cases, experiment.preprocess, Path(), run.preprocess, workers)

    heading("train")
    if not is_trained(run):  # what it ran on must not be overwritten by later verbs
        write_json(run.path / TRAINED_ON, environment(experiment.seed))
    train(experiment.recipe, experiment.train, run, seed=experiment.seed, device=device)

    finish(experiment, run, cases, pairs=fitting_pairs(data), device=device, workers=workers)


def write_results(data: Path, runs: Path, results: Path) -> Path:
    """Score all methods in one place, from the volumes that the finished runs have left; returns the page."""
    fitted, tested = read_patients(data, "train_mr"), read_patients(data, "test")
    found = {name: RunDir(runs / name) for name in COLUMNS if is_finished(RunDir(runs / name), data)}
    tables = baseline_methods(fitted)
    learnt: dict[str, Method] = {name.value: files_method(run.translate("BA")) for name, run in found.items()}
    ends: dict[str, Method] = {"real CT": truth_method}
    scores = score_methods(tables | learnt | ends, tested)

    for patient in tested:
        images = {"lookup table (median)": tables[MEDIAN_TABLE](patient).ct_hu}
        images |= {name: method(patient).ct_hu for name, method in learnt.items()}
        draw_patient(results / "sts" / f"{patient.subject}.png", patient, images)
    pictures = [f"{patient.subject}.png" for patient in tested]
    if found:
        draw_curves(results / "sts" / "curves.png", {name.value: run.train for name, run in found.items()})
        pictures.append("curves.png")
    result = {
        "data": data_facts(data),
        "command": environment(0)["command"],
        "missing": [name.value for name in COLUMNS if name not in found],
        "methods": scores,
        "comparisons": comparisons(scores),
        "trainings": {name.value: training_facts(run, plain_config(name, runs)) for name, run in found.items()},
        "pictures": pictures,
    }
    summaries: Mapping[str, Any] = {
        name.value: read_json(run.evaluate / "summary.json")
        for name, run in found.items()
        if (run.evaluate / "summary.json").exists()
    }
    return write_page(results, result, summaries)


def is_trained(run: RunDir) -> bool:
    """Whether a run has seen all its steps."""
    losses = read_lines(run.train / "losses.jsonl")
    done = losses[-1]["step"] if losses else 0
    return run.checkpoint("last").exists() and done >= read_yaml(run.experiment_yaml)["train"]["num_steps"]


def is_finished(run: RunDir, data: Path) -> bool:
    """Whether a run is trained and has since translated the MR of every test patient."""
    tested = [row["subject"] for row in read_subjects(data) if row["role"] == "test"]
    files = [run.translate("BA") / f"{subject}.nii.gz" for subject in tested]
    if not is_trained(run) or not all(file.exists() for file in files):
        return False
    weights = find_checkpoint(run, read_yaml(run.experiment_yaml)["translate"]["checkpoint"])
    return all(file.stat().st_mtime >= weights.stat().st_mtime for file in files)


def fitting_pairs(data: Path) -> list[tuple[Path, Path]]:
    """CT and MR of the `train_mr` patients, to fit lookup tables on."""
    return [
        (data / row["subject"] / row["ct"], data / row["subject"] / row["t1"])
        for row in read_subjects(data)
        if row["role"] == "train_mr"
    ]


def config(name: Name) -> Path:
    """The configuration of one of the three."""
    return ROOT / "configs" / f"{CONFIGS[name]}.yaml"


def table_name(name: Name) -> str:
    """The case table of one of the three."""
    return "cases_paired.csv" if name is Name.PIX2PIX else "cases.csv"


def plain_config(name: Name, runs: Path) -> dict[str, Any]:
    """The configuration as its file has it, every default written out."""
    experiment: Experiment = load_experiment(config(name), [f"data.table={_table(runs, name)}"])
    return experiment.model_dump(mode="json")


def _table(runs: Path, name: Name) -> str:
    """The case table as seen from configs/."""
    return Path(os.path.relpath(runs.resolve() / table_name(name), ROOT / "configs")).as_posix()


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(study)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
