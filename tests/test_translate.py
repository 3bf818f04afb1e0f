"""Translating volumes: the way in, the way back, and what a run's folder holds afterwards."""

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from torch import Tensor, nn

from medgan.config import Component, InputError
from medgan.data.cases import Case, Domain
from medgan.data.phantom import make_phantom
from medgan.data.simpleitk import from_sitk, to_sitk
from medgan.data.store import StoredCase, write_index
from medgan.data.volume import Volume, read_volume
from medgan.preprocess import PreparedDomain, PreprocessOptions
from medgan.recipes import Pix2Pix, SegCycleGAN
from medgan.rundir import RunDir
from medgan.translate import (
    TranslateOptions,
    VolumeTranslator,
    directions,
    load_translator,
    translate,
    translate_run,
)

SHAPE = (24, 20, 14)
TINY_NET = {"name": "unet", "channels": 8, "levels": 1}
EXACT = TranslateOptions(precision="float32")
CT = PreparedDomain(
    name="ct",
    modality="ct",
    rule={"name": "hounsfield_window", "low_hu": -1000.0, "high_hu": 1000.0},
    intensity={"name": "hounsfield_window", "low_hu": -1000.0, "high_hu": 1000.0},
    body_threshold=-300.0,
    spacing_mm=(8.0, 9.6, 10.2857),
    preprocess=PreprocessOptions(crop_margin_mm=0.0),
)
MR = PreparedDomain.model_validate(
    {
        **CT.model_dump(),
        "name": "mr",
        "modality": "mr",
        "rule": {"name": "percentile_range", "low": 0.0, "high": 100.0},
        "intensity": {"name": "fixed_range", "low": 10.0, "high": 910.0},
        "body_threshold": None,
    }
)


def save_run(folder: Path, recipe: Any, name: str, options: dict[str, Any], kind: str = "best") -> RunDir:
    """A run as training leaves it."""
    run = RunDir(folder)
    run.checkpoint(kind).parent.mkdir(parents=True, exist_ok=True)
    state = {
        "recipe": {"name": name, **options},
        "domains": {"A": CT.model_dump(mode="json"), "B": MR.model_dump(mode="json")},
        "patch_size": [16, 16, 8],
        "networks": recipe.state_dict(),
    }
    torch.save(state, run.checkpoint(kind))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Random weights, large enough to make something of the image."""
    torch.manual_seed(0)
    options = {
        "num_classes": 8,
        "generator_net": TINY_NET,
        "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1},
        "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1},
    }
    recipe = SegCycleGAN(
        **{key: Component.model_validate(o) if isinstance(o, dict) else o for key, o in options.items()}
    )
    for parameter in [*recipe.ema_AB.parameters(), *recipe.ema_BA.parameters()]:
        parameter.data.mul_(3.0)
    return save_run(tmp_path_factory.mktemp("run"), recipe, "seg_cyclegan", options)


@pytest.fixture(scope="module")
def ct_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = make_phantom(1, SHAPE)
    path = tmp_path_factory.mktemp("ct") / "patient.nii.gz"
    nib.save(nib.Nifti1Image(phantom.ct, phantom.affine), path)
    return path


def translator(generator: nn.Module, segmentor: nn.Module | None = None, **changes: Any) -> VolumeTranslator:
    values: dict[str, Any] = {"source": CT, "target": CT, "patch_size": None, "options": EXACT, **changes}
    return VolumeTranslator(generator, segmentor, device=torch.device("cpu"), **values)


class Threshold(nn.Module):
    """Class 1 where the image is above 0."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([-image, image], dim=1)


# Kinds of volumes, and what is written


