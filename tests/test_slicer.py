"""The module of 3D Slicer: what it tells of itself, and that the command line which follows from it works."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import yaml
from test_translate import SHAPE, TINY_NET, save_run

from medgan.cli import run as medgan
from medgan.config import Component
from medgan.data.phantom import make_phantom
from medgan.recipes import SegCycleGAN
from medgan.slicer import NAME, description, install
from medgan.translate import TranslateOptions, load_translator

PLACED = {"directory", "image"}
KNOWN = PLACED | {"string-enumeration"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {
        "num_classes": 2,
        "generator_net": TINY_NET,
        "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1},
        "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1},
    }
    recipe = SegCycleGAN(
        **{key: Component.model_validate(o) if isinstance(o, dict) else o for key, o in options.items()}
    )
    place = save_run(tmp_path_factory.mktemp("run"), recipe, "seg_cyclegan", options).path
    domains = {"A": {"name": "ct", "modality": "ct"}, "B": {"name": "mr", "modality": "mr"}}
    study = {
        "data": {"table": "cases.csv", **domains, "classes": {0: "background", 1: "bone"}},
        "recipe": "seg_cyclegan",
    }
    (place / "experiment.yaml").write_text(yaml.safe_dump({**study, "translate": {"precision": "float32"}}))
    return place


def _parameters() -> list[Element]:
    root = ElementTree.fromstring(description())
    return [element for group in root.findall("parameters") for element in group if element.tag in KNOWN]


def _command_line(values: dict[str, str]) -> list[str]:
    """What Slicer calls: flags with their values, then what has an index, in order."""
    flags: list[str] = []
    indexed: dict[int, str] = {}
    for element in _parameters():
        name = str(element.findtext("name"))
        value = values.get(name, element.findtext("default") or "")
        if element.find("index") is not None:
            indexed[int(str(element.findtext("index")))] = value
        elif value:
            flags += [f"--{element.findtext('longflag')}", value]
    return [*flags, *(indexed[index] for index in sorted(indexed))]


def test_the_description_follows_the_execution_model() -> None:
    told = description()
    assert told.startswith("<?xml")
    root = ElementTree.fromstring(told)
    assert root.tag == "executable"
    for tag in ("category", "title", "description", "version", "license", "contributor"):
        assert root.findtext(tag)
    for group in root.findall("parameters"):
        assert group.findtext("label")
        assert {element.tag for element in group} <= KNOWN | {"label", "description"}
    parameters = _parameters()
    names = [element.findtext("name") for element in parameters]
    assert len(set(names)) == len(names) == 6
    assert [int(index) for element in parameters if (index := element.findtext("index"))] == [0, 1, 2]
    for element in parameters:
        assert element.findtext("label")
        assert element.findtext("description")
        assert (element.find("index") is None) != (element.find("longflag") is None)
        if element.tag in PLACED:
            assert element.findtext("channel") in ("input", "output")
        else:
            assert element.findtext("default") in [choice.text for choice in element.findall("element")]


def test_the_command_line_that_slicer_makes_translates_the_volume_that_it_wrote(run: Path, tmp_path: Path) -> None:
    phantom = make_phantom(1, SHAPE)
    nib.save(nib.Nifti1Image(phantom.mr, phantom.affine), tmp_path / "mr.nii.gz")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "mr.nii.gz")), str(tmp_path / "slicer.nrrd"))
    values = {name: str(tmp_path / f"{name}.nii.gz") for name in ("output", "segmentation")}
    values |= {"run": str(run), "input": str(tmp_path / "slicer.nrrd"), "device": "cpu"}
    assert medgan(["slicer", *_command_line(values)]) == 0
    made, labels = nib.load(values["output"]), nib.load(values["segmentation"])
    ours = load_translator(run, "BA", options=TranslateOptions(precision="float32"), device="cpu")(
        tmp_path / "mr.nii.gz"
    )
    assert np.array_equal(made.get_fdata(), ours.get_fdata())  # auto is into CT
    assert np.allclose(made.affine, phantom.affine, atol=1e-4)
    assert labels.shape == SHAPE


def test_progress_is_told_and_a_mistake_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, output = str(tmp_path / "no.nrrd"), str(tmp_path / "out.nii.gz")
    assert medgan(["slicer", *_command_line({"run": str(run), "input": missing, "output": output})]) == 1
    told = capsys.readouterr()
    assert "<filter-progress>0</filter-progress>" in told.out
    assert told.err.count("\n") == 1
    assert medgan(["slicer", str(run)]) == 1
    assert "--install FOLDER" in capsys.readouterr().err


def test_the_installed_module_answers_in_an_environment_like_slicers(tmp_path: Path) -> None:
    script, told = install(tmp_path / "modules")
    assert (script.name, told.name) == (f"{NAME}.py", f"{NAME}.xml")
    assert told.read_text() == description()
    assert script.read_text().startswith("#!")  # by which Slicer knows a script as a module
    paths = {"PYTHONHOME": "/slicer/lib/Python", "LD_LIBRARY_PATH": "/slicer/lib", "PATH": "/usr/bin"}
    code = f"import os, runpy; os.environ.update({paths!r}); runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[1:] = ['--xml']; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == description()
