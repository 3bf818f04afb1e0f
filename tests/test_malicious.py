"""Files made to do harm are refused in one line, before they have done any."""

import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from malicious_files import ATTACKS, Attack, Harm, try_attack

from medgan.check import run_check


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_refused_in_one_line_and_does_no_harm(tmp_path, attack):
    assert try_attack(attack, tmp_path)


def test_an_attack_that_succeeds_would_be_seen(tmp_path):
    def read(path: Path) -> None:
        Harm(path.parent.parent / "harm").__reduce__()[0](path.parent.parent / "harm")

    with pytest.raises(AssertionError, match="was read"):
        try_attack(Attack("x", lambda folder: folder / "x", read, ""), tmp_path)
    assert (tmp_path / "harm").exists()


def test_a_zip_that_climbs_out_is_an_error_of_check_and_writes_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../harm.nii", b"harm")
    checked = run_check([tmp_path / "x.zip"])
    assert [(one.kind, one.severity) for one in checked.findings] == [("unsafe", "error")]
    assert not list(tmp_path.rglob("harm.nii"))


def test_a_table_that_names_folders_elsewhere_is_an_error_of_check(tmp_path):
    (tmp_path / "cases.csv").write_text("subject,domain,image\n../p,ct,a.nii\n")
    checked = run_check([], table=tmp_path / "cases.csv")
    assert [one.kind for one in checked.findings] == ["table"]
    assert checked.has_errors


def test_a_label_map_with_many_values_stays_small_in_the_findings(tmp_path):
    values = np.arange(27_000, dtype=np.int32).reshape(30, 30, 30)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "x_label.nii")
    assert len(run_check([tmp_path / "x_label.nii"], deep=True).volumes[0].values) <= 4096
