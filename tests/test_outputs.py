"""Many inputs: what each leaves, what is done already, shares of job arrays, several processes, DICOM beside NIfTI."""

import errno
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
import yaml
from joblib import parallel_config
from test_dicom import write_series
from test_translate import EXACT, TINY_NET, save_run

from medgan import translate as translate_module
from medgan.cli import run as command
from medgan.config import Component, InputError
from medgan.data.cases import Case
from medgan.data.phantom import make_phantom
from medgan.data.volume import read_volume
from medgan.recipes import Pix2Pix
from medgan.rundir import RunDir
from medgan.translate import VolumeTranslator, files, translate, translate_run
from medgan.translate.outputs import Output, plan_outputs, share


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """CT to MR, without a segmentor."""
    torch.manual_seed(0)
    options = {"direction": "AB", "generator_net": TINY_NET, "lambda_adv": 0.0}
    recipe = Pix2Pix(direction="AB", generator_net=Component.model_validate(TINY_NET), lambda_adv=0.0)
    made = save_run(tmp_path_factory.mktemp("run"), recipe, "pix2pix", options)
    values = {
        "data": {"A": {"name": "ct", "modality": "ct"}, "B": {"name": "mr", "modality": "mr"}},
        "recipe": {"name": "pix2pix", **options},
    }
    made.experiment_yaml.write_text(yaml.safe_dump(values), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    phantom = make_phantom(1, (16, 16, 8))
    for number in range(3):
        nib.save(nib.Nifti1Image(phantom.ct - number, phantom.affine), folder / f"p{number}.nii.gz")
    return folder


@pytest.fixture
def ct_series(tmp_path: Path) -> Path:
    folder = write_series(tmp_path / "patient", "CT")
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.RescaleSlope, one.RescaleIntercept = "1", "-40"
        one.save_as(file)
    return folder


# Plans


def test_every_input_has_a_place_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "files").mkdir()
    for name in ("b.nii.gz", "a.mha", "notes.txt", ".b.nii.gz.77.nii.gz"):
        (tmp_path / "files" / name).touch()
    plan = plan_outputs([tmp_path / "series", tmp_path / "files"], tmp_path / "out")
    assert [one.image.name for one in plan] == ["series.nii.gz", "a.nii.gz", "b.nii.gz"]
    assert plan[1].labels == tmp_path / "out" / "a_segmentation.nii.gz"
    assert plan[0].series is None
    (one,) = plan_outputs([tmp_path / "series"], tmp_path / "out", as_dicom=True)
    assert one.series == tmp_path / "out" / "series_dicom"


def test_shares_are_disjoint_and_leave_nothing_out(tmp_path: Path) -> None:
    plan = [Output(Path(str(n)), Path(f"{n}.nii.gz"), Path(), None) for n in range(10)]
    shares = [share(plan, (index, 4)) for index in (1, 2, 3, 4)]
    assert [len(one) for one in shares] == [3, 3, 2, 2]
    assert sorted(str(one.source) for part in shares for one in part) == [str(n) for n in range(10)]
    assert [str(one.source) for one in shares[0]] == ["0", "4", "8"]
    assert share(plan, None) == plan
    assert share(plan[:1], (2, 4)) == []
    for wrong in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(InputError, match="no such share; count from 1/"):
            share(plan, wrong)


def test_what_an_interrupted_command_left_is_its_own(tmp_path: Path) -> None:
    (one,) = plan_outputs([tmp_path / "p.nii"], tmp_path)
    assert not one.stands()
    writing = one.being_written()
    writing.__enter__()
    one.labels.touch()
    del writing  # never left, as in a process that was killed
    assert one.is_unfinished
    assert not one.stands()
    with one.being_written():
        one.image.touch()
    assert one.stands()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.nii.gz", "p_segmentation.nii.gz"]
    one.image.unlink()
    with pytest.raises(InputError, match="stands already, without"):
        one.stands()


# The command


