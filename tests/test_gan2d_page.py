"""The page of the two-dimensional study: new figures join those that stand, and nothing stale stays."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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
    _run(tmp_path / "runs", second, steps=-1)
    _run(tmp_path / "runs", second, seed=7)
    page = study.write_results(tmp_path / "runs", results)
    found = json.loads((results / "gan2d.json").read_text())["runs"]
    assert [(run["seed"], run["steps"]) for run in found["gan_ring"]] == [(0, 8000), (1, -1), (7, 8000)]
    assert found["density_ring"] == STANDING["density_ring"]
    assert not (results / "gan2d" / "gan_ring_points.png").exists()  # the shown seed, 0, was not run again
    assert "density network, ring" in page.read_text()
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