def test_what_goes_in_comes_out_as_the_same_kind(run: RunDir, ct_file: Path) -> None:
    from monai.data import MetaTensor

    to_mr = load_translator(run, "AB", device="cpu", options=EXACT)
    image = nib.load(ct_file)
    by_path = to_mr(ct_file)
    assert isinstance(by_path, nib.Nifti1Image)
    assert np.ptp(by_path.get_fdata()) > 10
    by_image = to_mr(image)
    assert isinstance(by_image, nib.Nifti1Image)
    by_volume = to_mr(read_volume(ct_file))
    assert isinstance(by_volume, Volume)
    tensor = MetaTensor(torch.from_numpy(image.get_fdata())[None], affine=torch.from_numpy(image.affine))
    by_tensor = to_mr(tensor)
    assert isinstance(by_tensor, MetaTensor)
    assert by_tensor.shape == tensor.shape
    assert torch.equal(by_tensor.affine, tensor.affine)
    assert to_mr(tensor[0]).shape == SHAPE
    for array in (by_image.get_fdata(), by_volume.array, by_tensor[0].numpy()):
        assert np.array_equal(array, by_path.get_fdata())
    sitk = to_sitk(by_volume.array, SimpleITK.ReadImage(str(ct_file)))
    by_sitk = to_mr(SimpleITK.ReadImage(str(ct_file)))
    assert SimpleITK.Hash(by_sitk) == SimpleITK.Hash(sitk)
    assert by_sitk.GetDirection() == sitk.GetDirection()
    assert by_sitk.GetOrigin() == sitk.GetOrigin()
    assert np.allclose(from_sitk(by_sitk).affine, image.affine, atol=1e-4)
    with pytest.raises(InputError, match="SimpleITK image: 3D with 2 components"):
        to_mr(SimpleITK.Image([4, 4, 4], SimpleITK.sitkVectorInt16, 2))
    with pytest.raises(InputError, match="ndarray: has no place in space"):
        to_mr(image.get_fdata())


def test_mr_comes_out_as_float_within_the_typical_range_and_ct_as_whole_hu(run: RunDir, ct_file: Path) -> None:
    mr = load_translator(run, "AB", device="cpu")(ct_file)
    assert mr.get_data_dtype() == np.float32
    assert mr.get_fdata().min() >= 10
    assert mr.get_fdata().max() <= 910
    ct = load_translator(run, "BA", device="cpu")(mr)
    assert ct.get_data_dtype() == np.int16
    assert ct.get_fdata().min() >= -1000
    assert ct.get_fdata().max() <= 1000


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ILA", "SRA"])
@pytest.mark.parametrize("spacing_mm", [None, (9.0, 7.0, 12.0)])
def test_the_grid_of_the_input_comes_back_from_any_orientation(
    run: RunDir, tmp_path: Path, codes: str, spacing_mm: tuple[float, float, float] | None
) -> None:
    phantom = make_phantom(1, SHAPE)
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.1, 0.15), [3.0, -40.0, 100.0])
    turned = nib.Nifti1Image(phantom.ct, turn @ phantom.affine).as_reoriented(
        ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    )
    turned.set_qform(turned.affine, code=3)
    turned.set_sform(turned.affine, code=2)
    nib.save(turned, tmp_path / "in.nii")
    source = nib.load(tmp_path / "in.nii")
    to_mr = load_translator(run, "AB", device="cpu")
    to_mr.source = CT.model_copy(update={"preprocess": PreprocessOptions(spacing_mm=spacing_mm)})
    translation = to_mr(source)
    assert translation.shape == source.shape
    assert np.array_equal(translation.affine, source.affine)
    for form in ("qform", "sform"):
        assert translation.header[f"{form}_code"] == source.header[f"{form}_code"]
    assert np.allclose(translation.header.get_qform(), source.header.get_qform())
    read = to_mr.translate(read_volume(tmp_path / "in.nii")).segmentation
    assert read is not None
    assert read.shape == source.shape


def test_the_orientation_on_disk_does_not_change_the_translation(run: RunDir, ct_file: Path) -> None:
    to_mr = load_translator(run, "AB", device="cpu", options=EXACT)
    image = nib.load(ct_file)
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt("PIR"))
    turned = image.as_reoriented(change)
    assert np.allclose(turned.affine, image.affine @ inv_ornt_aff(change, image.shape))
    expected = to_mr(image).as_reoriented(change).get_fdata()
    assert np.allclose(to_mr(turned).get_fdata(), expected, atol=1e-2)


