"""A run in other people's tools: a MONAI bundle without medgan, ONNX and torch programs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from test_translate import SHAPE, TINY_NET, save_run
from torch import nn

from medgan.config import Component, InputError
from medgan.data.cases import Case
from medgan.data.phantom import make_phantom
from medgan.export import ExportOptions, export_model, new_folder
from medgan.export.card import model_card
from medgan.export.nnunet import export_nnunet
from medgan.export.parts import copied_modules, packages_of
from medgan.export.trained import load_trained
from medgan.recipes import CycleGAN, SegCycleGAN
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, translate

EXACT = TranslateOptions(precision="float32")
CLASSES = {0: "background", 1: "bone"}
ONE = {"generator_net": TINY_NET, "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1}}
MONAI_ALONE = """
import sys
sys.modules["medgan"] = None  # as where it is not installed
from monai.bundle import ConfigWorkflow
from monai.bundle.scripts import run, verify_metadata, verify_net_in_out
configs = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
verify_metadata(meta_file="configs/metadata.json", filepath="docs/metadata.schema.json")
verify_net_in_out("network_def", **configs, device="cpu")
workflow = ConfigWorkflow(**configs, workflow_type="infer", dataset_dir=f"{sys.argv[1]}/BA", output_dir=sys.argv[2])
workflow.initialize()
assert workflow.check_properties() == []
for way in ("BA", "AB"):
    run(config_file="configs/inference.json", dataset_dir=f"{sys.argv[1]}/{way}", output_dir=f"{sys.argv[2]}/{way}",
        direction=way, device="cpu")
"""


def _recipe(kind: type[CycleGAN] | type[SegCycleGAN], options: dict[str, object]) -> nn.Module:
    recipe = kind(**{key: Component.model_validate(o) if isinstance(o, dict) else o for key, o in options.items()})
    for parameter in [*recipe.ema_AB.parameters(), *recipe.ema_BA.parameters()]:
        parameter.data.mul_(3.0)
    return recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    options = {**ONE, "num_classes": 2, "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1}}
    place = tmp_path_factory.mktemp("hospital") / "doe_john"
    return save_run(place, _recipe(SegCycleGAN, options), "seg_cyclegan", options)


@pytest.fixture(scope="module")
def bundle(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_by = ExportOptions(authors="A. Author", license="CC-BY-4.0", data_source="Synthetic bodies")
    return export_model(
        run,
        tmp_path_factory.mktemp("export") / "bundle",
        kind="bundle",
        options=made_by,
        translating=EXACT,
        classes=CLASSES,
    )


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MR and a CT turned and with codes of their own, in a folder per direction."""
    folder, phantom = tmp_path_factory.mktemp("volumes"), make_phantom(1, SHAPE)
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.1, 0.15), [3.0, -40.0, 100.0])
    for way, array in (("AB", phantom.ct), ("BA", phantom.mr)):
        image = nib.Nifti1Image(array, turn @ phantom.affine)
        image.set_qform(image.affine, code=3)
        image.set_sform(image.affine, code=2)
        (folder / way).mkdir()
        nib.save(image, folder / way / "one.nii.gz")
    return folder


# A MONAI bundle


