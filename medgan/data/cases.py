"""Which files belong together: patients, their images and label maps in two domains, and the split that each is in.

Cases come from a CSV table or from one glob per domain. A patient is in one split, whatever the number of images.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from medgan.config import Component, InputError, StrictModel, component, suggest
from medgan.data.globs import matches, subjects
from medgan.data.intensity import INTENSITIES

Side = Literal["A", "B"]
Split = Literal["train", "validation", "test"]
Modality = Literal["ct", "mr", "other"]

SPLITS: tuple[Split, ...] = get_args(Split)
_REQUIRED, _OPTIONAL = ("subject", "domain", "image"), ("label", "split")


class Domain(StrictModel):
    """One side of the translation: what its images are, where they are and how their values are mapped."""

    name: str = Field(min_length=1, description="the word for this domain in tables and file names, such as 'ct'")
    modality: Modality = Field(description="what the scanner measured; translations into 'ct' are whole HU")
    images: str | None = Field(default=None, description="glob of the images, such as 'ct/*.nii.gz'; or use data.table")
    labels: str | None = Field(default=None, description="glob of the label maps, matched to the images by name")
    intensity: component(INTENSITIES, "intensity map") = Field(  # type: ignore[valid-type]
        default=Component(name="percentile_range"),
        validate_default=True,
        description="map from stored values to [-1, 1]; for ct the default is hounsfield_window",
    )
    body_threshold: float | None = Field(
        default=None, description="stored value above which a voxel may be body; found by Otsu's method when absent"
    )

    @model_validator(mode="before")
    @classmethod
    def _window_for_ct(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("modality") == "ct" and "intensity" not in values:
            return {**values, "intensity": "hounsfield_window"}
        return values


class DataOptions(StrictModel):
    """The `data:` section: which cases there are and how they are split."""

    table: Path | None = Field(
        default=None, description="CSV with columns subject, domain, image and optionally label, split"
    )
    A: Domain = Field(description="the domain that direction AB starts from")
    B: Domain = Field(description="the domain that direction AB leads to")
    classes: dict[int, str] = Field(default={}, description="label values 0..K-1 and their names; {} without labels")
    validation_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="share of the patients, without a given split"
    )
    test_fraction: float = Field(default=0.1, ge=0, lt=1, description="share of the patients, without a given split")
    seed: int = Field(default=0, ge=0, description="decides which patients are held out")

    @field_validator("classes")
    @classmethod
    def _contiguous(cls, classes: dict[int, str]) -> dict[int, str]:
        if sorted(classes) != list(range(len(classes))):
            raise ValueError(f"label values {sorted(classes)} are not 0..K-1 without gaps; number them so")
        if len(set(classes.values())) != len(classes):
            raise ValueError("two classes bear one name; rename one")
        return classes

    @field_validator("B")
    @classmethod
    def _two_names(cls, b: Domain, info: ValidationInfo) -> Domain:
        a = info.data.get("A")
        if a is not None and a.name == b.name:
            raise ValueError(f"both domains are named '{b.name}'; give them two names")
        if b.name == "A" or (a is not None and a.name == "B"):
            raise ValueError("domain A named 'B', or B named 'A', cannot be told apart in a table; rename it")
        return b

    @model_validator(mode="after")
    def _something_to_train_on(self) -> DataOptions:
        held = self.validation_fraction + self.test_fraction
        if held >= 1:
            raise ValueError(f"validation_fraction + test_fraction = {held:g} leaves nothing to train on; lower them")
        return self


@dataclass(frozen=True)
class Case:
    """One image of one patient.

    Attributes:
        subject: the patient, by the name that the table or the path gives; also names folders of a run.
        domain: "A" or "B".
        image: a file, or a folder with one DICOM series.
        label: its label map, or None.
        split: "train", "validation" or "test".
    """

    subject: str
    domain: Side
    image: Path
    label: Path | None
    split: Split


def load_cases(options: DataOptions, root: Path) -> list[Case]:
    """The cases of a table or of two globs, sorted by domain and subject; paths in `options` start at `root`.

    Without a given split, patients are drawn by `seed`, apart for those in A, in B and in both domains: a patient
    keeps the place in the draw when others come or go.

    Raises:
        InputError: a column, domain or split that is not known, a missing file, an image or a patient that stands
            twice in a domain, a patient in two splits, a domain without images.
    """
    sides: dict[Side, Domain] = {"A": options.A, "B": options.B}
    if options.table is not None:
        for side, domain in sides.items():
            if domain.images or domain.labels:
                raise InputError(f"data.{side}.images: data.table is given too; keep one of them")
        table = root / options.table
        names = {"A": "A", "B": "B", options.A.name: "A", options.B.name: "B"}
        cases, is_split = _read_table(table, cast(Mapping[str, Side], names))
        place = str(table)
    else:
        cases, is_split = [case for side in sides for case in _from_globs(side, sides[side], root)], False
        place = "data"
    for side, domain in sides.items():
        if not any(case.domain == side for case in cases):
            raise InputError(f"{place}: no images of domain {side} ('{domain.name}'); add some or check its name")
    for case in cases:
        for file in filter(None, (case.image, case.label)):
            if not file.exists():
                raise InputError(f"{file}: no such file, but {place} lists it; check the path (relative to the table)")
    if not is_split:
        cases = split_by_patient(cases, options.validation_fraction, options.test_fraction, options.seed)
    for line in leakage(cases):
        raise InputError(f"{place}: {line}; keep each patient in one split")
    return sorted(cases, key=lambda case: (case.domain, case.subject))


def table_cases(table: Path) -> list[Case]:
    """The cases of a CSV table by itself, for checking: domains are A and B in the order in which they appear, files
    may be missing, and without a split column all are "train".

    Raises:
        InputError: the table cannot be read or does not follow its columns.
    """
    return _read_table(table, None)[0]


def table_domains(table: Path) -> list[str]:
    """The words for the domains in a CSV table, that of A first; see `table_cases`.

    Raises:
        InputError: the table cannot be read or names more than two domains.
    """
    found = list(dict.fromkeys(row["domain"] for _, row in _rows(table)))
    if len(found) > 2:
        raise InputError(f"{table}: {len(found)} domains ({', '.join(found)}); a table has two")
    return sorted(found) if set(found) <= {"A", "B"} else found


def leakage(cases: Iterable[Case]) -> list[str]:
    """One line for each patient who is in more than one split."""
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.subject, set()).add(case.split)
    return [
        f"subject {subject} is in {' and '.join(split for split in SPLITS if split in found)}"
        for subject, found in sorted(splits.items())
        if len(found) > 1
    ]


def split_by_patient(cases: Sequence[Case], validation_fraction: float, test_fraction: float, seed: int) -> list[Case]:
    """The cases with patients drawn into splits: the fractions of each group (A only, B only, both), rounded, and at
    least one patient where the fraction is not 0 and the group has three or more."""
    domains: dict[str, str] = {}
    for case in sorted(cases, key=lambda case: case.domain):
        domains[case.subject] = domains.get(case.subject, "") + case.domain
    split_of: dict[str, Split] = {}
    for group in sorted(set(domains.values())):
        drawn = sorted(
            (subject for subject in domains if domains[subject] == group), key=lambda name: _draw(seed, name)
        )
        counts = [round(len(drawn) * fraction) for fraction in (test_fraction, validation_fraction)]
        if len(drawn) >= 3:
            counts = [
                max(count, int(f > 0)) for count, f in zip(counts, (test_fraction, validation_fraction), strict=True)
            ]
        for index, subject in enumerate(drawn):
            held = "test" if index < counts[0] else "validation" if index < sum(counts) else "train"
            split_of[subject] = cast(Split, held)
    return [replace(case, split=split_of[case.subject]) for case in cases]


def _draw(seed: int, subject: str) -> bytes:
    return hashlib.sha256(f"{seed}/{subject}".encode()).digest()


def _read_table(table: Path, names: Mapping[str, Side] | None) -> tuple[list[Case], bool]:
    """The cases of a table and whether it splits them."""
    rows = _rows(table)
    cases: list[Case] = []
    if names is None:
        found = table_domains(table)
        names = dict(zip(found, ("B",) if found == ["B"] else ("A", "B"), strict=False))
    is_split = any(row.get("split") for _, row in rows)
    for line, row in rows:
        place = f"{table}, line {line}"
        for column in _REQUIRED:
            if not row[column]:
                raise InputError(f"{place}: no {column}; fill it in")
        if row["domain"] not in names:
            raise InputError(f"{place}: unknown domain '{row['domain']}'; {suggest(row['domain'], names)}")
        split = row.get("split", "")
        if is_split and split not in SPLITS:
            raise InputError(f"{place}: split '{split}'; write {', '.join(SPLITS)} in every row, or in none")
        label = row.get("label", "")
        cases.append(
            Case(
                subject=_subject(row["subject"], place),
                domain=names[row["domain"]],
                image=_located(table.parent, row["image"]),
                label=_located(table.parent, label) if label else None,
                split=cast(Split, split or "train"),
            )
        )
    _refuse_repeats(cases, str(table))
    return cases, is_split


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows with their line numbers, stripped; comma, semicolon or tab between the columns."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read ({type(error).__name__}); give a CSV file in UTF-8") from None
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num}: not CSV ({error}); check its quotes") from None
    if len(lines) < 2:
        raise InputError(
            f"{table}: no rows; its first line is '{','.join(_REQUIRED + _OPTIONAL)}', then a row per image"
        )
    header = lines[0][1]
    for column in header:
        if column not in _REQUIRED + _OPTIONAL:
            raise InputError(f"{table}: unknown column '{column}'; {suggest(column, _REQUIRED + _OPTIONAL)}")
    for column in _REQUIRED:
        if header.count(column) != 1:
            raise InputError(
                f"{table}: needs one column '{column}', has {header.count(column)}; correct its first line"
            )
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(f"{table}, line {number}: {len(row)} cells under {len(header)} columns; mend the row")
    return [(number, dict(zip(header, row, strict=True))) for number, row in lines[1:]]


def _located(folder: Path, name: str) -> Path:
    return Path(os.path.normpath(folder / Path(name).expanduser()))


def _subject(name: str, place: str) -> str:
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", name):
        raise InputError(f"{place}: subject {name!r} cannot name a folder; use letters, digits, '-', '_'")
    return name


def _refuse_repeats(cases: Sequence[Case], place: str) -> None:
    counted = Counter((case.subject, case.domain) for case in cases)
    for (subject, domain), count in counted.items():
        if count > 1:
            raise InputError(f"{place}: subject {subject} has {count} images in domain {domain}; keep one")
    images = Counter(case.image.resolve() for case in cases)
    for image, count in images.items():
        if count > 1:
            raise InputError(f"{place}: {image} stands {count} times; keep one")


def _from_globs(side: Side, domain: Domain, root: Path) -> list[Case]:
    place = f"data.{side}"
    if not domain.images:
        raise InputError(f"{place}.images: missing; give a glob, or data.table")
    labels = matches(root, domain.labels) if domain.labels else {}
    images = {path: parts for path, parts in matches(root, domain.images).items() if path not in labels}
    if not images:
        raise InputError(f"{place}.images: '{domain.images}' matches no file below {root}; check the glob")
    subject_of = subjects(images, f"{place}.images")
    known = set(subject_of.values())
    label_of: dict[str, Path] = {}
    for path, parts in labels.items():
        for subject in [part for part in parts if part in known][:1]:
            if subject in label_of:
                raise InputError(f"{place}.labels: {subject} has several label maps; narrow the glob or use data.table")
            label_of[subject] = path
    if len(images) == len(labels) == 1:
        label_of = dict(zip(known, labels, strict=True))
    if labels and not label_of:
        raise InputError(
            f"{place}.labels: no label map matches an image, {next(iter(labels))} for one; let the '*' of both globs "
            "stand for the patient, or use data.table"
        )
    cases = [
        Case(_subject(subject, f"{place}.images"), side, path, label_of.get(subject), "train")
        for path, subject in subject_of.items()
    ]
    _refuse_repeats(cases, f"{place}.images")
    return cases
