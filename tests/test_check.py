import json
import os
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.check import Finding, print_check, run_check, volumes_below, write_check
from medgan.config import InputError
from medgan.data.cases import Case

DATA = Path(os.environ.get("MEDGAN_DATA", Path(__file__).parents[2] / "shared/data"))


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, (6, 5, 4)).astype(np.int16)


def label() -> np.ndarray:
    return np.arange(120).reshape(6, 5, 4).astype(np.uint8) % 3


def found(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.severity, finding.what) for finding in findings]


CLASSES = {0: "background", 1: "fat", 2: "bone"}


def make_case(root: Path, subject: str = "p1", *, split="train", domain="A", seed=0, labels=None) -> Case:
    path = save(root / f"{subject}_{domain}.nii.gz", image(seed))
    label_path = None if labels is None else save(root / f"{subject}_{domain}_label.nii.gz", labels)
    return Case(subject, domain, path, label_path, split)


def test_good_cases_have_no_findings(tmp_path):
    cases = [make_case(tmp_path, "p1", labels=label()), make_case(tmp_path, "p2", seed=1, domain="B", labels=label())]
    assert run_check(cases, CLASSES, modalities={"A": "ct", "B": "mr"}) == []


def test_a_folder_is_searched_and_every_refusal_is_an_error_with_its_way_out(tmp_path):
    save(tmp_path / "deep/er/good.nii.gz", image())
    save(tmp_path / "time.nii", np.zeros((3, 3, 3, 2), np.int16))
    (tmp_path / "bad.nii").write_bytes(b"garbage")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.nii").write_bytes(b"")
    findings = run_check([tmp_path])
    assert found(findings) == [
        ("error", "not a NIfTI file, or a damaged one"),
        ("error", "4D of shape (3, 3, 3, 2), not 3D"),
    ]
    assert [Path(finding.place).name for finding in findings] == ["bad.nii", "time.nii"]
    assert findings[1].way_out == "split it into one file per volume or channel"
    assert volumes_below(tmp_path / "time.nii") == [tmp_path / "time.nii"]


@pytest.mark.parametrize(
    ("change", "severity", "what"),
    [
        (lambda array: array[0, 0].fill(np.nan), "warning", "4 voxels are NaN or infinite"),
        (lambda array: array.fill(np.nan), "error", "no voxel is finite"),
        (lambda array: array.fill(7), "error", "every voxel is 7"),
        (
            lambda array: array.__setitem__((..., [0, 1, 3]), 0),
            "warning",
            "3 of 4 slices of the third axis are empty (0-1, 3)",
        ),
    ],
)
def test_voxels_that_mean_nothing_are_found(tmp_path, change, severity, what):
    array = image().astype(np.float32)
    change(array)
    findings = run_check([save(tmp_path / "x.nii", array)])
    assert findings[-1 if severity == "warning" else 0].severity == severity
    assert any(what in finding.what for finding in findings)


