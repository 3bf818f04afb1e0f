"""The whole configuration: sections bound to their owners, paths that keep their meaning wherever the file lies."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from medgan.config import InputError
from medgan.experiment import Experiment, load_experiment, run_experiment
from medgan.rundir import RunDir


def _values(**sections: Any) -> dict[str, Any]:
    data = {"A": {"name": "ct", "modality": "ct"}, "B": {"name": "mr", "modality": "mr"}, "table": "cases.csv"}
    return {"data": {**data, "classes": {0: "air", 1: "fat", 2: "bone"}}, "recipe": "seg_cyclegan", **sections}


def _file(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_every_verb_has_a_section_of_its_name() -> None:
    verbs = {"plan", "preprocess", "train", "translate", "sample", "evaluate", "report", "export"}
    assert set(Experiment.model_fields) == verbs | {"name", "seed", "data", "recipe"}


def test_a_short_file_resolves_to_a_complete_one_and_to_itself(tmp_path: Path) -> None:
    experiment = load_experiment(_file(tmp_path, _values()))
    dumped = experiment.model_dump(mode="json")
    assert dumped["recipe"]["lambda_cycle"] == 10
    assert dumped["recipe"]["generator_net"]["channels"]
    assert dumped["train"]["num_steps"]
    assert Experiment.model_validate(dumped) == experiment


def test_the_recipe_takes_the_number_of_classes_from_the_data(tmp_path: Path) -> None:
    assert load_experiment(_file(tmp_path, _values())).recipe.options["num_classes"] == 3
    same = _values(recipe={"name": "seg_cyclegan", "num_classes": 3})
    assert load_experiment(_file(tmp_path, same)).recipe.options["num_classes"] == 3
    assert "num_classes" not in load_experiment(_file(tmp_path, _values(recipe="cyclegan"))).recipe.options


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    other = _values(recipe={"name": "seg_cyclegan", "num_classes": 4})
    with pytest.raises(InputError, match=r"recipe\.num_classes is 4, but data\.classes names 3; leave it out"):
        load_experiment(_file(tmp_path, other))


def test_a_recipe_takes_from_a_source_what_its_samples_settle(tmp_path: Path) -> None:
    study = {"data": {"name": "digits", "size": 16}, "recipe": "cgan"}
    experiment = load_experiment(_file(tmp_path, study))
    assert experiment.recipe.options["image_shape"] == [1, 16, 16]
    assert experiment.recipe.options["num_classes"] == 10
    assert experiment.samples is not None
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
    slices = {"data": {"name": "phantom_slices", "A": "mr", "B": "ct"}, "recipe": "pix2pix"}
    assert load_experiment(_file(tmp_path, slices)).recipe.options["spatial_dims"] == 2


def test_patches_of_one_voxel_along_an_axis_make_a_recipe_of_slices(tmp_path: Path) -> None:
    flat = _values(train={"patch_size": [64, 64, 1]})
    assert load_experiment(_file(tmp_path, flat)).recipe.options["spatial_dims"] == 2
    generative = _values(recipe="dcgan", train={"patch_size": [32, 32, 32]})
    assert load_experiment(_file(tmp_path, generative)).recipe.options["image_shape"] == [1, 32, 32, 32]


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"data": "digit", "recipe": "cgan"}, "did you mean 'digits'?"),
        ({"data": {"name": "digits", "sise": 8}, "recipe": "cgan"}, "data.sise: unknown key; did you mean 'size'?"),
        (
            {"data": "digits", "recipe": {"name": "cgan", "image_shape": [1, 9, 9]}},
            "recipe.image_shape is [1, 9, 9], but the samples of 'digits' have shape [1, 8, 8]; leave it out",
        ),
    ],
)
def test_mistakes_about_sources_are_told_in_one_line(tmp_path: Path, study: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as mistake:
        load_experiment(_file(tmp_path, study))
    assert message in str(mistake.value)


def test_a_source_of_files_keeps_its_paths_when_a_run_begins(tmp_path: Path) -> None:
    study = {"data": {"name": "images", "files": "slices/*.png"}, "recipe": "dcgan"}
    experiment = load_experiment(_file(tmp_path / "configs", study))
    assert experiment.samples is not None
    assert Path(experiment.samples.options["files"]).resolve() == tmp_path / "configs" / "slices" / "*.png"
    moved = experiment.moved(Path(), tmp_path / "runs" / "x")
    assert moved.samples is not None
    assert moved.samples.options["files"] == "../../configs/slices/*.png"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.num_steps=3", "trian: unknown key; did you mean 'train'?"),
        ("train.nmu_steps=3", "train.nmu_steps: unknown key; did you mean 'num_steps'?"),
        ("data.A.modalty=ct", "data.A.modalty: unknown key; did you mean 'modality'?"),
        ("recipe.lambda_cycl=3", "recipe.lambda_cycl: unknown key; did you mean 'lambda_cycle'?"),
        ("recipe.generator_net.chanels=3", "recipe.generator_net.chanels: unknown key; did you mean 'channels'?"),
        ("recipe.generator_net=unte", "recipe.generator_net: unknown generator 'unte'; did you mean 'unet'?"),
        ("train.augment.flipaxes=[0]", "train.augment.flipaxes: unknown key; did you mean 'flip_axes'?"),
        ("recipe=segcyclegan", "recipe: unknown recipe 'segcyclegan'; did you mean 'seg_cyclegan'?"),
        ("train.num_steps=-1", "train.num_steps: input should be greater than 0; got -1"),
    ],
)
def test_a_mistake_is_one_line_with_place_and_way_out(tmp_path: Path, override: str, message: str) -> None:
    values = _values(recipe={"name": "seg_cyclegan", "generator_net": {"name": "unet"}})
    with pytest.raises(InputError) as caught:
        load_experiment(_file(tmp_path, values), [override])
    assert str(caught.value) == message


def test_paths_start_at_the_file_and_stay_the_same_places_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = _values()
    values["data"]["table"] = "../tables/cases.csv"
    experiment = load_experiment(_file(Path("configs"), values))
    assert experiment.data.table == Path("tables/cases.csv")
    run = RunDir(Path("runs/deep/x"))
    experiment.begin(run)
    assert "table: ../../../tables/cases.csv\n" in run.experiment_yaml.read_text()
    assert run_experiment(run) == experiment
    monkeypatch.chdir(tmp_path / "runs")
    assert run_experiment(RunDir(Path("deep/x"))).data.table == Path("../tables/cases.csv")


def test_globs_move_as_tables_do_and_absolute_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = _values()
    del values["data"]["table"]
    values["data"]["A"]["images"] = "ct/**/*.nii.gz"
    values["data"]["B"] |= {"images": str(tmp_path / "mr" / "*.nii"), "labels": "~/labels/*.nii"}
    data = load_experiment(_file(Path("configs"), values)).data
    assert data.A.images == "configs/ct/**/*.nii.gz"
    assert data.B.images == str(tmp_path / "mr" / "*.nii")
    assert data.B.labels == os.path.expanduser("~/labels/*.nii")  # noqa: PTH111 (text)
    assert data.A.labels is None


def test_the_same_study_named_from_elsewhere_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = _file(Path("configs"), _values())
    load_experiment(file).begin(RunDir(Path("runs/x")))
    checkpoint = tmp_path / "runs" / "x" / "train" / "checkpoints" / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    monkeypatch.chdir(tmp_path / "configs")
    load_experiment(Path("study.yaml")).begin(RunDir(Path("../runs/x")))
    load_experiment(tmp_path / file).begin(RunDir(tmp_path / "runs" / "x"))
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        load_experiment(Path("study.yaml"), ["seed=1"]).begin(RunDir(Path("../runs/x")))


def test_a_folder_without_a_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run \(no experiment\.yaml\)"):
        run_experiment(RunDir(tmp_path))


CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_short_and_headed_by_its_command(path: Path) -> None:
    load_experiment(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    header = [line for line in lines if line.startswith("#")]
    assert any("medgan " in line or "python" in line for line in header)
