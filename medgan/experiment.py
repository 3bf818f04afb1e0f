"""The whole configuration of a study: each section bound to the module that uses it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from medgan.config import Component, InputError, StrictModel, bind, component, read_yaml, resolve, validate
from medgan.data.cases import DataOptions
from medgan.data.sources import SOURCES, Source, source
from medgan.evaluate import EvaluateOptions
from medgan.export.options import ExportOptions
from medgan.lock import is_first_process
from medgan.plan import PlanOptions
from medgan.preprocess import PreprocessOptions
from medgan.recipes import RECIPES
from medgan.report import ReportOptions
from medgan.rundir import RunDir
from medgan.sample import SampleOptions
from medgan.train import FREE, TrainOptions
from medgan.translate import TranslateOptions

LOCKED = ("data", "preprocess", "recipe", "train", "seed")
SETTLED = ("image_shape", "num_classes", "spatial_dims", "channels_A", "channels_B")  # of a recipe, by the data


def _data_kind(values: object) -> str:
    is_named = isinstance(values, str | Component) or (isinstance(values, Mapping) and "name" in values)
    return "source" if is_named else "cases"


if TYPE_CHECKING:
    Data = DataOptions | Component
else:
    Data = Annotated[
        Annotated[DataOptions, Tag("cases")] | Annotated[component(SOURCES, "source"), Tag("source")],
        Discriminator(_data_kind),
    ]


class Experiment(StrictModel):
    """One study: the data, the recipe, and how each verb works on them."""

    name: str = Field("study", min_length=1, description="of the study, the title of its report")
    seed: int = Field(0, ge=0, description="of everything random in training; the same seed repeats the run")
    data: Data = Field(description="which images there are; or the name of a source of samples, with its options")
    plan: PlanOptions = Field(PlanOptions(), description="the machine that `medgan plan` fits a study to")
    preprocess: PreprocessOptions = Field(PreprocessOptions(), description="the grid that networks work on")
    recipe: component(RECIPES, "recipe", SETTLED) = Field(description="what is trained")  # type: ignore[valid-type]
    train: TrainOptions = Field(TrainOptions(), description="how long, on which patches, what is kept")
    translate: TranslateOptions = Field(TranslateOptions(), description="how volumes are translated")
    sample: SampleOptions = Field(SampleOptions(), description="how new images are drawn")
    evaluate: EvaluateOptions = Field(EvaluateOptions(), description="what is measured, and where")
    report: ReportOptions = Field(ReportOptions(), description="what the report shows")
    export: ExportOptions = Field(ExportOptions(), description="what its authors say of the model that is passed on")

    @model_validator(mode="before")
    @classmethod
    def _facts_of_the_data(cls, values: Any) -> Any:
        """A recipe takes from the data what these settle: classes, channels, dimensions, the shape of an image."""
        if not isinstance(values, Mapping):
            return values
        recipe = values.get("recipe")
        recipe = {"name": recipe} if isinstance(recipe, str) else recipe
        if not isinstance(recipe, Mapping):
            return values
        try:
            parameters = inspect.signature(resolve(str(recipe.get("name")), RECIPES, "recipe")).parameters
        except InputError:  # told with its place when the field itself is checked
            return values
        facts = {key: fact for key, fact in _facts(values).items() if key in parameters}
        for key, (fact, where) in facts.items():
            given = recipe.get(key, fact)
            if (tuple(given) if isinstance(given, list) else given) != fact:
                raise ValueError(f"recipe.{key} is {given}, but {where}; leave it out")
        return {**values, "recipe": {**recipe, **{key: fact for key, (fact, _) in facts.items()}}}

    def moved(self, start: Path, to: Path) -> Self:
        """The same experiment with its relative paths, which start at one folder, written as from another."""
        if isinstance(self.data, Component):
            files = self.data.options.get("files")
            moved = {} if files is None else {"files": _moved(str(files), start, to)}
            named = Component.model_validate({**self.data.model_dump(), **moved})
            return self.model_copy(update={"data": named})
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
        free = [f"train.{option}" for option in FREE]
        moved = self.moved(Path(), run.path)
        run.begin(moved, seed=self.seed, locked=LOCKED, free=free, is_writing=is_first_process())

    @property
    def cases(self) -> DataOptions:
        """The data as cases.

        Raises:
            InputError: they are a source of samples.
        """
        if isinstance(self.data, Component):
            raise InputError(
                f"data: the samples of '{self.data.name}' are no patients' volumes and need no preparation; "
                "go on with `medgan train` and `medgan sample`"
            )
        return self.data

    @property
    def samples(self) -> Component | None:
        """The source of samples that stands in place of cases, if one does."""
        return self.data if isinstance(self.data, Component) else None


def _facts(values: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """What the raw `data` and `train` sections settle for a recipe, and where they say so."""
    data, train = values.get("data"), values.get("train")
    if _data_kind(data) == "source":
        try:
            choice = Component.model_validate({"name": data} if isinstance(data, str) else data)
            bind(choice, SOURCES, "source")
            drawn = source(choice)
        except (InputError, ValueError):  # told with its place when the field itself is checked
            return {}
        return _facts_of_source(drawn, f"the samples of '{choice.name}'")
    classes = data.get("classes") if isinstance(data, Mapping) else None
    facts: dict[str, tuple[Any, str]] = {}
    if isinstance(classes, Mapping) and classes:
        facts["num_classes"] = len(classes), f"data.classes names {len(classes)}"
    patch = train.get("patch_size") if isinstance(train, Mapping) else None
    if isinstance(patch, list | tuple) and len(patch) == 3 and all(isinstance(n, int) for n in patch):
        shape = (1, *(n for n in patch if n > 1))
        facts["image_shape"] = shape, f"train.patch_size is {list(patch)}"
        facts["spatial_dims"] = len(shape) - 1, f"train.patch_size is {list(patch)}"
    return facts


def _facts_of_source(drawn: Source, whose: str) -> dict[str, tuple[Any, str]]:
    shape = drawn.image_shape
    facts: dict[str, tuple[Any, str]] = {"image_shape": (shape, f"{whose} have shape {list(shape)}")}
    if drawn.num_classes:
        facts["num_classes"] = drawn.num_classes, f"{whose} have {drawn.num_classes} classes"
    if len(shape) > 2:
        facts["spatial_dims"] = len(shape) - 1, f"{whose} have {len(shape) - 1} dimensions"
        facts["channels_A"] = shape[0], f"{whose} have {shape[0]} channels"
        channels_B = getattr(drawn, "image_shape_B", shape)[0]
        facts["channels_B"] = channels_B, f"{whose} have {channels_B} channels in B"
    return facts


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