def test_a_command_cut_short_goes_on_and_redoes_only_what_it_had_not_finished(
    run: RunDir, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = files.write_volume, []

    def killed_at_the_second(path: Path, *rest: Any) -> None:
        written.append(path.name)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(files, "write_volume", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        translate(run, [volumes], tmp_path, device="cpu", options=EXACT)
    (tmp_path / "p1_segmentation.nii.gz").touch()  # as a run with a segmentor would have left it
    translate(run, [volumes], tmp_path, device="cpu", options=EXACT)
    assert written == ["p0.nii.gz", "p1.nii.gz", "p1.nii.gz", "p2.nii.gz"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupt_while_one_is_computed_leaves_the_one_before_whole_and_nothing_else(
    run: RunDir, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, computed = VolumeTranslator.translate, []

    def interrupted_at_the_second(self: VolumeTranslator, volume: Any, *rest: Any) -> Any:
        computed.append(volume.path.name)
        if len(computed) == 2:
            raise KeyboardInterrupt
        return compute(self, volume, *rest)

    monkeypatch.setattr(VolumeTranslator, "translate", interrupted_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        translate(run, [volumes], tmp_path, device="cpu", options=EXACT)
    assert [path.name for path in tmp_path.iterdir()] == ["p0.nii.gz"]
    translate(run, [volumes], tmp_path, device="cpu", options=EXACT)
    assert computed == ["p0.nii.gz", "p1.nii.gz", "p1.nii.gz", "p2.nii.gz"]


def test_nothing_is_loaded_where_everything_stands(
    run: RunDir, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.nii.gz").touch()
    monkeypatch.setattr(translate_module, "load_translator", None)
    assert len(translate(run, [volumes], tmp_path, device="cpu")) == 3


def test_a_bug_in_one_volume_does_not_stop_the_rest_and_is_told_as_one(
    run: RunDir, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def stumble(path: Path) -> Any:
        return {}["p0"] if path.name == "p0.nii.gz" else read_volume(path)

    monkeypatch.setattr(translate_module, "read_volume", stumble)
    with pytest.raises(RuntimeError, match=r"(?s)p0\.nii\.gz: a bug.*KeyError"):
        translate(run, [volumes], tmp_path, device="cpu", options=EXACT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p1.nii.gz", "p2.nii.gz"]


def test_volumes_in_one_go_are_the_same_bytes_as_one_by_one(run: RunDir, volumes: Path, tmp_path: Path) -> None:
    together, apart = tmp_path / "together", tmp_path / "apart"
    translate(run, [volumes], together, device="cpu", options=EXACT)
    for volume in sorted(volumes.iterdir()):
        translate(run, [volume], apart, device="cpu", options=EXACT)
        assert (together / volume.name).read_bytes() == (apart / volume.name).read_bytes()
    assert len(list(together.iterdir())) == 3


def test_a_volume_in_the_middle_that_is_unreadable_or_cannot_be_written_is_told_and_made_later(
    run: RunDir, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = nib.save

    def no_room_for_p1(image: Any, path: Path) -> None:
        if "p1" in path.name:
            path.write_bytes(b"a part")
            raise OSError(errno.ENOSPC, "no space left")
        save(image, path)

    unreadable = tmp_path / "unreadable.nii"
    unreadable.write_bytes(b"not a volume")
    inputs, out = [volumes / "p0.nii.gz", unreadable, volumes / "p1.nii.gz", volumes / "p2.nii.gz"], tmp_path / "out"
    monkeypatch.setattr(nib, "save", no_room_for_p1)
    with pytest.raises(InputError, match="2 of 4 volumes") as failure:
        translate(run, inputs, out, device="cpu", options=EXACT)
    _, first, second = str(failure.value).splitlines()
    assert "unreadable.nii: " in first
    assert "p1.nii.gz: cannot be written" in second
    assert sorted(path.name for path in out.iterdir()) == [".p1.unfinished", "p0.nii.gz", "p2.nii.gz"]
    monkeypatch.undo()
    translate(run, [volumes], out, device="cpu", options=EXACT)
    assert sorted(path.name for path in out.iterdir()) == ["p0.nii.gz", "p1.nii.gz", "p2.nii.gz"]


def test_a_case_in_the_middle_of_a_study_that_is_unreadable_stops_no_other(
    run: RunDir, volumes: Path, tmp_path: Path
) -> None:
    study = RunDir(tmp_path / "run")
    study.checkpoint("best").parent.mkdir(parents=True)
    study.checkpoint("best").write_bytes(run.checkpoint("best").read_bytes())
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"not a volume")
    paths = {"p0": volumes / "p0.nii.gz", "bad": bad, "p2": volumes / "p2.nii.gz"}
    cases = [Case(subject, "A", path, None, "test") for subject, path in paths.items()]
    options = EXACT.model_copy(update={"features": False, "cycle": False})
    with pytest.raises(InputError, match=r"1 of 3 volumes could not be translated:\n.*bad\.nii: "):
        translate_run(study, cases, device="cpu", options=options)
    rows = json.loads((study.translate("AB") / "cases.json").read_text())
    assert [row["subject"] for row in rows] == ["p0", "p2"]
    translate(run, [volumes], tmp_path / "files", device="cpu", options=options)
    for name in ("p0.nii.gz", "p2.nii.gz"):
        assert (study.translate("AB") / name).read_bytes() == (tmp_path / "files" / name).read_bytes()


@pytest.mark.parametrize("backend", ["sequential", pytest.param("loky", marks=pytest.mark.slow)])
def test_several_processes_make_what_one_makes(run: RunDir, volumes: Path, tmp_path: Path, backend: str) -> None:
    inputs = [*sorted(volumes.iterdir())[:2], tmp_path / "absent.nii"]
    for folder, workers in (("one", 1), ("two", 2)):
        with parallel_config(backend), pytest.raises(InputError, match="1 of 3 volumes") as failure:
            translate(run, inputs, tmp_path / folder, device="cpu", options=EXACT, workers=workers)
        assert "absent.nii: no such file" in str(failure.value)
    for name in ("p0.nii.gz", "p1.nii.gz"):
        one, two = (nib.load(tmp_path / folder / name).get_fdata() for folder in ("one", "two"))
        assert np.array_equal(one, two)


def test_exit_codes_tell_fine_from_wrong(
    run: RunDir, volumes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def given(*words: str) -> int:
        return command(["translate", str(run.path), *words, "--device", "cpu", "--set", "translate.precision=float32"])

    def refused(*words: str) -> str:
        capsys.readouterr()
        assert given(*words) == 1
        return capsys.readouterr().err

    out = ["--output", str(tmp_path / "out")]
    assert given(str(volumes), *out, "--shard", "2/3") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p1.nii.gz"]
    assert given(str(volumes), *out, "--shard", "3/3") == 0
    assert given(str(volumes), *out) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    (tmp_path / "bad.nii").write_bytes(b"none")
    told = refused(str(volumes), str(tmp_path / "bad.nii"), *out)
    assert "1 of 4 volumes could not be translated" in told
    assert "bad.nii: " in told
    for words, message in (
        (["--shard", "1of3", *out], "--shard 1of3: not i/n"),
        (["--shard", "4/3", *out], "--shard 4/3: no such share"),
        (["--dicom", *out], "p0.nii.gz: no DICOM series to derive one from; leave --dicom out"),
        (["--keep-patient", *out], "--keep-patient goes with --dicom"),
    ):
        told = refused(str(volumes), *words)
        assert message in told
        assert told.count("\n") == 1
    for words in (["--dicom"], ["--shard", "1/2"], ["--workers", "2"]):
        assert "go with INPUT" in refused(*words)


# DICOM


def test_a_series_becomes_a_nifti_and_a_series_on_one_grid(run: RunDir, ct_series: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["translate", str(run.path), str(ct_series), "--output", str(out), "--dicom", "--device", "cpu"]
    assert command(words) == 0
    assert sorted(path.name for path in out.iterdir()) == ["patient.nii.gz", "patient_dicom"]
    source, nifti, series = read_volume(ct_series), read_volume(out / "patient.nii.gz"), out / "patient_dicom"
    made = read_volume(series)
    assert np.array_equal(made.affine, source.affine)
    assert np.allclose(nifti.affine, source.affine, atol=1e-5)
    one = pydicom.dcmread(series / "00001.dcm")
    assert (one.Modality, str(one.PatientName)) == ("MR", "SYNTHETIC")
    assert np.allclose(made.array, nifti.array, atol=max(0.5, 1e-3 * np.ptp(nifti.array)))
    before = {file.name: file.stat().st_mtime_ns for file in series.iterdir()}
    assert command(words) == 0
    assert before == {file.name: file.stat().st_mtime_ns for file in series.iterdir()}
    assert command([*words, "--force", "--keep-patient"]) == 0
    assert str(pydicom.dcmread(series / "00001.dcm").PatientName) == "Doe^Jane"


def test_a_translation_without_its_series_is_no_whole_output(run: RunDir, ct_series: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    translate(run, [ct_series], out, device="cpu", options=EXACT)
    with pytest.raises(InputError, match="stands already, without its series"):
        translate(run, [ct_series], out, device="cpu", options=EXACT, dicom=True)
    (out / "patient.nii.gz").unlink()
    (out / "patient_dicom").mkdir()
    with pytest.raises(InputError, match=r"patient_dicom: stands already, without patient\.nii\.gz"):
        translate(run, [ct_series], out, device="cpu", options=EXACT, dicom=True)
    assert not list((out / "patient_dicom").iterdir())


def test_a_target_that_is_neither_ct_nor_mr_has_no_dicom(run: RunDir, ct_series: Path, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "other")
    other.checkpoint("best").parent.mkdir(parents=True)
    state = torch.load(run.checkpoint("best"), weights_only=True)
    state["domains"]["B"]["modality"] = "other"
    torch.save(state, other.checkpoint("best"))
    with pytest.raises(InputError, match="mr is neither CT nor MR"):
        translate(other, [ct_series], tmp_path / "out", device="cpu", options=EXACT, dicom=True)
    assert not (tmp_path / "out").exists()
