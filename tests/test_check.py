import json
import os
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.check import Finding, print_check, run_check, volumes_below, write_check
from medgan.check.findings import KINDS, finding, grouped
from medgan.config import InputError
from medgan.data.cases import Case

DATA = Path(os.environ.get("MEDGAN_DATA", Path(__file__).parents[2] / "shared/data"))


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    if affine is None:
        image.set_qform(image.affine, 1)
    nib.save(image, path)
    return path


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, (6, 5, 4)).astype(np.int16)


def label() -> np.ndarray:
    return np.arange(120).reshape(6, 5, 4).astype(np.uint8) % 3


def check(*arguments, **options) -> list[Finding]:
    """The findings of a check that reads every voxel."""
    return list(run_check(*arguments, **{"deep": True, **options}).findings)


def found(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.severity, finding.what) for finding in findings]


CLASSES = {0: "background", 1: "fat", 2: "bone"}


def make_case(root: Path, subject: str = "p1", *, split="train", domain="A", seed=0, labels=None) -> Case:
    path = save(root / f"{subject}_{domain}.nii.gz", image(seed))
    label_path = None if labels is None else save(root / f"{subject}_{domain}_label.nii.gz", labels)
    return Case(subject, domain, path, label_path, split)


def test_good_cases_have_no_findings(tmp_path):
    cases = [make_case(tmp_path, "p1", labels=label()), make_case(tmp_path, "p2", seed=1, domain="B", labels=label())]
    assert check(cases, CLASSES, modalities={"A": "ct", "B": "mr"}) == []


def test_a_folder_is_searched_and_every_refusal_is_an_error_with_its_way_out(tmp_path):
    save(tmp_path / "deep/er/good.nii.gz", image())
    save(tmp_path / "time.nii", np.zeros((3, 3, 3, 2), np.int16))
    (tmp_path / "bad.nii").write_bytes(b"garbage")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.nii").write_bytes(b"")
    findings = check([tmp_path])
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
        (lambda array: array[0, 0].fill(np.nan), "warning", "4 of 120 voxels are NaN or infinite"),
        (lambda array: array.fill(np.nan), "error", "all 120 voxels are NaN or infinite"),
        (lambda array: array.fill(7), "error", "every voxel is 7"),
        (
            lambda array: array.__setitem__((..., [0, 1, 3]), 0),
            "warning",
            "3 of 4 slices along axis 2 (0-1, 3)",
        ),
    ],
)
def test_voxels_that_mean_nothing_are_found(tmp_path, change, severity, what):
    array = image().astype(np.float32)
    change(array)
    findings = check([save(tmp_path / "x.nii", array)])
    assert findings[-1 if severity == "warning" else 0].severity == severity
    assert any(what in finding.what for finding in findings)


def test_shear_and_a_grid_without_codes_are_warnings_and_a_trailing_axis_is_a_note(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 1
    path = save(tmp_path / "sheared.nii", image()[..., None], sheared)
    assert found(check([path])) == [
        ("warning", "axes 45.0 degrees off a right angle"),
        ("note", "shape (6, 5, 4, 1) is read as (6, 5, 4)"),
        ("note", "turned by 45.0 degrees"),
        ("note", "sform only"),
    ]
    uncoded = nib.Nifti1Image(image(), np.eye(4))
    uncoded.set_sform(None, 0)
    nib.save(uncoded, tmp_path / "uncoded.nii")
    assert found(check([tmp_path / "uncoded.nii"]))[0][1].startswith("both codes are 0")


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        (lambda hu: hu + 1024, "no_hu", "no value below 0 HU (524 to 1523): without its intercept?"),
        (lambda hu: (hu + 500) / 1000, "no_hu", "no value below 0 HU (0 to 0.999): scaled?"),
        (lambda hu: hu / 1000, "no_hu", "values from -0.5 to 0.499 are no HU: scaled?"),
        (lambda hu: np.abs(hu) // 2, "modality", "named as CT, but its values (2 to 250) look like MR"),
        (lambda hu: np.where(hu < -400, -1500, hu), "hu_floor", "down to -1500, 10 % of the voxels below -1024 HU"),
        (lambda hu: np.where(hu < -400, -1024, hu), None, ""),
    ],
)
def test_ct_that_is_not_in_hu_or_padded_below_air_is_a_warning(tmp_path, change, kind, what):
    hu = image().astype(np.float64)
    hu.flat[:12] = -500
    hu.flat[12:] = np.linspace(-399, 499, 108).round()
    values = change(hu).astype(np.float32)
    case = Case("p", "A", save(tmp_path / "x.nii", values), None, "train")
    found = [(one.kind, one.what) for one in check([case], modalities={"A": "ct"})]
    assert found == ([(kind, what)] if kind else [])


