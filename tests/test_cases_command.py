"""Case tables from folders in the layouts of others."""

import csv
import json
from pathlib import Path

import pytest

from medgan.cases import write_cases
from medgan.cli import run
from medgan.config import InputError
from medgan.data.cases import table_cases
from medgan.data.layouts import list_folder


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset001_Abdomen"
    for subject in ("case_1", "case_2"):
        for channel in ("0000", "0001"):
            _touch(folder / "imagesTr" / f"{subject}_{channel}.nii.gz")
    _touch(folder / "labelsTr" / "case_1.nii.gz")
    _touch(folder / "imagesTs" / "case_3_0000.nii.gz")
    told = {"channel_names": {"0": "CT", "1": "T2"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    folder = tmp_path / "Task02_Heart"
    rows = [{"image": f"./imagesTr/la_{n}.nii.gz", "label": f"./labelsTr/la_{n}.nii.gz"} for n in (3, 4)]
    for row in rows:
        _touch(folder / row["image"])
        _touch(folder / row["label"])
    told = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "left atrium"}, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    _touch(folder / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T1w.nii.gz")
    _touch(folder / "sub-01" / "ses-a" / "ct" / "sub-01_ses-a_ct.nii.gz")
    _touch(folder / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    _touch(folder / "derivatives" / "labels" / "sub-02" / "anat" / "sub-02_space-T1w_dseg.nii.gz")
    return folder


def test_a_channel_of_nnu_net_is_a_domain_and_its_held_out_images_stay_out(nnunet: Path, tmp_path: Path) -> None:
    ct, t2 = write_cases(tmp_path / "cases.csv", f"{nnunet}:CT", f"{nnunet}:1")
    assert (ct.layout, ct.classes) == ("nnU-Net", {0: "background", 1: "liver"})
    assert [one.subject for one in t2.images] == ["case_1", "case_2"]
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text().splitlines()))
    assert rows[0] == {
        "subject": "case_1",
        "domain": "A",
        "image": "Dataset001_Abdomen/imagesTr/case_1_0000.nii.gz",
        "label": "Dataset001_Abdomen/labelsTr/case_1.nii.gz",
    }
    assert rows[3]["label"] == ""
    cases = table_cases(tmp_path / "cases.csv")
    assert {case.subject for case in cases} == {"case_1", "case_2"}  # of one folder: the same two patients
    assert all(case.image.is_file() for case in cases)


def test_patients_of_two_folders_are_apart_unless_they_are_said_to_be_the_same(
    nnunet: Path, decathlon: Path, tmp_path: Path
) -> None:
    write_cases(tmp_path / "apart.csv", f"{nnunet}:CT", str(decathlon))
    names = {case.subject for case in table_cases(tmp_path / "apart.csv")}
    assert names == {"Dataset001_Abdomen_case_1", "Dataset001_Abdomen_case_2", "Task02_Heart_la_3", "Task02_Heart_la_4"}
    write_cases(tmp_path / "same.csv", f"{nnunet}:CT", str(decathlon), same_patients=True)
    assert "la_3" in {case.subject for case in table_cases(tmp_path / "same.csv")}


def test_images_of_bids_are_found_by_their_suffix_with_the_labels_of_derivatives(bids: Path) -> None:
    listing = list_folder(bids, "T1w")
    assert [(one.subject, one.label is not None) for one in listing.images] == [("sub-01", False), ("sub-02", True)]
    assert [one.subject for one in list_folder(bids, "ses-a_ct").images] == ["sub-01"]


@pytest.mark.parametrize(
    ("what", "told"),
    [("", "images T1w, ct; say which"), ("T2w", "no image 'T2w'"), ("ses-a", "sub-01 has several images")],
)
def test_what_bids_does_not_settle_is_asked_for(bids: Path, what: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        list_folder(bids, what)


def test_a_folder_that_says_too_little_or_lies_is_refused(nnunet: Path, decathlon: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="channels 0 CT, 1 T2; say which, as in Dataset001_Abdomen:CT"):
        list_folder(nnunet)
    with pytest.raises(InputError, match="no channel 'PET'"):
        list_folder(nnunet, "PET")
    (decathlon / "labelsTr" / "la_3.nii.gz").unlink()
    with pytest.raises(InputError, match=r"la_3.nii.gz: no such file, but .*Task02_Heart lists it"):
        list_folder(decathlon)
    told = json.loads((decathlon / "dataset.json").read_text())
    told["training"][0]["image"] = "../../etc/passwd.nii.gz"
    (decathlon / "dataset.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="outside its folder"):
        list_folder(decathlon)
    with pytest.raises(InputError, match="neither nnU-Net nor decathlon"):
        list_folder(tmp_path)


def test_the_command_tells_what_it_found_and_leaves_a_table_that_stands(
    nnunet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cases", str(tmp_path / "cases.csv"), "--A", f"{nnunet}:CT", "--B", f"{nnunet}:T2"]
    assert run(command) == 0
    told = capsys.readouterr()
    assert "A: nnU-Net, 2 images, 1 with labels" in told.err
    assert "{0: background, 1: liver}" in told.err
    assert run(command) == 1
    assert "stands already" in capsys.readouterr().err
