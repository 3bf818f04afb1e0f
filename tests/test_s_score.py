"""The S-score: a judge that has seen real images only reads a run's translations."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from medgan.config import InputError
from medgan.data.cases import load_cases
from medgan.data.phantom import write_phantoms
from medgan.experiment import load_experiment
from medgan.preprocess import preprocess
from medgan.rundir import RunDir
from medgan.train import train

ROOT = Path(__file__).resolve().parent.parent


def pipeline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("s_score", ROOT / "pipelines" / "s_score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_phantoms(Path("phantoms"), subjects_per_domain=2, test_subjects=1, shape=(24, 24, 16))
    values = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    values["data"]["table"] = "phantoms/cases.csv"
    values["recipe"] = {"name": "seg_cyclegan", "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1}}
    values["recipe"]["generator_net"] = {"name": "unet", "channels": 4, "levels": 1}
    values["recipe"]["discriminator_net"] = {"name": "patchgan", "channels": 4, "layers": 1}
    values["train"] = {"num_steps": 1, "patch_size": [16, 16, 16], "precision": "float32"}
    Path("study.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return Path("study.yaml")


def test_the_judge_is_of_the_target_domain_with_the_study_s_splits(study: Path) -> None:
    experiment = load_experiment(study)
    judge_of = pipeline().judge_of
    for direction, target in (("AB", experiment.cases.B), ("BA", experiment.cases.A)):
        judging = judge_of(experiment, direction, Path("judge"), 7)
        assert (judging.cases.A.name, judging.cases.A.modality) == (target.name, target.modality)
        assert judging.recipe.name == "segmentation"
        assert judging.recipe.options["num_classes"] == len(experiment.cases.classes)
        assert judging.recipe.options["segmentor_net"]["channels"] == 8
        assert judging.train.num_steps == 7
        found = [case for case in load_cases(judging.cases, Path()) if case.domain == "A"]
        own = [(case.subject, case.image.resolve(), case.label, case.split) for case in found]
        given = load_cases(experiment.cases, Path())
        assert len(own) == sum(case.domain == direction[1] for case in given)
        assert {one[:2] for one in own} == {(c.subject, c.image.resolve()) for c in given if c.domain == direction[1]}
        assert {(one[0], one[3]) for one in own} == {(c.subject, c.split) for c in given if c.domain == direction[1]}
    without = experiment.model_copy(update={"data": experiment.cases.model_copy(update={"classes": {}})})
    with pytest.raises(InputError, match=r"data\.classes: empty"):
        judge_of(without, "AB", Path("judge"))


def test_the_whole_way_leaves_scores_of_what_the_judge_read(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment, run = load_experiment(study), RunDir(Path("run"))
    experiment.begin(run)
    preprocess(experiment.cases, experiment.preprocess, Path(), run.preprocess)
    train(experiment.recipe, experiment.train, run, seed=0, device="cpu")
    arguments = {"direction": "BA", "num_steps": 2, "device": "cpu", "workers": 1, "overrides": None}
    pipeline().s_score(study, Path("run"), Path("judge"), **arguments)
    assert "dice" in capsys.readouterr().out
    part = json.loads((run.evaluate / "summary.json").read_text())["directions"]["BA"]
    assert part["methods"]["translation"]["dice"]["count"] >= 1
    assert Path("judge/train/checkpoints/last.pt").is_file()