def test_mr_with_the_values_of_ct_is_a_warning(tmp_path):
    values = image()
    values.flat[:2] = -1000, 998
    path = save(tmp_path / "p_t1.nii", values)
    assert [(one.kind, one.what) for one in check([path])] == [
        ("modality", "named as MR, but its values (-1000 to 998) are those of CT")
    ]


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
    findings = [finding for finding in check([case], CLASSES) if finding.severity == "error"]
    assert len(findings) == 1
    assert what in findings[0].what
    assert findings[0].place == str(case.label)


def test_unlabelled_voxels_and_float_whole_numbers_are_fine(tmp_path):
    labels = label().astype(np.float32)
    labels[0] = -1
    for classes in (CLASSES, None):
        findings = check([make_case(tmp_path, labels=labels)], classes)
        assert [one.kind for one in findings] == ["float_labels"]


def test_a_tiny_difference_of_the_grids_is_fine(tmp_path):
    case = make_case(tmp_path, labels=label())
    save(case.label, label(), SHIFTED * 1e-4 + np.eye(4) * (1 - 1e-4))
    assert [one.kind for one in check([case], CLASSES)] == ["one_form"]


def test_labels_that_are_missing_or_empty_are_mentioned(tmp_path):
    cases = [make_case(tmp_path, "p1", labels=label() % 2), make_case(tmp_path, "p2", seed=1)]
    cases.append(make_case(tmp_path, "p3", seed=2, labels=label() * 0))
    assert found(check(cases, CLASSES)) == [
        ("warning", "only background"),
        ("warning", "class 2 (bone) is in no label map"),
        ("note", "1 of 3 cases have no label map"),
    ]


def test_leakage_between_splits_is_an_error_by_name_and_by_content(tmp_path):
    by_name = [make_case(tmp_path, "p1"), make_case(tmp_path, "p1", domain="B", split="test", seed=1)]
    assert found(check(by_name)) == [("error", "subject p1 is in train and test")]
    copies = [make_case(tmp_path, "p2"), make_case(tmp_path, "p3", split="test")]
    assert found(check(copies)) == [("error", f"(train) the same voxels as {copies[1].image} (test)")]
    assert found(check([make_case(tmp_path, "p2"), make_case(tmp_path, "p3")]))[0][0] == "warning"


def test_a_table_is_checked_and_a_wrong_one_is_a_finding(tmp_path):
    save(tmp_path / "a.nii", image())
    table = tmp_path / "cases.csv"
    table.write_text("subject,domain,image\np1,ct,a.nii\np2,mr,none.nii\n")
    assert found(check([], table=table)) == [("error", "no such file or folder")]
    table.write_text("subject,domain\np1,ct\n")
    finding = check([], table=table)[0]
    assert (finding.severity, finding.place) == ("error", str(table))
    assert "needs one column 'image'" in finding.what


def test_an_empty_folder_is_a_finding_and_nothing_at_all_a_mistake(tmp_path):
    assert found(check([tmp_path])) == [("error", "no volume below this folder")]
    with pytest.raises(InputError, match="nothing to check"):
        run_check([])


