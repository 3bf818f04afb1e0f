"""The pipelines: whole studies in one command, each step skipped if its result stands."""

import contextlib
import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from medgan.data.phantom import write_phantoms

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = ROOT / "pipelines" / "ct_mr_translation.py"


def _study(folder: Path) -> Path:
    values = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    values["data"]["table"] = "phantoms/cases.csv"
    values["recipe"]["generator_net"] = {"name": "unet", "channels": 4, "levels": 1}
    values["recipe"]["discriminator_net"] = {"name": "patchgan", "channels": 4, "layers": 1}
    values["recipe"]["segmentor_net"] = {"name": "segresnet", "channels": 8}
    values["train"] = {"num_steps": 2, "patch_size": [16, 16, 16], "precision": "float32"}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def _pairs(phantoms: Path) -> Path:
    table = phantoms / "pairs.csv"
    rows = [
        ["subject", "domain", "image"],
        ["mr-01", "A", "truth/mr-01_ct.nii.gz"],
        ["mr-01", "B", "images/mr-01_mr.nii.gz"],
    ]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return table


def _pipeline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ct_mr_translation", PIPELINE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(pairs: Path | None = Path("phantoms/pairs.csv"), overrides: list[str] | None = None) -> None:
    _pipeline().study(Path("study.yaml"), Path("run"), pairs=pairs, device="cpu", overrides=overrides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("study")
    write_phantoms(made / "phantoms", subjects_per_domain=1, test_subjects=1, shape=(24, 24, 16))
    _pairs(made / "phantoms")
    _study(made)
    with contextlib.chdir(made):
        _run()
    return made


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def _times(*patterns: str) -> list[int]:
    paths = sorted(path for pattern in patterns for path in Path("run").glob(pattern))
    assert paths
    return [path.stat().st_mtime_ns for path in paths]


def test_one_command_goes_from_files_to_the_report() -> None:
    methods = json.loads(Path("run/evaluate/summary.json").read_text())["directions"]["BA"]["methods"]
    assert "translation" in methods
    assert any(name.startswith("lookup table") for name in methods)
    assert Path("run/report/index.html").is_file()
    assert Path("run/check/findings.json").is_file()


def test_the_same_command_again_redoes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    results = ("check/*", "evaluate/*.json", "report/*", "translate/*/*", "**/*.pt", "preprocess/**/*.npy")
    before = _times(*results)
    _run()
    assert _times(*results) == before
    told = capsys.readouterr().out
    for step in ("check", "evaluate", "report"):
        assert f"{step}: stands" in told


def test_a_change_of_the_translated_cases_evaluates_again() -> None:
    before = _times("evaluate/*.json", "report/*")
    cases = Path("run/translate/BA/cases.json")
    cases.write_text(cases.read_text().replace('"reference": "', '"reference": "./'))
    _run()
    assert "./" not in cases.read_text().partition('"reference": "')[2][:2]
    assert all(now > then for now, then in zip(_times("evaluate/*.json", "report/*"), before, strict=True))


def test_an_option_of_a_later_step_redoes_that_step_and_what_follows() -> None:
    kept, redone = _times("**/*.pt", "translate/*/*.nii.gz"), _times("report/*")
    _run(overrides=["evaluate.erosion_mm=4"])
    assert json.loads(Path("run/evaluate/summary.json").read_text())["options"]["erosion_mm"] == 4
    assert _times("**/*.pt", "translate/*/*.nii.gz") == kept
    assert _times("report/*") > redone
