"""Real and malicious files through `medgan check --deep`, for docs/results/reliability.md.

    python scripts/check_study.py DATA          DATA holds odd, sts, sts-dicom, ts-abdomen, head-ct-tilt-dicom

Each folder is checked as a user would, zips of DICOM included; what its provenance tells is held against what is found.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from reliability_page import write_section
from rich.console import Console
from sts_cases import case_rows

from medgan.check import Checked, print_check, run_check

FOLDERS = ("odd", "head-ct-tilt-dicom", "sts-dicom", "ts-abdomen", "sts")
_WIDTH = 118
_CLASSES = {0: "air", 1: "fat", 2: "soft tissue", 3: "bone", 4: "tumour"}


@dataclass(frozen=True)
class Oddity:
    """Something that is told of a file, and how a check shows it.

    Attributes:
        folder: that holds the file.
        place: a part of the finding's place, or of a volume's.
        told: what the provenance says.
        kind: of the finding; None where the volume is only to be read.
        what: a part of what was found.
    """

    folder: str
    place: str
    told: str
    kind: str | None
    what: str = ""


ODDITIES = (
    Oddity("odd", "4d_int16_scaled.nii", "4D", "not_scalar_3d", "4D of shape"),
    Oddity("odd", "bigendian_no_codes.nii.gz", "big-endian", "big_endian"),
    Oddity("odd", "bigendian_no_codes.nii.gz", "qform_code = sform_code = 0", "no_codes"),
    Oddity("odd", "rgb24.nii.gz", "RGB24: must be refused", "not_scalar_3d", "RGB"),
    Oddity("odd", "not_nifti.nii", "garbage: must be refused", "unreadable"),
    Oddity("odd", "nan_float_oblique.nii.gz", "408 NaN", "not_finite", "408 of"),
    Oddity("odd", "nan_float_oblique.nii.gz", "oblique", "oblique"),
    Oddity("odd", "sform_only_shear53.nii.gz", "sform only", "one_form", "sform only"),
    Oddity("odd", "sform_only_shear53.nii.gz", "strongly sheared", "sheared"),
    Oddity("odd", "sform_only_shear53.nii.gz", "oblique", "oblique"),
    Oddity("odd", "sform_only_shear53.nii.gz", "trailing axis of 1", "trailing_axes"),
    Oddity("odd", "meta.mha", "MetaImage", None),
    Oddity("odd", "flair.nrrd", "NRRD", None),
    Oddity("odd", "int16_scaled_oblique.nii.gz", "int16 with slope and intercept", "scaled", "int16"),
    Oddity("odd", "int16_scaled_oblique.nii.gz", "oblique", "oblique"),
    Oddity("odd", "space_LPS.nii.gz", "one image in three orientations", "same_image", "space_RAS.nii.gz (RAS)"),
    Oddity("odd", "space_LPS.nii.gz", "one image in three orientations", "same_image", "space_PIR.nii.gz (PIR)"),
    Oddity("odd", "header_extension_4d1.nii.gz", "header extension", "header_text"),
    Oddity("odd", "header_extension_4d1.nii.gz", "big-endian", "big_endian"),
    Oddity("odd", "header_extension_4d1.nii.gz", "trailing axis of 1", "trailing_axes"),
    Oddity("odd", "someones_anatomy.nii.gz", "small T1 head", None),
    Oddity("head-ct-tilt-dicom", "ge", "gantry tilt 18.5 degrees", "series_tilted", "18.5 degrees"),
    Oddity("head-ct-tilt-dicom", "ge", "uneven slice distances", "series_gapped", "uneven slice distances"),
    Oddity("head-ct-tilt-dicom", "ge", "padding -1500", "hu_floor", "-1500"),
    Oddity("sts-dicom", "CT", "a CT series", None),
    Oddity("sts-dicom", "MR", "an MR series", None),
    Oddity("ts-abdomen", "ct.nii.gz", "padded below -1024", "hu_floor", "down to"),
    Oddity("sts", "STS_043", "empty MR slices", "empty_slices"),
    Oddity("sts", "STS_004", "empty MR slices", "empty_slices"),
    Oddity("sts", "STS_025", "empty MR slices", "empty_slices"),
    Oddity("sts", "STS_032", "empty MR slices", "empty_slices"),
    Oddity("sts", "STS_034", "empty MR slices", "empty_slices"),
)


def is_found(oddity: Oddity, checked: Checked) -> bool:
    """Whether a check shows what is told of a file."""
    if oddity.kind is None:
        return any(oddity.place in one.place for one in checked.volumes)
    return any(
        one.kind == oddity.kind and oddity.place in f"{one.place} {one.what}" and oddity.what in one.what
        for one in checked.findings
    )


def table_of(checked: Checked, folder: Path) -> str:
    """The table as a terminal shows it, with places that start at the folder's parent."""
    text = StringIO()
    print_check(checked.findings, checked.volumes, Console(file=text, width=_WIDTH, no_color=True))
    shown = text.getvalue()
    for parent in (folder.resolve().parent, folder.parent):
        shown = shown.replace(f"{parent}/", "")
    return "\n".join(line.rstrip() for line in shown.splitlines()).strip("\n")


def sts_cases(data: Path) -> Checked:
    """The sarcomas as a study takes them: unpaired domains, paired test patients, five classes."""
    with tempfile.TemporaryDirectory() as folder:
        rows = case_rows(data / "sts", paired=False, start=Path(folder))
        table = Path(folder, "cases.csv")
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return run_check(
            [], _CLASSES, table=table, modalities={"A": "ct", "B": "mr"}, names={"A": "CT", "B": "MR"}, deep=True
        )


def _numbers(checked: Checked, seconds: float) -> dict[str, Any]:
    kinds = Counter(one.kind for one in checked.findings)
    return {"volumes": len(checked.volumes), "seconds": round(seconds, 1), "kinds": dict(kinds)}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    data: Path = parser.parse_args(words).data
    numbers: dict[str, Mapping[str, Any]] = {}
    blocks: list[str | Mapping[str, Any]] = []
    rows = []
    for name in FOLDERS:
        began = time.perf_counter()
        checked = run_check([data / name], deep=True)
        numbers[name] = _numbers(checked, time.perf_counter() - began)
        blocks.append(f"### {name}\n\n```\n{table_of(checked, data / name)}\n```")
        of = [one for one in ODDITIES if one.folder == name]
        rows += [
            [name, one.place, one.told, one.kind or "read", "yes" if is_found(one, checked) else "NO"] for one in of
        ]
    began = time.perf_counter()
    checked = sts_cases(data)
    numbers["sts as cases"] = _numbers(checked, time.perf_counter() - began)
    blocks.append(f"### sts as the study's case table\n\n```\n{table_of(checked, data / 'sts')}\n```")
    found = sum(row[-1] == "yes" for row in rows)
    intro: list[str | Mapping[str, Any]] = [
        f"Every file of five folders of public volumes, voxels included. {found} of {len(rows)} oddities that the "
        "provenance of these files tells are found; a volume of which nothing odd is told has to be read.",
        {"columns": ["folder", "file", "told", "finding", "found"], "rows": rows},
    ]
    write_section(
        "real_files",
        order=20,
        title="Real files through check",
        command="scripts/check_study.py DATA",
        blocks=[*intro, *blocks],
        numbers=numbers,
        packages=("medgan", "nibabel", "simpleitk", "pydicom", "numpy"),
    )
    print(f"{found} of {len(rows)} oddities found")
    for row in rows:
        if row[-1] == "NO":
            print("not found:", *row)


if __name__ == "__main__":
    main()