def test_several_processes_find_what_one_finds(tmp_path, monkeypatch):
    for n in range(4):
        save(tmp_path / f"{n}.nii.gz", image(n))
    save(tmp_path / "flat.nii.gz", image() * 0)
    monkeypatch.setattr("medgan.check._ALONE", 2)
    one, two = (run_check([tmp_path], deep=True, workers=workers) for workers in (1, 2))
    assert one == two
    assert [finding.kind for finding in two.findings] == ["constant"]


def test_the_words_of_a_table_for_its_domains_tell_modalities_and_stand_in_findings(tmp_path):
    for name, values in (("a", np.abs(image()) + 24), ("b", image())):
        save(tmp_path / f"{name}.nii", values)
        save(tmp_path / f"{name}_labels.nii", label() if name == "a" else label() % 2)
    rows = "p1,planning CT,a.nii,a_labels.nii\np2,T1w,b.nii,b_labels.nii\n"
    (tmp_path / "cases.csv").write_text(f"subject,domain,image,label\n{rows}")
    found = {one.kind: one.what for one in check([], table=tmp_path / "cases.csv")}
    assert found["modality"].startswith("named as CT")
    assert found["class_in_one_domain"] == "class 2 is in no label map of T1w"


def test_findings_are_written_and_printed(tmp_path):
    findings = [finding("trailing_axes", "y.nii", "is odd"), finding("cut_short", "[a]/x.nii", "is broken", "mend it")]
    write_check(tmp_path / "out/check.json", findings)
    saved = json.loads((tmp_path / "out/check.json").read_text())
    assert saved["counts"] == {"error": 1, "warning": 0, "note": 1}
    assert saved["findings"][0] == {
        "severity": "error",
        "kind": "cut_short",
        "place": "[a]/x.nii",
        "what": "is broken",
        "way_out": "mend it",
    }
    text = StringIO()
    print_check(findings, console=Console(file=text, width=100))
    for word in ("[a]/x.nii", "is broken", "mend it", "1 error, 0 warnings, 1 note"):
        assert word in text.getvalue()
    assert text.getvalue().index("is broken") < text.getvalue().index("is odd")
    print_check([], console=Console(file=text))
    assert text.getvalue().endswith("0 errors, 0 warnings, 0 notes\n")


def test_what_many_patients_share_is_one_row_with_its_count_and_examples():
    findings = [finding("no_codes", f"patients/{n:02}.nii", "both codes are 0") for n in range(29)]
    text = StringIO()
    print_check(findings, console=Console(file=text, width=100))
    shown = text.getvalue()
    assert len(grouped(findings)) == 1
    assert shown.count("both codes are 0") == 1
    assert "29" in shown
    assert "00.nii, 01.nii, 02.nii" in shown
    assert "and 26 more" in shown


def test_every_kind_has_a_title_and_a_way_out_and_stands_on_the_page():
    page = (Path(__file__).parents[1] / "docs" / "check.md").read_text()
    for name, kind in KINDS.items():
        assert kind.title, name
        assert kind.way_out, name
        assert f"`{name}`" in page, name


@pytest.mark.skipif(not DATA.is_dir(), reason="the real cases are not here; set MEDGAN_DATA to their folder")
def test_the_odd_files_have_the_findings_that_their_provenance_tells():
    by_name = {}
    for one in check([DATA / "odd"]):
        by_name.setdefault(Path(one.place).name, []).append(one)
    errors = {name for name, findings in by_name.items() if any(one.severity == "error" for one in findings)}
    assert errors == {"4d_int16_scaled.nii", "not_nifti.nii", "rgb24.nii.gz"}
    assert "both codes are 0" in by_name["bigendian_no_codes.nii.gz"][0].what
    assert "408 of 27744 voxels are NaN" in by_name["nan_float_oblique.nii.gz"][0].what
    assert "34.4 degrees" in by_name["sform_only_shear53.nii.gz"][0].what