def test_monai_alone_verifies_the_bundle_and_gives_what_medgan_translate_gives(
    run: RunDir, bundle: Path, volumes: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", MONAI_ALONE, str(volumes), str(tmp_path / "monai")]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=bundle, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for way in ("BA", "AB"):
        ours = tmp_path / "medgan" / way
        translate(run, [volumes / way], ours, direction=way, options=EXACT, device="cpu")  # type: ignore[arg-type]
        for name in ("one.nii.gz", "one_segmentation.nii.gz"):
            theirs, mine = nib.load(tmp_path / "monai" / way / name), nib.load(ours / name)
            assert theirs.get_data_dtype() == mine.get_data_dtype()
            assert np.array_equal(np.asarray(theirs.dataobj), np.asarray(mine.dataobj))
            assert theirs.header == mine.header


def test_the_bundle_says_what_it_is_and_nobody_s_name(run: RunDir, bundle: Path) -> None:
    card = (bundle / "docs" / "README.md").read_text()
    for told in ("Not for diagnosis", "CC-BY-4.0", "A. Author", "Synthetic bodies", "1 bone", "None were measured"):
        assert told in card
    told = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert told["network_data_format"]["inputs"]["image"]["modality"] == "MR"
    assert told["network_data_format"]["outputs"]["pred"]["modality"] == "CT"
    for path in bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"doe_john" not in content
            assert b"hospital" not in content
            assert str(run.path).encode() not in content


def test_no_copied_module_reaches_for_medgan_itself() -> None:
    for name, source in copied_modules(["medgan.export.components", "medgan.networks.resnet"]).items():
        assert "\nfrom medgan" not in source, name
        assert "\n    from medgan" not in source.replace("if TYPE_CHECKING:\n    from medgan", ""), name
    sources = copied_modules(["medgan.export.components"])
    assert not any(room in name for name in sources for room in ("recipes", "losses", "train", "plan"))
    packages = set(packages_of(sources.values()))
    assert {"monai", "nibabel", "numpy", "safetensors", "torch"} <= packages
    assert not {"matplotlib", "typer", "lightning-fabric"} & packages


def test_a_network_from_elsewhere_is_refused_with_the_way_out(run: RunDir, tmp_path: Path) -> None:
    options = {**ONE, "generator_net": {"name": "test_export.Elsewhere"}}
    other = save_run(tmp_path / "run", _recipe(CycleGAN, options), "cyclegan", options)
    with pytest.raises(InputError, match="Elsewhere is none; use --format torchscript"):
        export_model(other, tmp_path / "bundle", kind="bundle")
    assert not (tmp_path / "bundle").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


class Elsewhere(nn.Module):
    """A researcher's own generator."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.body(image))


# What all formats have in common


def test_nothing_that_stands_is_written_over_and_nothing_half_written_is_left(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="mine: stands already"):
        export_model(run, tmp_path / "mine", kind="bundle")
    with pytest.raises(RuntimeError, match="half way"):
        _stop_half_way(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    one_way = replace(load_trained(run), generators={"BA": nn.Identity()})
    with pytest.raises(InputError, match="--direction AB"):
        one_way.choose("AB")


def _stop_half_way(output: Path) -> None:
    with new_folder(output) as folder:
        (folder / "part").touch()
        raise RuntimeError("half way")


def test_the_card_shows_the_figures_of_the_evaluation(run: RunDir) -> None:
    score = {"mean": 84.63, "low": 61.5, "high": 107.7, "count": 4}
    methods = {"translation": {"mae": score}, "lookup table": {"mae": {**score, "mean": 135.0}}}
    summary = {"directions": {"BA": {"title": "MR to CT", "methods": methods, "cases": [{"subject": "doe"}]}}}
    card = model_card(replace(load_trained(run), summary=summary), ExportOptions(), CLASSES, "")
    assert "MR to CT, 4 held-out cases" in card
    assert "| method | MAE, HU |" in card
    assert "| translation | 84.6 [61.5, 107.7] |" in card
    assert "doe" not in card


# nnU-Net


def _study_cases(folder: Path) -> list[Case]:
    """Three labelled CTs, one of them held out, a labelled MR to learn from and one held out."""
    cases = []
    for number, (side, split) in enumerate(
        [("A", "train"), ("A", "validation"), ("A", "test"), ("B", "train"), ("B", "test")]
    ):
        phantom = make_phantom(number, SHAPE)
        labels = (phantom.labels > 3).astype(np.int16)
        labels[:, :, 0] = -1 if number == 0 else 0
        paths = [folder / f"doe_{number}{kind}.nii.gz" for kind in ("", "_labels")]
        for path, array in zip(paths, (phantom.ct if side == "A" else phantom.mr, labels), strict=True):
            nib.save(nib.Nifti1Image(array, phantom.affine), path)
        cases.append(Case(f"doe_{number}", side, *paths, split))  # type: ignore[arg-type]
    return cases


def test_an_nnu_net_dataset_holds_translations_with_the_labels_of_their_sources(run: RunDir, tmp_path: Path) -> None:
    cases = _study_cases(tmp_path)
    dataset = export_nnunet(
        run,
        tmp_path / "raw",
        cases,
        dataset=7,
        with_real=True,
        direction="AB",
        translating=EXACT,
        classes=CLASSES,
        device="cpu",
    )
    assert dataset.name == "Dataset007_ctasmr"
    names = {
        part: sorted(path.name for path in (dataset / part).iterdir()) for part in ("imagesTr", "labelsTr", "imagesTs")
    }
    made = ["case0001_translated", "case0002_translated", "case0004_real"]
    assert names["imagesTr"] == [f"{name}_0000.nii.gz" for name in made]
    assert names["labelsTr"] == [f"{name}.nii.gz" for name in made]
    assert names["imagesTs"] == ["case0005_real_0000.nii.gz"]
    told = json.loads((dataset / "dataset.json").read_text())
    assert told["labels"] == {"background": 0, "bone": 1, "ignore": 2}
    assert told["channel_names"] == {"0": "mr"}
    assert told["numTraining"] == 3
    label = nib.load(dataset / "labelsTr" / "case0001_translated.nii.gz")
    image = nib.load(dataset / "imagesTr" / "case0001_translated_0000.nii.gz")
    assert np.array_equal(label.affine, image.affine)
    given = np.asarray(nib.load(cases[0].label).dataobj)
    assert np.array_equal(np.asarray(label.dataobj), np.where(given == -1, 2, given))
    ours = translate(run, [cases[0].image], tmp_path / "ours", direction="AB", options=EXACT, device="cpu")
    assert np.array_equal(image.get_fdata(), nib.load(ours[0]).get_fdata())
    folds = json.loads((dataset / "splits_final.json").read_text())
    assert [fold["val"] for fold in folds] == [[name] for name in made]
    assert all(b"doe" not in path.read_bytes() for path in dataset.rglob("*") if path.is_file())


def test_a_study_without_labels_makes_no_nnu_net_dataset(run: RunDir, tmp_path: Path) -> None:
    cases = [replace(case, label=None) for case in _study_cases(tmp_path)]
    with pytest.raises(InputError, match="no image of domain A that is not held out has labels"):
        export_nnunet(run, tmp_path / "raw", cases, dataset=7, direction="AB", classes=CLASSES, device="cpu")
    with pytest.raises(InputError, match=r"no data\.classes"):
        export_nnunet(run, tmp_path / "raw", cases, dataset=7)
    with pytest.raises(InputError, match="give 1 to 999"):
        export_nnunet(run, tmp_path / "raw", cases, dataset=1000, classes=CLASSES)
    assert not (tmp_path / "raw").exists()


# Programs


def _image(*size: int) -> torch.Tensor:
    return torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_onnx_gives_what_torch_gives_at_any_size(tmp_path: Path) -> None:
    import onnxruntime

    options: dict[str, object] = {**ONE, "generator_net": {**TINY_NET, "channels": 4}}
    run = save_run(tmp_path / "run", _recipe(CycleGAN, options), "cyclegan", options)
    folder = export_model(run, tmp_path / "onnx", kind="onnx", direction="BA", classes=CLASSES)
    assert {path.name for path in folder.iterdir()} == {"BA.onnx", "README.md"}
    network = load_trained(run).generators["BA"]
    session = onnxruntime.InferenceSession(folder / "BA.onnx", providers=["CPUExecutionProvider"])
    for image in (_image(16, 12, 8), _image(6, 10, 14)):
        (made,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            assert np.abs(made - network(image).numpy()).max() < 1e-3


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
@pytest.mark.parametrize("kind", ["torchscript", "torch_export"])
def test_torch_programs_give_what_the_network_gives_at_any_size(run: RunDir, tmp_path: Path, kind: str) -> None:
    folder = export_model(run, tmp_path / kind, kind=kind, classes=CLASSES)  # type: ignore[arg-type]
    if kind == "torchscript":
        program = torch.jit.load(folder / "AB.ts")
    else:
        program = torch.export.load(folder / "AB.pt2").module()
    network, image = load_trained(run).generators["AB"], _image(6, 10, 14)
    with torch.no_grad():
        assert torch.allclose(program(image), network(image), atol=1e-5)
    card = (folder / "README.md").read_text()
    assert "| `AB." in card
    assert "The norms of segmentor_B, segmentor_A look at all" in card
