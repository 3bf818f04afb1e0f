"""The figures that the data's own README gives, and the case table made from it."""

import csv
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MEDGAN_DATA", ROOT.parent / "shared" / "data")) / "sts-half"
sys.path.insert(0, str(ROOT / "scripts"))

import sts_baselines  # noqa: E402
import sts_cases  # noqa: E402

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no public sarcoma volumes at $MEDGAN_DATA")


@needs_data
def test_the_lookup_tables_of_the_readme_are_reproduced_to_1_hu() -> None:
    scores = sts_baselines.baselines(DATA)
    regions = ("MAE common body", "MAE dense bone", "MAE MR body")
    mean = [scores["lookup table, mean per bin"][region]["mean"] for region in regions]
    median = [scores["lookup table, median per bin"][region]["mean"] for region in regions]
    assert mean == pytest.approx([43.9, 405, 69.6], abs=1)
    assert median == pytest.approx([39.7, 432, 64.6], abs=1)
    assert scores["one value everywhere"]["MAE common body"]["mean"] > 1.5 * median[0]


@needs_data
def test_the_case_table_keeps_training_unpaired_and_the_test_patients_paired() -> None:
    rows = sts_cases.case_rows(DATA, paired=False, start=ROOT)
    of = {
        (domain, split): {row["subject"] for row in rows if (row["domain"], row["split"]) == (domain, split)}
        for domain in ("CT", "MR")
        for split in ("train", "validation", "test")
    }
    assert len(of["CT", "train"]) == 10
    assert len(of["MR", "train"]) == 11
    assert len(of["CT", "validation"]) == len(of["MR", "validation"]) == 2
    assert of["CT", "test"] == of["MR", "test"] == {"STS_010", "STS_024", "STS_043", "STS_051"}
    assert not (of["CT", "train"] | of["CT", "validation"]) & (of["MR", "train"] | of["MR", "validation"])
    assert all((ROOT / row[key]).is_file() for row in rows for key in ("image", "label"))


def _fake_data(folder: Path) -> Path:
    names = [("train_ct", f"C{i}") for i in range(3)] + [("train_mr", f"M{i}") for i in range(3)] + [("test", "T0")]
    lines = [f"{name},{role},ct.nii.gz,t1.nii.gz,tissue.nii.gz,0" for role, name in names]
    (folder / "subjects.csv").write_text("subject,role,ct,t1,tissue,residual_shift_mm\n" + "\n".join(lines) + "\n")
    return folder


def test_paired_adds_the_ct_of_the_mr_patients_in_the_same_split(tmp_path: Path) -> None:
    rows = sts_cases.case_rows(_fake_data(tmp_path), paired=True, start=tmp_path)
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["subject"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert sum(row["domain"] == "CT" for row in rows) == 7
    assert sum(row["domain"] == "MR" for row in rows) == 4


def test_the_script_writes_a_table_with_paths_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    out = tmp_path / "tables" / "cases.csv"
    monkeypatch.setattr(sys, "argv", ["sts_cases.py", str(_fake_data(data)), str(out)])
    sts_cases.main()
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] | {"split": ""} == {
        "subject": "C0",
        "domain": "CT",
        "image": "../data/C0/ct.nii.gz",
        "label": "../data/C0/tissue.nii.gz",
        "split": "",
    }
    assert "1 CT test, 1 CT train, 2 CT validation" in capsys.readouterr().out


def test_a_folder_without_subjects_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"subjects\.csv: no such file; give the folder"):
        sts_cases.read_subjects(tmp_path)
    with pytest.raises(SystemExit, match=r"subjects\.csv: no such file; give the folder"):
        sts_baselines.baselines(tmp_path)