def test_nrrd_and_flat_volumes_are_translated(run: RunDir, tmp_path: Path) -> None:
    import SimpleITK

    to_mr = load_translator(run, "AB", device="cpu")
    phantom = make_phantom(1, SHAPE)
    image = SimpleITK.GetImageFromArray(phantom.ct.transpose(2, 1, 0))
    image.SetSpacing((8.0, 9.6, 10.3))
    SimpleITK.WriteImage(image, str(tmp_path / "ct.nrrd"))
    translation = to_mr(tmp_path / "ct.nrrd")
    assert translation.shape == SHAPE
    assert np.allclose(translation.affine, np.diag([-8.0, -9.6, 10.3, 1.0]))
    slice_ = nib.Nifti1Image(phantom.ct[:, :, 7], phantom.affine)
    assert to_mr(slice_).shape == SHAPE[:2]


# The way in and the way back, with networks that can be followed on paper


def test_an_identity_network_gives_the_window_of_the_body_back(ct_file: Path) -> None:
    ct = np.asarray(nib.load(ct_file).dataobj)
    out = translator(nn.Identity())(read_volume(ct_file)).array
    inside = out > -1000
    assert inside.mean() > 0.2
    assert np.array_equal(out[inside], ct.clip(-1000, 1000)[inside])
    assert not inside[0, 0].any()


