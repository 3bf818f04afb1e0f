from collections import Counter
from pathlib import Path

import pytest

from medgan.config import InputError, validate
from medgan.data.cases import Case, DataOptions, leakage, load_cases, split_by_patient, table_cases


def options(**changes) -> DataOptions:
    values = {"A": {"name": "ct", "modality": "ct"}, "B": {"name": "mr", "modality": "mr"}, **changes}
    return validate(DataOptions, values, "data")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_table(root: Path, *rows: str, header: str = "subject,domain,image,label,split") -> DataOptions:
    (root / "cases.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return options(table="cases.csv")


def test_a_table_gives_its_cases_with_paths_relative_to_itself(tmp_path):
    touch(tmp_path, "lists/a.nii.gz", "mr/b.nii.gz", "mr/b_label.nii.gz")
    (tmp_path / "lists/cases.csv").write_text(
        "subject,domain,image,label,split\np1,ct,a.nii.gz,,test\np2,B,../mr/b.nii.gz,../mr/b_label.nii.gz,train\n"
    )
    assert load_cases(options(table="lists/cases.csv"), tmp_path) == [
        Case("p1", "A", tmp_path / "lists/a.nii.gz", None, "test"),
        Case("p2", "B", tmp_path / "mr/b.nii.gz", tmp_path / "mr/b_label.nii.gz", "train"),
    ]


def test_absolute_paths_semicolons_a_byte_order_mark_and_another_order_of_columns_are_fine(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    (tmp_path / "cases.csv").write_text(
        f"image;domain;subject\r\n{tmp_path / 'a.nii'};ct;p1\r\n b.nii ; mr ;p2\r\n\r\n", encoding="utf-8-sig"
    )
    cases = load_cases(options(table="cases.csv"), tmp_path)
    assert [case.image for case in cases] == [tmp_path / "a.nii", tmp_path / "b.nii"]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["p1,ct,a.nii"], "subject,domain,imag", "unknown column 'imag'; did you mean 'image'"),
        (["p1,ct"], "subject,domain", "needs one column 'image', has 0"),
        (["p1,ct,a.nii,b.nii"], "subject,domain,image,image", "needs one column 'image', has 2"),
        (["p1,ct"], "subject,domain,image", "line 2: 2 cells under 3 columns"),
        (["p1,pet,a.nii"], "subject,domain,image", "line 2: unknown domain 'pet'"),
        ([",ct,a.nii"], "subject,domain,image", "line 2: no subject"),
        (["p1,ct,a.nii,tset"], "subject,domain,image,split", "line 2: split 'tset'; write train, validation, test"),
        (["p1,ct,a.nii,test", "p2,mr,b.nii,"], "subject,domain,image,split", "line 3: split ''"),
        (["p1,ct,a.nii", "p2,mr,c.nii"], "subject,domain,image", "c.nii: no such file"),
        (["p1,ct,a.nii", "p1,ct,b.nii"], "subject,domain,image", "subject p1 has 2 images in domain A"),
        (["p1,ct,a.nii", "p1,mr,./a.nii"], "subject,domain,image", "a.nii stands 2 times"),
        (["../p1,ct,a.nii"], "subject,domain,image", "cannot name a folder"),
        (["p1,ct,a.nii"], "subject,domain,image", "no images of domain B \\('mr'\\)"),
        (["p1,ct,a.nii,train", "p1,mr,b.nii,test"], "subject,domain,image,split", "subject p1 is in train and test"),
        ([], "subject,domain,image", "no rows"),
        (['p1,ct,"a.nii'], "subject,domain,image", "not CSV"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line_with_its_place(tmp_path, rows, header, message):
    touch(tmp_path, "a.nii", "b.nii")
    with pytest.raises(InputError, match=message) as caught:
        load_cases(write_table(tmp_path, *rows, header=header), tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(FileNotFoundError\)"):
        load_cases(options(table="none.csv"), tmp_path)


def test_a_table_beside_globs_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data\.A\.images: data\.table is given too"):
        load_cases(options(table="x.csv", A={"name": "ct", "modality": "ct", "images": "*.nii"}), tmp_path)


def globs(a: str, b: str = "mr/*.nii", a_labels: str | None = None) -> DataOptions:
    return options(
        A={"name": "ct", "modality": "ct", "images": a, "labels": a_labels},
        B={"name": "mr", "modality": "mr", "images": b},
    )


@pytest.mark.parametrize(
    ("images", "labels", "names", "subjects"),
    [
        ("*/ct.nii.gz", "*/seg.nii.gz", ["p1/ct.nii.gz", "p1/seg.nii.gz", "p2/ct.nii.gz"], {"p1": True, "p2": False}),
        ("p_?/c*.nii", "p_[0-9]/s*.nii", ["p_1/ca.nii", "p_2/cb.nii", "p_2/sb.nii"], {"p_1": False, "p_2": True}),
        ("im/*_0000.nii", "lab/*.nii", ["im/x_0000.nii", "im/y_0000.nii", "lab/y.nii"], {"x": False, "y": True}),
        ("ct/*.nii", "ct/*_seg.nii", ["ct/x.nii", "ct/x_seg.nii", "ct/y.nii"], {"x": True, "y": False}),
        ("**/*.mha", None, ["a/b/x.mha", "a/b/y.mha"], {"x": False, "y": False}),
        ("**/ct.mha", None, ["a/b/ct.mha", "c/ct.mha"], {"a_b": False, "c": False}),
        ("one/ct.nii", "one/seg.nii", ["one/ct.nii", "one/seg.nii"], {"ct": True}),
        ("dicom/*", None, ["dicom/p1/1.dcm", "dicom/p2/1.dcm"], {"p1": False, "p2": False}),
    ],
)
def test_a_glob_finds_the_patient_and_the_label_by_what_its_wildcards_stand_for(
    tmp_path, images, labels, names, subjects
):
    touch(tmp_path, "mr/m.nii", *names)
    cases = [case for case in load_cases(globs(images, a_labels=labels), tmp_path) if case.domain == "A"]
    assert {case.subject: case.label is not None for case in cases} == subjects


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ("ct/*.nii", None, "data.A.images: 'ct/\\*.nii' matches no file"),
        (None, None, "data.A.images: missing"),
        ("p?/*.nii", None, "'p1' has several images"),
        ("p1/*.nii", "mr/*.nii", "data.A.labels: no label map matches"),
        ("p1/*a.nii", "p?/*.nii*", "data.A.images"),
    ],
)
def test_a_glob_that_does_not_tell_patients_apart_is_refused(tmp_path, images, labels, message):
    touch(tmp_path, "mr/m.nii", "p1/1a.nii", "p1/2a.nii", "p2/1.nii")
    with pytest.raises(InputError, match=message):
        load_cases(globs(images, a_labels=labels), tmp_path)


def make_cases(a: int, b: int, both: int = 0) -> list[Case]:
    names = [("A", f"a{n}") for n in range(a)] + [("B", f"b{n}") for n in range(b)]
    names += [(side, f"p{n}") for n in range(both) for side in "AB"]
    return [Case(subject, side, Path(f"{side}{subject}"), None, "train") for side, subject in names]


def test_patients_are_drawn_into_splits_by_fraction_in_each_domain():
    cases = split_by_patient(make_cases(20, 10, 10), validation_fraction=0.1, test_fraction=0.2, seed=0)
    found = Counter(f"{case.subject[0]} {case.split}" for case in cases if case.domain == "A")
    assert found == {"a train": 14, "a validation": 2, "a test": 4, "p train": 7, "p validation": 1, "p test": 2}
    assert leakage(cases) == []


def test_small_groups_still_hold_somebody_out_and_tiny_ones_do_not():
    drawn = split_by_patient(make_cases(3, 2), validation_fraction=0.1, test_fraction=0.1, seed=0)
    splits = Counter((case.domain, case.split) for case in drawn)
    assert splits == {("A", "train"): 1, ("A", "validation"): 1, ("A", "test"): 1, ("B", "train"): 2}


def test_no_fraction_holds_nobody_out():
    assert {case.split for case in split_by_patient(make_cases(9, 9), 0, 0, 0)} == {"train"}


def test_the_draw_follows_the_seed_and_not_the_order_of_the_cases():
    cases = make_cases(40, 0)

    def held(seed: int, cases: list[Case]) -> set[str]:
        return {case.subject for case in split_by_patient(cases, 0, 0.25, seed) if case.split == "test"}

    assert held(1, cases) == held(1, cases[::-1])
    assert held(1, cases) != held(2, cases)


def test_leakage_names_the_patient_and_the_splits():
    cases = [
        Case("p1", "A", Path("a"), None, "test"),
        Case("p1", "B", Path("b"), None, "train"),
        Case("p2", "B", Path("c"), None, "train"),
    ]
    assert leakage(cases) == ["subject p1 is in train and test"]


def test_a_table_alone_names_its_domains_in_their_order_and_may_list_missing_files(tmp_path):
    write_table(tmp_path, "p1,t1,x.nii,,", "p2,ct,y.nii,,")
    assert [(case.domain, case.split) for case in table_cases(tmp_path / "cases.csv")] == [
        ("A", "train"),
        ("B", "train"),
    ]
    write_table(tmp_path, "p1,B,x.nii,,", "p2,A,y.nii,,")
    assert [case.domain for case in table_cases(tmp_path / "cases.csv")] == ["B", "A"]
    write_table(tmp_path, "p1,B,x.nii,,")
    assert [case.domain for case in table_cases(tmp_path / "cases.csv")] == ["B"]
    write_table(tmp_path, "p1,x,x.nii,,", "p2,y,y.nii,,", "p3,z,z.nii,,")
    with pytest.raises(InputError, match="3 domains"):
        table_cases(tmp_path / "cases.csv")


def test_ct_gets_a_window_and_mr_percentiles_unless_something_is_said():
    data = options(
        A={"name": "ct", "modality": "ct"},
        B={"name": "mr", "modality": "mr", "intensity": {"name": "fixed_range", "low": 0, "high": 9}},
    )
    assert (data.A.intensity.name, data.A.intensity.options["low_hu"]) == ("hounsfield_window", -1000)
    assert data.B.intensity.options == {"low": 0, "high": 9}
    assert options().B.intensity.options == {"low": 0.5, "high": 99.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": {1: "fat"}}, r"data\.classes: label values \[1\] are not 0\.\.K-1"),
        ({"classes": {0: "fat", 1: "fat"}}, "two classes bear one name"),
        ({"B": {"name": "ct", "modality": "mr"}}, "both domains are named 'ct'"),
        ({"B": {"name": "A", "modality": "mr"}}, "cannot be told apart"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "leaves nothing to train on"),
        ({"A": {"name": "ct", "modality": "xray"}}, r"data\.A\.modality"),
        ({"tabel": "x"}, "did you mean 'table'"),
    ],
)
def test_a_wrong_data_section_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        options(**changes)
