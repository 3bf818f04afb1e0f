"""What only shows between volumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medgan.check.together import Known, case_findings, outliers, volume_findings
from medgan.check.volumes import Facts
from medgan.data.cases import Case

NAMES = {"A": "CT", "B": "MR"}


def facts(place: str, *, shape=(100, 100, 50), spacing=(1.0, 1.0, 2.0), values=(), digest=None, low=-1000.0) -> Facts:
    affine = tuple(tuple(float(n) for n in row) for row in np.diag([*spacing, 1]))
    return Facts(place, bool(values), "ct", shape, affine, "int16", low, 1000.0, digest, tuple(values))


def known(subject: str, domain="A", split="train", values=None, **fields) -> Known:
    path = Path(f"{subject}_{domain}.nii")
    label = None if values is None else facts(f"{subject}_label.nii", values=values.items())
    image = facts(str(path), **fields)
    return Known(Case(subject, domain, path, Path("label.nii") if values else None, split), image, label)


def kinds(findings) -> list[str]:
    return [one.kind for one in findings]


def test_a_patient_in_two_splits_and_a_copy_across_them_are_errors():
    cases = [known("p"), known("p", "B", "test"), known("q", digest="x"), known("r", split="test", digest="x")]
    findings = case_findings(cases, {}, NAMES)
    assert [(one.kind, one.severity) for one in findings] == [
        ("patient_in_two_splits", "error"),
        ("image_in_two_splits", "error"),
    ]
    assert findings[0].what == "subject p is in train and test"
    assert "(train) the same voxels as r_A.nii (test)" in findings[1].what


def test_one_volume_of_ten_with_another_spacing_or_extent_is_an_outlier():
    usual = [facts(f"{n}.nii", spacing=(1 + n / 100, 1, 2)) for n in range(9)]
    assert outliers(usual, "CT") == []
    odd = facts("odd.nii", spacing=(1, 1, 5), shape=(100, 100, 20))
    findings = outliers([*usual, odd], "CT")
    assert [(one.kind, one.place) for one in findings] == [("spacing_outlier", "odd.nii")]
    assert findings[0].what == "spacing 1 x 1 x 5 mm, usual in CT 1.03 x 1 x 2 mm"
    large = facts("large.nii", shape=(100, 100, 200))
    assert [(one.kind, one.place) for one in outliers([*usual, large], "CT")] == [("extent_outlier", "large.nii")]
    assert outliers([*usual[:3], large], "CT") == []  # four volumes tell nothing of what is usual


def test_a_volume_stored_in_another_orientation_is_no_outlier_but_a_note():
    usual = [facts(f"{n}.nii") for n in range(5)]
    turned = replace(usual[0], shape=(50, 100, 100), affine=((0.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 0.0), (2.0, 0, 0, 0), (0, 0, 0, 1.0)))  # fmt: skip  # noqa: E501
    assert turned.orientation == "SAR"
    findings = outliers([*usual, turned], "CT")
    assert [(one.kind, one.what) for one in findings] == [("orientations", "5 RAS, 1 SAR")]


def test_several_lowest_values_of_ct_are_a_note():
    images = [facts("a", low=-1000), facts("b", low=-1024), facts("c", low=-1000), facts("d", low=0)]
    assert [(one.kind, one.what) for one in volume_findings(images)] == [("floors", "lowest values -1024, -1000")]


@pytest.mark.parametrize(
    ("of_b", "kind", "what"),
    [
        ({0: 900, 1: 50, 2: 50}, None, ""),
        ({0: 900, 1: 100}, "class_in_one_domain", "class 2 (bone) is in no label map of MR"),
        ({0: 900, 1: 95, 2: 5}, "class_balance", "class 2 (bone): 50 % in CT, 5 % in MR"),
        ({0: 900, 1: 70, 2: 30}, None, ""),
    ],
)
def test_classes_that_differ_between_the_domains_are_a_warning(of_b, kind, what):
    of_a = {0: 900, 1: 50, 2: 50}
    cases = [known(f"a{n}", values=of_a) for n in range(3)] + [known(f"b{n}", "B", values=of_b) for n in range(3)]
    findings = case_findings(cases, {0: "background", 1: "fat", 2: "bone"}, NAMES)
    assert kinds(findings) == ([kind] if kind else [])
    assert not kind or findings[0].what.startswith(what)


def test_a_class_that_no_map_has_is_a_warning_and_cases_without_a_map_a_note():
    cases = [known("a", values={0: 5, 1: 5}), known("b", "B")]
    findings = case_findings(cases, {0: "background", 1: "fat", 2: "bone"}, NAMES)
    assert kinds(findings) == ["class_absent", "unlabelled"]
    assert findings[0].what == "class 2 (bone) is in no label map"


def test_domains_with_another_field_of_view_are_a_warning_and_with_another_spacing_a_note():
    cases = [known("a"), known("b", "B", shape=(100, 100, 20))]
    assert kinds(case_findings(cases, {}, NAMES)) == ["extent_domains"]
    cases = [known("a"), known("b", "B", shape=(100, 100, 25), spacing=(1, 1, 4))]
    findings = case_findings(cases, {}, NAMES)
    assert kinds(findings) == ["spacing_domains"]
    assert findings[0].what == "median 1 x 1 x 2 mm in CT, 1 x 1 x 4 mm in MR"
