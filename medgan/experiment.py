"""The whole configuration of a study: each section bound to the module that uses it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from medgan.config import InputError, StrictModel, component, read_yaml, resolve, validate
from medgan.data.cases import DataOptions
from medgan.evaluate import EvaluateOptions
from medgan.preprocess import PreprocessOptions
from medgan.recipes import RECIPES
from medgan.report import ReportOptions
from medgan.rundir import RunDir
from medgan.train import TrainOptions
from medgan.translate import TranslateOptions

LOCKED = ("data", "preprocess", "recipe", "train", "seed")


class Experiment(StrictModel):
    """One study: the data, the recipe, and how each verb works on them."""

    name: str = Field("study", min_length=1, description="of the study, the title of its report")
    seed: int = Field(0, ge=0, description="of everything random in training; the same seed repeats the run")
    data: DataOptions = Field(description="which images there are")
    preprocess: PreprocessOptions = Field(PreprocessOptions(), description="the grid that networks work on")
    recipe: component(RECIPES, "recipe") = Field(description="what is trained")  # type: ignore[valid-type]
    train: TrainOptions = Field(TrainOptions(), description="how long, on which patches, what is kept")
    translate: TranslateOptions = Field(TranslateOptions(), description="how volumes are translated")
    evaluate: EvaluateOptions = Field(EvaluateOptions(), description="what is measured, and where")
    report: ReportOptions = Field(ReportOptions(), description="what the report shows")

    @model_validator(mode="before")
    @classmethod
    def _number_of_classes(cls, values: Any) -> Any:
        """A recipe that needs the number of classes takes it from ``data.classes``."""
        if not isinstance(values, Mapping) or not isinstance(values.get("data"), Mapping):
            return values
        classes, recipe = values["data"].get("classes"), values.get("recipe")
        recipe = {"name": recipe} if isinstance(recipe, str) else recipe
        if not isinstance(classes, Mapping) or not classes or not isinstance(recipe, Mapping):
            return values
        try:
            target = resolve(str(recipe.get("name")), RECIPES, "recipe")
        except InputError:  # told with its place when the field itself is checked
            return values
        if "num_classes" not in inspect.signature(target).parameters:
            return values
        if recipe.get("num_classes", len(classes)) != len(classes):
            number = recipe["num_classes"]
            raise ValueError(f"recipe.num_classes is {number}, but data.classes names {len(classes)}; leave it out")
        return {**values, "recipe": {**recipe, "num_classes": len(classes)}}

    def moved(self, start: Path, to: Path) -> Self:
        """The same experiment with its relative paths, which start at one folder, written as from another."""
        domains = {
            side: domain.model_copy(
                update={
                    key: None if glob is None else _moved(glob, start, to)
                    for key, glob in (("images", domain.images), ("labels", domain.labels))
                }
            )
            for side, domain in (("A", self.data.A), ("B", self.data.B))
        }
        table = None if self.data.table is None else Path(_moved(str(self.data.table), start, to))
        return self.model_copy(update={"data": self.data.model_copy(update={"table": table, **domains})})

    def begin(self, run: RunDir) -> None:
        """Write this experiment and its environment into a run.

        Raises:
            InputError: the run was trained with another configuration; the differences are named.
        """
        run.begin(self.moved(Path(), run.path), seed=self.seed, locked=LOCKED)


def _moved(path: str, start: Path, to: Path) -> str:
    place = Path(path).expanduser()
    if place.is_absolute():
        return str(place)
    try:
        return Path(os.path.relpath(start / place, to)).as_posix()
    except ValueError:  # another drive
        return str(Path(os.path.abspath(start / place)))  # noqa: PTH100 (resolve() would follow links)


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment of a YAML file, ``section.key=value`` overrides written into it.

    Relative paths in the file (and in overrides) start at the file's folder; those of the result, at the current one.

    Raises:
        InputError: no such file, or the first mistake in it, with its place and the way out.
    """
    experiment = validate(Experiment, read_yaml(path, overrides))
    return experiment.moved(path.parent, Path())


def run_experiment(run: RunDir, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment that a run was begun with.

    Raises:
        InputError: the folder is no run, or an override does not fit.
    """
    if not run.experiment_yaml.is_file():
        raise InputError(f"{run.path}: not a run (no experiment.yaml); name a folder that medgan train was given")
    return load_experiment(run.experiment_yaml, overrides)
