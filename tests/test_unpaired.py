"""What translating leaves for an evaluation without pairs: features, the way back, labels by another segmentor."""

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from test_translate import CT, EXACT, MR, SHAPE, TINY_NET, save_run
from torch import Tensor, nn

from medgan.config import Component, InputError
from medgan.data.cases import Case
from medgan.data.phantom import make_phantom
from medgan.data.store import write_index
from medgan.data.volume import from_nibabel
from medgan.distances import read_features
from medgan.evaluate import evaluate_run, summary_table
from medgan.preprocess import PreparedDomain
from medgan.recipes import CycleGAN, SegCycleGAN, Segmentation
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, translate, translate_run
from medgan.translate.reader import load_reader
from medgan.translate.unpaired import Observer

NETS = {"generator_net": TINY_NET, "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1}}
TINY_SEGMENTOR = {"name": "segresnet", "channels": 8, "levels": 1}
CPU = torch.device("cpu")


def build(kind: Any, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return kind(**{k: Component.model_validate(o) if isinstance(o, dict) else o for k, o in options.items()})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    options = {**NETS, "num_classes": 8, "segmentor_net": TINY_SEGMENTOR}
    return save_run(tmp_path / "run", build(SegCycleGAN, options), "seg_cyclegan", options)


@pytest.fixture
def other(tmp_path: Path) -> RunDir:
    options = {"num_classes": 8, "segmentor_net": TINY_SEGMENTOR}
    return save_run(tmp_path / "other", build(Segmentation, options), "segmentation", options)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Three CTs and, of others, four MRs, all test; and a training MR."""
    found = []
    for index in range(8):
        phantom = make_phantom(index, SHAPE)
        side, array = ("A", phantom.ct) if index < 3 else ("B", phantom.mr)
        path, label = tmp_path / f"p{index}.nii.gz", tmp_path / f"p{index}_labels.nii.gz"
        nib.save(nib.Nifti1Image(array, phantom.affine), path)
        nib.save(nib.Nifti1Image(phantom.labels.astype(np.uint8), phantom.affine), label)
        split = "train" if index == 7 else "test"
        found.append(Case(f"p{index}", side, path, label, split))  # type: ignore[arg-type]
    return found


def observer(back: Any = None, extractor: Any = None) -> Observer:
    return Observer(source=CT, target=MR, extractor=extractor, back=back, tile=None, device=CPU)


def test_the_cycle_error_is_that_of_the_way_back_in_the_body_in_stored_units() -> None:
    given = torch.zeros(1, 1, 4, 4, 4)
    body = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    body[:, :, :2] = True
    seen = observer(back=lambda made, _: made + 0.1 + (~body) * 0.5)(given, given, body)
    assert seen.cycle_error == pytest.approx(100)  # 0.1 of a half window of 1000 HU
    assert seen.features == {}
    assert observer()(given, given, body).cycle_error is None


def test_background_is_masked_before_features_are_taken() -> None:
    class Mean(nn.Module):
        spatial_dims = 3

        def forward(self, image: Tensor) -> Tensor:
            return image.mean((2, 3, 4), keepdim=True)

    body = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    body[:, :, :2] = True
    found = observer(extractor=Mean())(torch.ones(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4), body).features
    assert found["source"]["axial"].item() == 0  # half 1, half -1
    assert found["translation"]["volume"].item() == -0.5


def test_a_run_leaves_features_cycle_errors_and_distances(run: RunDir, cases: list[Case]) -> None:
    index = translate_run(run, cases, device="cpu", options=EXACT)
    rows = json.loads(index.read_text())
    assert all(row["cycle_error"] > 0 for row in rows)
    read = read_features(index.parent / rows[0]["features"])
    assert set(read) == {"source", "translation"}
    assert set(read["translation"]) == {"sagittal", "coronal", "axial", "volume"}
    assert read["translation"]["axial"].shape[1] == 16
    real = index.parent / "features" / "real"
    assert sorted(path.stem for path in real.glob("*")) == ["p3", "p4", "p5", "p6"]  # no training patient

    stamps = {path: path.stat().st_mtime_ns for path in index.parent.rglob("*.*") if path.is_file()}
    translate_run(run, cases, device="cpu", options=EXACT)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    translate_run(run, [case for case in cases if case.subject != "p6"], device="cpu", options=EXACT)
    assert not (real / "p6.npz").exists()
    (index.parent / "features" / "p0.npz").unlink()
    translate_run(run, cases, device="cpu", options=EXACT)
    assert (index.parent / "features" / "p0.npz").exists()

    domains = {"A": CT.model_dump(mode="json"), "B": MR.model_dump(mode="json")}
    run.preprocess.mkdir()
    write_index(run.preprocess, [], domains)
    run.experiment_yaml.write_text("data: {classes: {0: background, 1: fat, 2: muscle}}\n")
    part = evaluate_run(run)["directions"]["AB"]
    assert part["methods"]["translation"]["cycle_error"]["count"] == 3
    assert "consistency" in part["methods"]["translation"]
    assert "features" not in part["cases"][0]["files"]  # volumes, which the report shows
    assert set(part["distances"]["axial"]) == {"source", "translation", "real"}
    assert part["distances"]["volume"]["real"]["fid"] is not None


def test_a_run_without_segmentor_or_labels_is_measured_by_the_way_back(tmp_path: Path, cases: list[Case]) -> None:
    study = save_run(tmp_path / "study", build(CycleGAN, NETS), "cyclegan", NETS)
    cases = [Case(case.subject, case.domain, case.image, None, case.split) for case in cases]
    (row, *_) = json.loads(translate_run(study, cases, device="cpu", options=EXACT).read_text())
    assert row["features"] is None
    assert not (study.translate("AB") / "features").exists()
    study.preprocess.mkdir()
    write_index(study.preprocess, [], {"A": CT.model_dump(mode="json"), "B": MR.model_dump(mode="json")})
    summary = evaluate_run(study)
    part = summary["directions"]["AB"]
    assert list(part["methods"]["translation"]) == ["cycle_error"]
    assert "distances" not in part
    assert summary_table(summary)[0] == ["direction", "method", "cycle_error"]
    off = EXACT.model_copy(update={"cycle": False})
    (row, *_) = json.loads(translate_run(study, cases, device="cpu", options=off).read_text())
    assert row["cycle_error"] is None


def mean_and_edges(segmentor: nn.Module | None, *, scale: float = 1.0) -> nn.Module:
    """An extractor from outside."""

    class Coarse(nn.Module):
        spatial_dims = 3

        def forward(self, image: Tensor) -> Tensor:
            return scale * nn.functional.avg_pool3d(image, 2, ceil_mode=True).repeat(1, 2, 1, 1, 1)

    return Coarse()


def test_an_extractor_by_dotted_name_serves_a_run_without_segmentor(tmp_path: Path, cases: list[Case]) -> None:
    study = save_run(tmp_path / "study", build(CycleGAN, NETS), "cyclegan", NETS)
    options = TranslateOptions.model_validate({"extractor": {"name": "test_unpaired.mean_and_edges", "scale": 3.0}})
    index = translate_run(study, cases[:1], device="cpu", options=options)
    assert read_features(index.parent / "features" / "p0.npz")["source"]["axial"].shape[1] == 2


def test_a_segmentor_without_encoder_leaves_a_word_and_no_features(
    run: RunDir, cases: list[Case], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr("medgan.networks.segmentor._Padded.encode")
    with caplog.at_level(logging.WARNING):
        (row,) = json.loads(translate_run(run, cases[:1], device="cpu", options=EXACT).read_text())
    assert row["features"] is None
    assert "no features are written" in caplog.text


def test_another_run_s_segmentor_reads_the_labels(run: RunDir, other: RunDir, cases: list[Case]) -> None:
    folder = run.translate("BA")
    cases = cases[3:4]
    translate_run(run, cases, direction="BA", device="cpu", options=EXACT)
    own = np.asarray(nib.load(folder / "p3_segmentation.nii.gz").dataobj)
    translate_run(run, cases, direction="BA", device="cpu", options=EXACT, segmentor=other)
    read = np.asarray(nib.load(folder / "p3_segmentation.nii.gz").dataobj)
    assert not np.array_equal(own, read)
    image = nib.load(folder / "p3.nii.gz")
    volume = from_nibabel(image)
    again = load_reader(other, CT, options=EXACT, device="cpu").read(volume, volume.array)
    assert (again == read).mean() > 0.999  # whole HU on disk


def test_labels_of_single_volumes_can_be_read_by_another_run_too(
    tmp_path: Path, run: RunDir, other: RunDir, cases: list[Case]
) -> None:
    (path,) = translate(run, [cases[3].image], tmp_path / "out", direction="BA", device="cpu", segmentor=other)
    assert (tmp_path / "out" / "p3_segmentation.nii.gz").exists()
    assert path.exists()


def test_a_reader_is_of_the_domain_by_name_or_modality(other: RunDir, run: RunDir, tmp_path: Path) -> None:
    named = PreparedDomain.model_validate(CT.model_dump() | {"name": "planning-ct"})
    load_reader(other, named, device="cpu")
    with pytest.raises(InputError, match=r"other: segments ct, not mr; name a run that was trained to segment it"):
        load_reader(other, MR, device="cpu")
    study = save_run(tmp_path / "study", build(CycleGAN, NETS), "cyclegan", NETS)
    with pytest.raises(InputError, match=r"study: segments nothing, not ct"):
        load_reader(study, CT, device="cpu")
