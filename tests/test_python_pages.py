"""The pages on Python and on one's own classes hold code that runs."""

import re
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from test_translate import SHAPE, TINY_NET, save_run

from medgan.cli import run
from medgan.config import Component, bind
from medgan.data.phantom import make_phantom
from medgan.recipes import RECIPES, CycleGAN, Recipe
from medgan.translate import load_translator

DOCS = Path(__file__).resolve().parent.parent / "docs"
ONE = {"generator_net": TINY_NET, "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1}}


def _blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _paired_study(folder: Path) -> Path:
    rows = ["subject,domain,image,split"]
    for number, split in enumerate(("train", "validation", "test")):
        phantom = make_phantom(number, (24, 20, 14))
        for side, array in (("A", phantom.ct), ("B", phantom.mr)):
            nib.save(nib.Nifti1Image(array, phantom.affine), folder / f"{number}_{side}.nii.gz")
            rows.append(f"s{number},{side},{number}_{side}.nii.gz,{split}")
    (folder / "cases.csv").write_text("\n".join(rows))
    domains = {"A": {"name": "CT", "modality": "ct"}, "B": {"name": "MR", "modality": "mr"}}
    recipe = yaml.safe_load(_blocks("own_recipe.md", "yaml")[1])["recipe"]
    training = {"num_steps": 3, "patch_size": [16, 16, 8], "precision": "float32", "augment": None, "trackers": []}
    study = {"data": {"table": "cases.csv", **domains}, "recipe": recipe, "train": training}
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return folder / "study.yaml"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file beside the study, as a researcher would have it."""
    (tmp_path / "mine.py").write_text("\n\n".join(_blocks("own_recipe.md", "python")), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def test_a_network_and_a_recipe_of_one_s_own_train_and_translate(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, place = _paired_study(mine), mine / "run"
    for command in (["preprocess", str(study), str(place)], ["train", str(study), str(place), "--device", "cpu"]):
        assert run(command) == 0, capsys.readouterr().err
    made = load_translator(place, "AB", device="cpu")(mine / "2_A.nii.gz")
    assert made.shape == (24, 20, 14)
    onnx_or_bundle = ["export", str(place), "--format", "bundle", "--output", str(mine / "bundle")]
    assert run(onnx_or_bundle) == 1
    assert "PlainGenerator is none; use --format torchscript or onnx" in capsys.readouterr().err


def test_a_wrong_option_of_one_s_own_network_is_named(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = _paired_study(mine)
    assert run(["preprocess", str(study), str(mine / "run"), "--set", "recipe.generator_net.layer=3"]) == 1
    assert "did you mean 'layers'" in capsys.readouterr().err


def test_the_first_example_goes_into_cyclegan(mine: Path) -> None:
    recipe = yaml.safe_load(_blocks("own_recipe.md", "yaml")[0])["recipe"]
    target, values = bind(Component.model_validate(recipe), RECIPES, "recipe")
    made: Recipe = target(**values)
    translator = made.translator("AB")
    assert translator is not None
    assert translator(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")  # MONAI tries all its readers
def test_the_page_on_python_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = CycleGAN(**{key: Component.model_validate(o) for key, o in ONE.items()})  # type: ignore[arg-type]
    save_run(tmp_path / "runs" / "x", recipe, "cyclegan", ONE)
    phantom = make_phantom(1, SHAPE)
    nib.save(nib.Nifti1Image(phantom.mr, phantom.affine), tmp_path / "mr.nii.gz")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in _blocks("python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    by_path = nib.load("synthetic_ct.nii.gz")
    assert np.array_equal(names["from_nibabel"].get_fdata(), by_path.get_fdata())  # type: ignore[attr-defined]
    assert np.array_equal(names["from_monai"][0].numpy(), by_path.get_fdata())  # type: ignore[index]
    assert names["from_sitk"].GetSize() == SHAPE  # type: ignore[attr-defined]
    shutil.rmtree(tmp_path / "runs")
