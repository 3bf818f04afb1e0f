"""The S-score of a run: how well a segmentor that has seen real images only reads its translations.

    python pipelines/s_score.py configs/demo.yaml runs/demo runs/demo_judge --direction BA

Zhang, Yang and Zheng, "Translating and Segmenting Multimodal Medical Volumes with Cycle- and Shape-Consistency
Generative Adversarial Network", 2018. The judge, recipe `segmentation`, is trained on the target domain's training
patients with the study's own splits, preparation and patches, into a run of its own; then it reads the labels off the
run's translations, in the place of the run's own segmentor, and `medgan evaluate` scores them. Given again, the command
goes on where it stopped.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from medgan.cli import guarded
from medgan.config import InputError, validate
from medgan.data.cases import load_cases
from medgan.data.store import relative_path
from medgan.evaluate import evaluate_run, summary_table
from medgan.experiment import Experiment, load_experiment
from medgan.preprocess import preprocess
from medgan.recipes import Direction
from medgan.rundir import RunDir
from medgan.train import train
from medgan.translate import translate_run

console = Console()


def s_score(
    experiment_file: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The study of RUN.")],
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run to judge.")],
    judge_folder: Annotated[Path, typer.Argument(metavar="JUDGE", help="The judge's own run.")],
    direction: Annotated[str, typer.Option(metavar="AB|BA", help="Whose translations.")] = "AB",
    num_steps: Annotated[int | None, typer.Option(help="Of the judge's training; else the study's.", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes for preprocessing and scoring.")] = 1,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="section.key=value")] = None,
) -> None:
    """Train the judge, let it read the translations, score what it read."""
    if direction not in ("AB", "BA"):
        raise InputError(f"--direction {direction}: unknown; AB or BA")
    way = cast(Direction, direction)
    study, run, judge = load_experiment(experiment_file, overrides or []), RunDir(run_folder), RunDir(judge_folder)
    judging = judge_of(study, way, judge.path, num_steps)
    judging.begin(judge)
    preprocess(judging.cases, judging.preprocess, Path(), judge.preprocess, workers)
    train(judging.recipe, judging.train, judge, seed=judging.seed, device=device)
    cases = load_cases(study.cases, Path())
    translate_run(run, cases, direction=way, options=study.translate, device=device, segmentor=judge)
    columns, rows = summary_table(evaluate_run(run, study.evaluate, direction=way, workers=workers))
    wanted = [columns.index(name) for name in ("direction", "method", "dice", "missed") if name in columns]
    for row in [columns, *rows]:
        console.print("  ".join(row[index] for index in wanted), highlight=False)


def judge_of(study: Experiment, direction: Direction, folder: Path, num_steps: int | None = None) -> Experiment:
    """The experiment that trains the judge: the target domain in the place of A, the recipe `segmentation`.

    A case table with the study's own splits is written into `folder`.

    Raises:
        InputError: the study has no classes.
    """
    data, recipe = study.cases, study.recipe.options
    if not data.classes:
        raise InputError("data.classes: empty, so there is nothing to segment; name the label values")
    values: dict[str, Any] = study.model_dump(mode="json")
    sides = {direction[1]: values["data"][direction[1]], direction[0]: values["data"][direction[0]]}
    target, source = ({**side, "images": None, "labels": None} for side in sides.values())
    values["data"] |= {"A": target, "B": source, "table": str(write_table(study, folder))}
    values["recipe"] = {"name": "segmentation"}
    values["recipe"] |= {key: value for key, value in recipe.items() if key in ("segmentor_net", "spatial_dims")}
    if num_steps is not None:
        values["train"] |= {"num_steps": num_steps}
    return validate(Experiment, values)


def write_table(study: Experiment, folder: Path) -> Path:
    """The study's cases by the names of their domains; returns the path of the table."""
    names = {"A": study.cases.A.name, "B": study.cases.B.name}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["subject", "domain", "image", "label", "split"])
        for case in load_cases(study.cases, Path()):
            image, label = (path and relative_path(path, folder) for path in (case.image, case.label))
            rows.writerow([case.subject, names[case.domain], image, label, case.split])
    return folder / "cases.csv"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(s_score)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
