"""Every kind of finding, how severe it is and the way out; `docs/check.md` says what each means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error stops a study; a warning may spoil it; a note is worth knowing."""


@dataclass(frozen=True)
class Kind:
    """What findings of a kind have in common.

    Attributes:
        severity: "error", "warning" or "note".
        title: what is wrong, in the words of the table.
        way_out: what to do about it.
    """

    severity: Severity
    title: str
    way_out: str


_AGAIN = "copy it again, or export it again from its source"
_SERIES = "find the missing slices, or convert it with a tool that corrects this, for example dcm2niix"

KINDS: dict[str, Kind] = {
    "missing": Kind("error", "no such file", "check the path; in a table it starts at the table's folder"),
    "nothing": Kind("error", "no volume here", "give NIfTI, NRRD or MetaImage files, DICOM folders, or zips of them"),
    "table": Kind("error", "case table or configuration cannot be used", "mend the line"),
    "unsafe": Kind("error", "names files outside its own folder", "make it anew, with what it names beside it"),
    "unreadable": Kind("error", "cannot be read", _AGAIN),
    "misnamed": Kind("error", "compressed under the name of a plain file", "rename it to .nii.gz, or use --fix"),
    "cut_short": Kind("error", "cut short or damaged", _AGAIN),
    "checksum": Kind("error", "damaged: its checksum does not match", _AGAIN),
    "too_large": Kind("error", "larger than this machine's memory", "crop it, or use a larger machine"),
    "not_scalar_3d": Kind("error", "not a scalar 3D image", "one file per volume, one number per voxel"),
    "no_place": Kind("error", "singular or missing affine", "export it again from its source"),
    "forms_contradict": Kind(
        "error", "qform and sform contradict each other", "find out which is right, set the code of the other to 0"
    ),
    "qform": Kind("error", "qform is no rotation", "set the qform code to 0, or use --fix"),
    "units": Kind("error", "voxel sizes not in mm", "convert to mm, or use --fix where that is plausible"),
    "series_tilted": Kind("error", "DICOM series with a tilted gantry", _SERIES),
    "series_gapped": Kind("error", "DICOM series with missing or uneven slices", _SERIES),
    "series_mixed": Kind("error", "DICOM series of unlike slices", "keep the slices of one stack; scouts go elsewhere"),
    "series_duplicates": Kind("error", "DICOM series with several slices at one place", "keep one stack per folder"),
    "series_no_place": Kind("error", "DICOM slices without a place", "export the series again"),
    "series_frames": Kind("error", "multi-frame DICOM", "convert it to NIfTI first, for example with dcm2niix"),
    "several_series": Kind("error", "several DICOM series in one folder", "put each in a folder of its own"),
    "not_finite_at_all": Kind("error", "no finite voxel", "export it again"),
    "constant": Kind("error", "the same value everywhere", "leave it out, or export it again"),
    "label_grid": Kind(
        "error", "label map on another grid than its image", "resample it onto the image, with nearest neighbours"
    ),
    "label_values": Kind("error", "label values that are not listed", "add them to data.classes, or renumber them"),
    "not_whole": Kind("error", "label map with fractions", "give a map of integer labels"),
    "patient_in_two_splits": Kind("error", "one patient in two splits", "keep each patient in one split"),
    "image_in_two_splits": Kind("error", "one image in two splits", "give the copies one subject, or keep one"),
    "not_finite": Kind(
        "warning", "NaN or infinite voxels", "they count as background; --fix gives them the lowest value"
    ),
    "empty_slices": Kind("warning", "empty or constant slices", "crop them off, or leave them out of scores"),
    "sheared": Kind("warning", "sheared voxel axes", "resample it if that is not meant; it is read so"),
    "no_codes": Kind(
        "warning", "neither qform nor sform holds: left and right are a guess", "convert it again from DICOM"
    ),
    "no_hu": Kind("warning", "CT that is not in HU", "apply the rescale slope and intercept of its DICOM header"),
    "hu_floor": Kind("warning", "CT with values below -1024 HU", "the HU window clips it; --fix raises it to -1024"),
    "modality": Kind("warning", "does not look like the modality in its name", "look at it; check name and table"),
    "same_image": Kind("warning", "one image under several names", "keep one, or give the copies one subject"),
    "label_apart": Kind("warning", "label map on the grid of no image beside it", "check which image it belongs to"),
    "label_empty": Kind("warning", "nothing is labelled", "leave the label map out, or draw it"),
    "class_absent": Kind("warning", "a class that no label map has", "remove it, or check the numbers"),
    "class_in_one_domain": Kind(
        "warning", "a class in one domain only", "translations will invent or erase it: balance, or drop the class"
    ),
    "class_balance": Kind(
        "warning", "classes differ between the domains", "a GAN makes up the difference: balance cases or crop alike"
    ),
    "spacing_outlier": Kind("warning", "voxel spacing unlike the others", "check it; preprocess resamples all to one"),
    "extent_outlier": Kind("warning", "field of view unlike the others", "check it; crop, or leave it out"),
    "extent_domains": Kind(
        "warning", "field of view differs between the domains", "crop to the same region, or anatomy is made up"
    ),
    "spacing_domains": Kind("note", "voxel spacing differs between the domains", "preprocess resamples to one spacing"),
    "floors": Kind("note", "CTs with several lowest values", "nothing to do where the HU window clips at -1000"),
    "orientations": Kind("note", "volumes stored in several orientations", "nothing to do; preprocess turns them"),
    "trailing_axes": Kind("note", "trailing axes of length 1", "nothing to do; outputs keep the shape on disk"),
    "oblique": Kind("note", "oblique grid", "nothing to do; it stays oblique"),
    "one_form": Kind("note", "qform or sform alone holds", "nothing to do; the one that holds is used"),
    "scaled": Kind("note", "stored with a slope and an intercept", "nothing to do; they are applied"),
    "big_endian": Kind("note", "big-endian", "nothing to do; it is read in this machine's order"),
    "header_text": Kind("note", "free text in the header, which may name the patient", "outputs do not carry it on"),
    "float_labels": Kind("note", "label map stored as fractions", "nothing to do; --fix stores integers"),
    "unlabelled": Kind("note", "cases without a label map", "nothing to do; they count where no label is needed"),
    "archive": Kind("note", "zip, looked into", "unpack it: only check reads zips"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        kind: a key of `KINDS`.
        place: the file, folder, series or table.
        what: what was found there, with its values.
        way_out: what to do about it.
    """

    kind: str
    place: str
    what: str
    way_out: str

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity


def finding(kind: str, place: Path | str, what: str, way_out: str | None = None) -> Finding:
    """A finding with the way out of its kind, or a closer one."""
    return Finding(kind, str(place), what, way_out or KINDS[kind].way_out)


@dataclass(frozen=True)
class Group:
    """The findings of one kind, a row of the table."""

    kind: str
    findings: tuple[Finding, ...]


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Findings by kind: the most severe first, within a severity in the order of `KINDS`."""
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.kind, []).append(one)
    order = sorted(found, key=lambda kind: (SEVERITIES.index(KINDS[kind].severity), list(KINDS).index(kind)))
    return [Group(kind, tuple(found[kind])) for kind in order]


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many findings there are of each severity."""
    found = Counter(one.severity for one in findings)
    return {severity: found[severity] for severity in SEVERITIES}
