"""The page of the two-dimensional study: new figures join those that stand, and nothing stale stays."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from medgan.checkpoint import read_checkpoint, write_checkpoint
from medgan.rundir import RunDir

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
STANDING: dict[str, list[dict[str, Any]]] = json.loads((RESULTS / "gan2d.json").read_text(encoding="utf-8"))["runs"]


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gan_2d", ROOT / "pipelines" / "gan_2d.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gan_2d"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _results(folder: Path, runs: dict[str, list[dict[str, Any]]]) -> Path:
    folder.mkdir()
    shutil.copy(RESULTS / "gan_theory.json", folder)
    (folder / "gan2d.json").write_text(json.dumps({"environment": {}, "runs": runs}), encoding="utf-8")
    return folder


def _run(runs: Path, figures: dict[str, Any], **changed: Any) -> None:
    figures = figures | changed
    run = runs / f"{figures['config']}-{figures['seed']}"
    (run / "sample").mkdir(parents=True)
    for picture in figures["pictures"]:
        (run / "sample" / picture).write_bytes(b"new")
    (run / "study.json").write_text(json.dumps(figures), encoding="utf-8")


def test_a_new_run_joins_what_stands_or_takes_its_place(study: ModuleType, tmp_path: Path) -> None:
    first, second = STANDING["gan_ring"][:2]
    results = _results(tmp_path / "results", {"gan_ring": [first, second], "density_ring": STANDING["density_ring"]})
    _run(tmp_path / "runs", second, steps=500)
    _run(tmp_path / "runs", second, seed=7)
    page = study.write_results(tmp_path / "runs", results)
    found = json.loads((results / "gan2d.json").read_text())["runs"]
    assert [(run["seed"], run["steps"]) for run in found["gan_ring"]] == [(0, 8000), (1, 500), (7, 8000)]
    assert found["density_ring"] == STANDING["density_ring"]
    assert not (results / "gan2d" / "gan_ring_points.png").exists()  # the shown seed, 0, was not run again
    assert "density network, ring" in page.read_text()
    assert "| `gan_ring` | 1 | 500 of 8000 |" in page.read_text()  # interrupted, and told as such
    assert study.write_results(tmp_path / "no runs", results).read_text() == page.read_text()


def test_figures_of_a_configuration_that_has_changed_do_not_stay(study: ModuleType, tmp_path: Path) -> None:
    (old,) = STANDING["density_ring"]
    changed = old["configuration"] | {"train": old["configuration"]["train"] | {"num_steps": 5}}
    results = _results(tmp_path / "results", {"density_ring": [old | {"configuration": changed}]})
    _run(tmp_path / "runs", old, seed=3, configuration=changed)
    page = study.write_results(tmp_path / "runs", results)
    assert json.loads((results / "gan2d.json").read_text())["runs"]["density_ring"] == []
    assert "density network" not in page.read_text()


def test_every_figure_that_stands_is_of_its_configuration_as_it_is_now(study: ModuleType) -> None:
    for name, runs in STANDING.items():
        for run in runs:
            assert run["configuration"] == study.settings(name), name


def test_cyclegan_stands_beside_pix2pix_for_every_target_that_both_have(study: ModuleType, tmp_path: Path) -> None:
    def score(contrast: str, mae: float) -> dict[str, Any]:
        tissues = dict.fromkeys(("fat", "muscle", "cortical bone", "gas"), 1.0)
        return {"contrast": contrast, "mae": mae, "by_tissue": tissues, "lookup": 2.0, "one_value": 3.0, "outside": 0.0}

    scores = {
        "pix2pix_slices": [score("ct", 20.0)],
        "pix2pix_slices_back": [score("mr", 50.0)],
        "cyclegan_slices": [score("ct", 30.0), score("mr", 60.0)],
    }
    common = STANDING["pix2pix_slices"][0]
    for name, of_part in scores.items():
        _run(tmp_path / "runs", common, config=name, scores=of_part, configuration=study.settings(name))
    page = study.write_results(tmp_path / "runs", _results(tmp_path / "results", {})).read_text()
    assert "by 50 % for CT and 20 % for MR." in page


def test_an_interrupted_training_is_scored_as_far_as_it_is(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load((ROOT / "configs" / "gan_ring.yaml").read_text(encoding="utf-8"))
    values["train"] = {"num_steps": 4, "batch_size": 8, "precision": "float32"}
    (tmp_path / "gan_ring.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.setattr(study, "config", lambda name: tmp_path / f"{name}.yaml")
    run = tmp_path / "gan_ring-0"

    def scored(*, as_is: bool) -> dict[str, Any]:
        study.one_run(tmp_path, "gan_ring", 0, "cpu", as_is=as_is)
        return json.loads((run / "study.json").read_text()) if (run / "study.json").exists() else {}

    assert scored(as_is=True) == {}  # nothing has been trained
    assert scored(as_is=False)["steps"] == 4
    (run / "study.json").unlink()
    last = RunDir(run).checkpoint("last")
    write_checkpoint(last, read_checkpoint(last) | {"step": 3})
    told = scored(as_is=True)
    assert (told["steps"], told["seconds"], told["verdict"]) == (3, None, "interrupted")