def test_background_is_what_lies_outside_the_body_and_only_if_asked_for() -> None:
    phantom = make_phantom(1, SHAPE)
    volume = Volume(phantom.ct, phantom.affine, None, SHAPE, None)

    class Water(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.zeros_like(image)

    masked = translator(Water())(volume).array
    assert np.array_equal(np.unique(masked), [-1000, 0])
    assert (masked[phantom.labels > 0] == 0).mean() > 0.9
    assert (masked[phantom.labels == 0] == -1000).mean() > 0.95
    options = EXACT.model_copy(update={"mask_background": False})
    box = translator(Water(), options=options)(volume).array
    assert (box == 0).sum() > (masked == 0).sum()
    assert box[0, 0, 0] == -1000  # outside the crop there is nothing but background
    untrained = CT.model_copy(update={"preprocess": PreprocessOptions(crop_margin_mm=None, mask_background=False)})
    assert (translator(Water(), source=untrained)(volume).array == 0).all()


def test_the_segmentor_reads_the_translation_and_not_the_source() -> None:
    phantom = make_phantom(1, SHAPE)
    volume = Volume(phantom.ct, phantom.affine, None, SHAPE, None)

    class Invert(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return -image

    result = translator(Invert(), Threshold()).translate(volume)
    assert result.segmentation is not None
    assert result.segmentation.dtype == np.uint8
    body = result.image > -1000
    assert np.array_equal(result.segmentation[body], (result.image > 0)[body])
    assert not result.segmentation[~body].any()  # the segmentor sees background there, not an inverted background
    assert translator(Invert(), Threshold(), options=TranslateOptions(segmentation=False)).segmentor is None


def test_numbers_that_are_not_finite_are_background_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    phantom = make_phantom(1, SHAPE)
    clean, broken = phantom.ct.astype(np.float32), phantom.ct.astype(np.float32)
    clean[12, 10, 7] = -1024
    clean[:2] = -1024
    broken[12, 10, 7] = np.inf
    broken[:2] = np.nan
    with caplog.at_level(logging.WARNING):
        out = translator(nn.Identity())(Volume(broken, phantom.affine, None, SHAPE, None)).array
    assert "not finite" in caplog.text
    assert np.array_equal(out, translator(nn.Identity())(Volume(clean, phantom.affine, None, SHAPE, None)).array)


def test_a_volume_on_a_far_finer_grid_is_seen_at_the_spacing_of_the_training() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(tuple(image.shape[2:]))
            return image

    fine = make_phantom(1, (48, 40, 28))
    out = translator(Spy())(Volume(fine.ct, fine.affine, None, fine.ct.shape, None)).array
    assert out.shape == (48, 40, 28)
    assert max(seen[-1]) <= 24
    near = make_phantom(1, SHAPE)
    translator(Spy())(Volume(near.ct, near.affine * [[1.1], [1.1], [1.1], [1]], None, SHAPE, None))
    assert seen[-1][0] > 15
    huge = np.diag([1e6, 1e6, 1e6, 1.0])
    with pytest.raises(InputError, match="check its voxel size"):
        translator(Spy())(Volume(near.ct, huge, None, SHAPE, None))


def test_an_mr_of_another_scale_gets_a_body_threshold_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    phantom = make_phantom(1, SHAPE)
    source = MR.model_copy(update={"body_threshold": 60.0})
    tiny = Volume(phantom.mr / np.float32(4096), phantom.affine, None, SHAPE, None)
    out = translator(nn.Identity(), source=source, target=MR)(tiny).array
    assert "a threshold of its own" in caplog.text
    assert out.max() == pytest.approx(910)
    with pytest.raises(InputError, match="no body"):
        translator(nn.Identity())(Volume(np.full(SHAPE, -1000, np.int16), phantom.affine, None, SHAPE, None))


# Windows


def test_a_translation_does_not_depend_on_its_windows_and_says_so(run: RunDir) -> None:
    phantom = make_phantom(1, SHAPE)
    volume = Volume(phantom.ct, phantom.affine, None, SHAPE, None)
    whole = load_translator(run, "AB", device="cpu", options=EXACT).translate(volume)
    options = EXACT.model_copy(update={"window": (8, 8, 4), "seam_check": True})
    cut = load_translator(run, "AB", device="cpu", options=options).translate(volume)
    assert np.allclose(cut.image, whole.image, atol=1e-2)
    assert whole.segmentation is not None
    assert cut.segmentation is not None
    assert (cut.segmentation == whole.segmentation).mean() > 0.999
    assert cut.seams.windows > 4
    assert cut.seams.shifted_rms == pytest.approx(0, abs=1e-2)
    assert cut.seams.jump_ratio == pytest.approx(1, abs=0.5)
    assert whole.seams.windows == 1
    assert whole.seams.shifted_rms is None


def test_a_network_whose_output_ends_with_its_window_is_caught_by_the_seam_check() -> None:
    class Ramp(nn.Module):
        """Looks as if it saw one voxel only, but counts from the window's corner."""

        def forward(self, image: Tensor) -> Tensor:
            return image * 0 + torch.linspace(-0.5, 0.5, image.shape[-1])

    phantom = make_phantom(1, SHAPE)
    options = EXACT.model_copy(update={"window": (8, 8, 4), "seam_check": True})
    seams = translator(Ramp(), options=options).translate(Volume(phantom.ct, phantom.affine, None, SHAPE, None)).seams
    assert seams.shifted_rms is not None
    assert seams.shifted_rms > 50
    assert seams.jump_ratio is not None
    assert seams.jump_ratio > 1.5


# Checkpoints


def test_the_best_checkpoint_is_used_and_the_last_where_there_is_none(run: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path)
    with pytest.raises(InputError, match="medgan train"):
        load_translator(other)
    other.checkpoint("last").parent.mkdir(parents=True)
    other.checkpoint("last").write_bytes(run.checkpoint("best").read_bytes())
    fallen_back = load_translator(str(tmp_path), "BA", device="cpu")
    assert fallen_back.fingerprint == load_translator(run, "BA", device="cpu").fingerprint
    assert fallen_back.fingerprint != load_translator(run, "AB", device="cpu").fingerprint
    with pytest.raises(InputError, match=r"best\.pt|last\.pt"):
        load_translator(run, checkpoint="last")


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


def test_code_in_a_checkpoint_never_runs(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = RunDir(tmp_path / "hostile")
    path = hostile.checkpoint("best")
    path.parent.mkdir(parents=True)
    torch.save({"recipe": {}, "domains": {}, "networks": Bomb()}, path)
    with pytest.raises(InputError, match="holds code"):
        load_translator(hostile)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError):
        load_translator(hostile)
    state = torch.load(run.checkpoint("best"), weights_only=True)
    state["recipe"] = {"name": "os.mkdir"}
    torch.save(state, path)
    with pytest.raises(InputError, match=r"'os\.mkdir', which is no torch module"):
        load_translator(hostile)
    state["recipe"] = {"name": "cyclegan", "generator_net": {"name": "os.kill"}}
    torch.save(state, path)
    with pytest.raises(InputError, match=r"'os\.kill', which is no torch module"):
        load_translator(hostile)
    assert not (tmp_path / "exploded").exists()


def test_a_damaged_or_foreign_checkpoint_is_refused_in_one_line(run: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path)
    path = other.checkpoint("best")
    path.parent.mkdir(parents=True)
    path.write_bytes(run.checkpoint("best").read_bytes()[:5000])
    with pytest.raises(InputError, match="damaged"):
        load_translator(other)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="holds no domains, networks, recipe"):
        load_translator(other)
    state = torch.load(run.checkpoint("best"), weights_only=True)
    del state["networks"]["ema_AB.n_averaged"]
    torch.save(state, path)
    with pytest.raises(InputError, match="do not fit its recipe seg_cyclegan"):
        load_translator(other)


def test_a_direction_that_was_not_learnt_names_the_one_that_was(run: RunDir, tmp_path: Path) -> None:
    options = {"direction": "BA", "generator_net": TINY_NET, "lambda_adv": 0.0}
    recipe = Pix2Pix(direction="BA", generator_net=Component.model_validate(TINY_NET), lambda_adv=0.0)
    one_way = save_run(tmp_path, recipe, "pix2pix", options)
    with pytest.raises(InputError, match=r"direction AB: .* use BA"):
        load_translator(one_way, "AB")
    assert load_translator(one_way, "BA", device="cpu").segmentor is None
    assert directions(one_way) == ["BA"]
    assert directions(run) == ["AB", "BA"]
    with pytest.raises(InputError, match="direction 'ab_'; known: AB, BA"):
        load_translator(run, "ab_")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not on this machine"):
        load_translator(run, device="abacus")


# The verb


def test_each_input_leaves_a_translation_and_its_segmentation(run: RunDir, ct_file: Path, tmp_path: Path) -> None:
    (done,) = translate(run, [ct_file], tmp_path / "out", device="cpu", options=EXACT)
    assert done == tmp_path / "out" / "patient.nii.gz"
    assert sorted(path.name for path in done.parent.iterdir()) == ["patient.nii.gz", "patient_segmentation.nii.gz"]
    written, labels = nib.load(done), nib.load(done.parent / "patient_segmentation.nii.gz")
    expected = load_translator(run, device="cpu", options=EXACT).translate(read_volume(ct_file))
    assert np.array_equal(written.get_fdata(), expected.image)
    assert np.array_equal(np.asarray(labels.dataobj), expected.segmentation)
    assert np.array_equal(written.affine, nib.load(ct_file).affine)
    assert labels.get_data_dtype() == np.uint8


def test_one_bad_volume_does_not_stop_the_rest(run: RunDir, ct_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a_bad.nii").write_bytes(b"not a volume")
    (folder / "b_good.nii.gz").write_bytes(ct_file.read_bytes())
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4)), folder / "c_4d.nii.gz")
    with pytest.raises(InputError, match="2 of 3 volumes") as failure:
        translate(run, [folder], tmp_path / "out", device="cpu")
    _, first, second = str(failure.value).splitlines()
    assert "a_bad.nii: " in first
    assert "c_4d.nii.gz: " in second
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b_good.nii.gz", "b_good_segmentation.nii.gz"}


