"""Spread over networks and mirrored images, the residual of the way back, and both as files on the input's grid."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from test_audit import study as study  # the fixture
from test_translate import EXACT, SHAPE, translator
from torch import Tensor, nn

from medgan.cli import run as command
from medgan.config import InputError
from medgan.data.phantom import make_phantom
from medgan.data.volume import Volume, from_nibabel
from medgan.rundir import RunDir
from medgan.translate.uncertainty import Uncertainty, load_uncertainty


class Scaled(nn.Module):
    """Times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        return image * self.factor


@pytest.fixture
def volume() -> Volume:
    phantom = make_phantom(1, SHAPE)
    return from_nibabel(nib.Nifti1Image(phantom.ct, phantom.affine))


def test_the_spread_is_the_standard_deviation_over_all_that_take_part(volume: Volume) -> None:
    seen: dict[str, Tensor] = {}

    def look(given: Tensor, made: Tensor, body: Tensor) -> Any:
        maps = Uncertainty(straight, [lambda i, _: 1000 * 0.8 * i, lambda i, _: 1000 * 0.4 * i], None).look(
            given, made, body
        )
        seen.update(maps, given=given, body=body)
        return maps

    straight = translator(Scaled(1.0))
    found = straight.translate(volume, look).maps["spread"]
    values, body = 1000 * seen["given"], seen["body"]
    expected = torch.stack([values, 0.8 * values, 0.4 * values]).std(dim=0)  # CT: a half window is 1000 HU
    assert torch.allclose(seen["spread"][body], expected[body], atol=1e-2)
    assert seen["spread"][~body].abs().max() == 0
    assert found.shape == volume.array.shape
    assert found.dtype == np.float32


def test_the_cycle_map_is_the_way_back_against_the_source(volume: Volume) -> None:
    there, back = translator(Scaled(0.5)), translator(Scaled(1.0))
    shown = Uncertainty(there, [], back)
    maps = there.translate(volume, shown.look).maps
    assert list(maps) == ["cycle"]
    middle = tuple(n // 2 for n in SHAPE)
    expected = abs(float(np.clip(volume.array[middle], -1000, 1000))) / 2
    assert maps["cycle"][middle] == pytest.approx(expected, abs=1)


def test_mirrored_training_and_other_checkpoints_take_part_once_each(study: Path) -> None:
    run = RunDir(study)
    assert len(load_uncertainty(run, "AB", options=EXACT, device="cpu").members) == 1  # mirrored along axis 0
    state = torch.load(run.checkpoint("best"), weights_only=True)
    for kind in ("last", "0000001", "0000006"):
        torch.save({**state, "step": 10}, run.checkpoint(kind))  # the same weights tell nothing new
    assert len(load_uncertainty(run, "AB", options=EXACT, device="cpu").members) == 1
    for factor, kind in ((2, "last"), (3, "0000001"), (4, "0000006")):
        networks = {
            key: factor * value if torch.is_tensor(value) else value for key, value in state["networks"].items()
        }
        torch.save({**state, "networks": networks, "step": 10}, run.checkpoint(kind))
    assert len(load_uncertainty(run, "AB", options=EXACT, device="cpu").members) == 3
    early = EXACT.model_copy(update={"spread_from": 0.0, "spread_flips": (0, 1)})
    assert len(load_uncertainty(run, "AB", options=early, device="cpu").members) == 5
    assert load_uncertainty(run, "AB", options=EXACT, device="cpu", others=[run]).back is not None


def test_maps_are_written_beside_translations_and_left_alone_where_they_stand(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "A3.nii.gz", tmp_path / "out"
    arguments = ["translate", str(study), str(source), "--output", str(output), "--direction", "AB", "--device", "cpu"]
    assert command([*arguments, "--with", str(study)]) == 1
    assert "--with goes with --uncertainty" in capsys.readouterr().err
    assert command([*arguments, "--uncertainty"]) == 0
    given = nib.load(source)
    for name in ("spread", "cycle"):
        image = nib.load(output / f"A3_{name}.nii.gz")
        assert image.shape == given.shape
        assert np.array_equal(image.affine, given.affine)
        assert image.get_fdata().max() > 0
    written = (output / "A3_cycle.nii.gz").stat().st_mtime_ns
    assert command([*arguments, "--uncertainty"]) == 0
    assert (output / "A3_cycle.nii.gz").stat().st_mtime_ns == written


def test_a_map_never_falls_onto_a_translation(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "A3_cycle.nii.gz"
    other.write_bytes((tmp_path / "A0.nii.gz").read_bytes())
    inputs = [str(tmp_path / "A3.nii.gz"), str(other)]
    arguments = ["translate", str(study), *inputs, "--output", str(tmp_path / "out"), "--direction", "AB"]
    assert command([*arguments, "--uncertainty", "--device", "cpu"]) == 1
    assert "A3_cycle.nii.gz: is a translation" in capsys.readouterr().err


def test_where_nobody_takes_part_the_way_out_is_told(study: Path) -> None:
    run = RunDir(study)
    state = torch.load(run.checkpoint("best"), weights_only=True)
    options = EXACT.model_copy(update={"spread_flips": ()})
    assert load_uncertainty(run, "AB", options=options, device="cpu").members == []
    domains = {**state["domains"], "A": {**state["domains"]["A"], "preprocess": {"spacing_mm": [1.0, 1.0, 1.0]}}}
    other = RunDir(run.path.parent / "other")
    other.checkpoint("best").parent.mkdir(parents=True)
    torch.save({**state, "domains": domains}, other.checkpoint("best"))
    with pytest.raises(InputError, match="prepares ct otherwise than the run"):
        load_uncertainty(run, "AB", options=options, device="cpu", others=[other])