def test_shear_and_a_grid_without_codes_are_warnings_and_a_trailing_axis_is_a_note(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 1
    path = save(tmp_path / "sheared.nii", image()[..., None], sheared)
    assert found(run_check([path])) == [
        ("warning", "voxel axes are 45.0 degrees off a right angle"),
        ("note", "shape (6, 5, 4, 1) on disk is read as (6, 5, 4)"),
    ]
    uncoded = nib.Nifti1Image(image(), np.eye(4))
    uncoded.set_sform(None, 0)
    nib.save(uncoded, tmp_path / "uncoded.nii")
    assert found(run_check([tmp_path / "uncoded.nii"]))[0][1].startswith("neither qform nor sform holds")


def test_ct_without_negative_values_is_a_warning(tmp_path):
    case = Case("p", "A", save(tmp_path / "x.nii", np.abs(image()) + 24), None, "train")
    assert "below 0 HU" in run_check([case], modalities={"A": "ct"})[0].what
    assert run_check([case], modalities={"A": "mr"}) == []
    assert run_check([case]) == []


SHIFTED = np.eye(4) + np.array([[0, 0, 0, 2], *[[0] * 4] * 3])


@pytest.mark.parametrize(
    ("labels", "affine", "what"),
    [
        (label()[:5], None, "label map of shape (5, 5, 4) on an image of shape (6, 5, 4)"),
        (label(), SHIFTED, "label map lies up to 2.0 mm off its image"),
        (label() + 7, None, "label values 7, 8, 9 are not 0 to 2, or -1 for unlabelled"),
        (label().astype(np.int16) - 2, None, "label values -2 are not 0 to 2"),
        (label() * 0.25, None, "its values are not whole numbers that fit int32"),
    ],
)
def test_a_label_map_that_does_not_fit_is_an_error(tmp_path, labels, affine, what):
    case = make_case(tmp_path, labels=label())
    save(case.label, labels, affine)
    findings = [finding for finding in run_check([case], CLASSES) if finding.severity == "error"]
    assert len(findings) == 1
    assert what in findings[0].what
    assert findings[0].place == str(case.label)


def test_unlabelled_voxels_and_float_whole_numbers_are_fine(tmp_path):
    labels = label().astype(np.float32)
    labels[0] = -1
    assert run_check([make_case(tmp_path, labels=labels)], CLASSES) == []
    assert run_check([make_case(tmp_path, labels=labels)]) == []


def test_a_tiny_difference_of_the_grids_is_fine(tmp_path):
    case = make_case(tmp_path, labels=label())
    save(case.label, label(), SHIFTED * 1e-4 + np.eye(4) * (1 - 1e-4))
    assert run_check([case], CLASSES) == []


def test_labels_that_are_missing_or_empty_are_mentioned(tmp_path):
    cases = [make_case(tmp_path, "p1", labels=label() % 2), make_case(tmp_path, "p2", seed=1)]
    cases.append(make_case(tmp_path, "p3", seed=2, labels=label() * 0))
    assert found(run_check(cases, CLASSES)) == [
        ("warning", "nothing is labelled"),
        ("warning", "class 2 (bone) is in no label map"),
        ("note", "1 of 3 cases have no label map"),
    ]


def test_leakage_between_splits_is_an_error_by_name_and_by_content(tmp_path):
    by_name = [make_case(tmp_path, "p1"), make_case(tmp_path, "p1", domain="B", split="test", seed=1)]
    assert found(run_check(by_name)) == [("error", "subject p1 is in train and test")]
    copies = [make_case(tmp_path, "p2"), make_case(tmp_path, "p3", split="test")]
    assert found(run_check(copies)) == [
        ("error", f"the same voxels as {copies[1].image} and they are in different splits")
    ]
    assert found(run_check([make_case(tmp_path, "p2"), make_case(tmp_path, "p3")]))[0][0] == "warning"


def test_a_table_is_checked_and_a_wrong_one_is_a_finding(tmp_path):
    save(tmp_path / "a.nii", image())
    table = tmp_path / "cases.csv"
    table.write_text("subject,domain,image\np1,ct,a.nii\np2,mr,none.nii\n")
    assert found(run_check([], table=table)) == [("error", "no such file or folder")]
    table.write_text("subject,domain\np1,ct\n")
    finding = run_check([], table=table)[0]
    assert (finding.severity, finding.place) == ("error", str(table))
    assert "needs one column 'image'" in finding.what


def test_an_empty_folder_is_a_finding_and_nothing_at_all_a_mistake(tmp_path):
    assert found(run_check([tmp_path])) == [("error", "no volume in this folder")]
    with pytest.raises(InputError, match="nothing to check"):
        run_check([])


def test_findings_are_written_and_printed(tmp_path):
    findings = [Finding("error", "[a]/x.nii", "is broken", "mend it"), Finding("note", "y.nii", "is odd", "look at it")]
    write_check(tmp_path / "out/check.json", findings)
    saved = json.loads((tmp_path / "out/check.json").read_text())
    assert saved["counts"] == {"error": 1, "warning": 0, "note": 1}
    assert saved["findings"][0] == {
        "severity": "error",
        "place": "[a]/x.nii",
        "what": "is broken",
        "way_out": "mend it",
    }
    text = StringIO()
    print_check(findings, Console(file=text, width=100))
    for word in ("[a]/x.nii", "is broken", "mend it", "1 error, 0 warnings, 1 note"):
        assert word in text.getvalue()
    print_check([], Console(file=text))
    assert text.getvalue().endswith("0 errors, 0 warnings, 0 notes\n")


@pytest.mark.skipif(not DATA.is_dir(), reason="the real cases are not here; set MEDGAN_DATA to their folder")
def test_the_odd_files_have_the_findings_that_their_provenance_tells():
    by_name = {}
    for finding in run_check([DATA / "odd"]):
        by_name.setdefault(Path(finding.place).name, []).append(finding)
    errors = {name for name, findings in by_name.items() if any(one.severity == "error" for one in findings)}
    assert errors == {"4d_int16_scaled.nii", "not_nifti.nii", "rgb24.nii.gz"}
    assert "neither qform nor sform" in by_name["bigendian_no_codes.nii.gz"][0].what
    assert "408 voxels are NaN" in by_name["nan_float_oblique.nii.gz"][0].what
    assert "34.4 degrees" in by_name["sform_only_shear53.nii.gz"][0].what