def test_nothing_is_written_over_unless_forced(
    run: RunDir, ct_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "patient.nii.gz"
    target.write_text("precious")
    translate(run, [ct_file], tmp_path, device="cpu")
    assert target.read_text() == "precious"
    assert "stands already" in capsys.readouterr().out.replace("\n", " ")
    target.unlink()
    (tmp_path / "patient_segmentation.nii.gz").write_text("precious")
    with pytest.raises(InputError, match="stands already, without"):
        translate(run, [ct_file], tmp_path, device="cpu")
    assert not target.exists()
    translate(run, [ct_file], tmp_path, device="cpu", force=True)
    assert nib.load(target).shape == SHAPE
    assert nib.load(tmp_path / "patient_segmentation.nii.gz").shape == SHAPE


def test_outputs_never_fall_onto_inputs_or_each_other(run: RunDir, ct_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would fall onto the input"):
        translate(run, [ct_file], ct_file.parent, device="cpu", force=True)
    twin = tmp_path / "patient.nii"
    twin.touch()
    with pytest.raises(InputError, match="would fall onto that of"):
        translate(run, [ct_file, twin], tmp_path / "out", device="cpu")
    with pytest.raises(InputError, match="no volumes"):
        translate(run, [], tmp_path, device="cpu")
    assert not (tmp_path / "out").exists()


# The study


def test_the_test_cases_of_a_study_are_translated_and_only_once(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep" / "run").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere" / "deep" / "run")
    study = RunDir(tmp_path / "run")
    study.checkpoint("best").parent.mkdir(parents=True)
    study.checkpoint("best").write_bytes(run.checkpoint("best").read_bytes())
    cases = []
    for index, split in enumerate(("train", "test", "test")):
        phantom = make_phantom(index, SHAPE)
        for domain, array in (("A", phantom.ct), ("B", phantom.mr)):
            path = tmp_path / "data" / f"{domain}{index}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, phantom.affine), path)
            if (index, domain) != (2, "A"):
                label = tmp_path / "label.nii.gz" if index == 1 else None
                cases.append(Case(f"p{index}", domain, path, label, split))  # type: ignore[arg-type]
    index = translate_run(study, cases, direction="BA", device="cpu")
    assert index == study.translate("BA") / "cases.json"
    first, second = json.loads(index.read_text())
    assert (first["subject"], first["split"]) == ("p1", "test")
    assert first["translation"] == "p1.nii.gz"
    assert first["segmentation"] == "p1_segmentation.nii.gz"
    assert (index.parent / first["source"]).resolve() == (tmp_path / "data" / "B1.nii.gz").resolve()
    assert (index.parent / first["reference"]).resolve() == (tmp_path / "data" / "A1.nii.gz").resolve()
    assert (index.parent / first["label"]).resolve() == (tmp_path / "label.nii.gz").resolve()
    assert (second["reference"], second["label"], second["reference_label"]) == (None, None, None)
    translation = index.parent / "p1.nii.gz"
    assert nib.load(translation).get_data_dtype() == np.int16
    before = translation.stat().st_mtime_ns
    (index.parent / "p2.nii.gz").unlink()
    translate_run(study, cases, direction="BA", device="cpu")
    assert translation.stat().st_mtime_ns == before
    assert (index.parent / "p2.nii.gz").exists()
    state = torch.load(study.checkpoint("best"), weights_only=True)
    state["networks"]["ema_BA.module.network.head.2.bias"] += 0.5
    torch.save(state, study.checkpoint("best"))
    translate_run(study, cases, direction="BA", device="cpu")
    assert translation.stat().st_mtime_ns > before


def test_without_test_cases_the_validation_cases_serve(run: RunDir, ct_file: Path, tmp_path: Path) -> None:
    study = RunDir(tmp_path)
    study.checkpoint("last").parent.mkdir(parents=True)
    study.checkpoint("last").write_bytes(run.checkpoint("best").read_bytes())
    case = Case("p", "A", ct_file, None, "validation")
    (row,) = json.loads(translate_run(study, [case], device="cpu").read_text())
    assert row["split"] == "validation"
    with pytest.raises(InputError, match="no test or validation case in domain B"):
        translate_run(study, [case], direction="BA", device="cpu")


def test_a_patient_who_was_trained_on_is_not_translated_as_held_out(run: RunDir, ct_file: Path, tmp_path: Path) -> None:
    study = RunDir(tmp_path)
    study.checkpoint("last").parent.mkdir(parents=True)
    study.checkpoint("last").write_bytes(run.checkpoint("best").read_bytes())
    study.preprocess.mkdir()
    write_index(study.preprocess, [StoredCase("p", "B", "train", study.preprocess / "B" / "p")], {})
    cases = [Case("new", "A", ct_file, None, "test"), Case("p", "A", ct_file, None, "test")]
    with pytest.raises(InputError, match=r"^data: p was train when the run's data were prepared, is test; give"):
        translate_run(study, cases, device="cpu")
    assert not study.translate("AB").exists()
    (row,) = json.loads(translate_run(study, cases[:1], device="cpu").read_text())
    assert row["subject"] == "new"


def test_a_domain_knows_what_translating_needs() -> None:
    domain = Domain.model_validate({"name": "ct", "modality": "ct", "images": "*.nii.gz"})
    unseen = PreparedDomain.of(domain, PreprocessOptions())
    assert translator(nn.Identity(), source=unseen, target=unseen).intensity.ends == (-1000.0, 1500.0)
    with pytest.raises(InputError, match="no typical intensity map"):
        translator(nn.Identity(), target=MR.model_copy(update={"intensity": None}))


# Real volumes

DATA = Path(os.environ.get("MEDGAN_DATA", Path(__file__).parents[2] / "shared" / "data"))
REFUSED = {"4d_int16_scaled.nii", "not_nifti.nii", "rgb24.nii.gz"}


@pytest.mark.skipif(not (DATA / "odd").is_dir(), reason="no real cases at $MEDGAN_DATA")
@pytest.mark.parametrize("direction", ["AB", "BA"])
def test_odd_volumes_keep_their_grids_or_are_refused(run: RunDir, direction: Any, tmp_path: Path) -> None:
    files = sorted(path for path in (DATA / "odd").iterdir() if path.suffix != ".json")
    with pytest.raises(InputError) as failure:
        translate(run, [DATA / "odd"], tmp_path, direction=direction, device="cpu")
    refused = {Path(line.partition(": ")[0].strip()).name for line in str(failure.value).splitlines()[1:]}
    assert refused == REFUSED
    for file in files:
        if file.name not in REFUSED:
            check_grid(file, tmp_path)


@pytest.mark.skipif(not (DATA / "ts-abdomen").is_dir(), reason="no real cases at $MEDGAN_DATA")
@pytest.mark.parametrize(("name", "direction"), [("ct_crop", "AB"), ("mr", "BA")])
def test_abdomens_keep_their_grids(run: RunDir, name: str, direction: Any, tmp_path: Path) -> None:
    file = DATA / "ts-abdomen" / f"{name}.nii.gz"
    translate(run, [file], tmp_path, direction=direction, device="cpu")
    check_grid(file, tmp_path)


def check_grid(file: Path, folder: Path) -> None:
    stem = file.name.partition(".")[0]
    for name in (f"{stem}.nii.gz", f"{stem}_segmentation.nii.gz"):
        written, source = nib.load(folder / name), read_volume(file)
        assert written.shape == source.disk_shape
        assert np.allclose(written.affine, source.affine, atol=1e-4)
        assert np.isfinite(np.asarray(written.dataobj)).all()
        if file.name.endswith((".nii", ".nii.gz")):
            original = nib.load(file)
            for form in ("qform_code", "sform_code"):
                assert written.header[form] == original.header[form]
            assert np.allclose(written.header.get_qform(), original.header.get_qform(), atol=1e-4)
