"""A case table from folders in the layouts of nnU-Net, the Medical Segmentation Decathlon or BIDS."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

from medgan.config import InputError
from medgan.data.layouts import Listing, list_folder
from medgan.rundir import write_whole


def write_cases(table: Path, a: str, b: str, *, same_patients: bool = False) -> tuple[Listing, Listing]:
    """Write the table of two domains, relative paths starting at its folder; returns what each folder held.

    Patients of two folders are two patients, whatever their numbers, so that no ``case_001`` of one dataset is taken
    for that of another: the folder's name comes before theirs. In one folder, and with `same_patients`, a name is one
    patient.

    Args:
        table: a new CSV file.
        a: folder of domain A, and after a colon the channel, modality or suffix: ``Dataset001_Abdomen:CT``.
        b: the same of domain B.
        same_patients: names mean the same patient in both folders.

    Raises:
        InputError: a folder in no known layout, no such images, or a table that stands.
    """
    if table.exists():
        raise InputError(f"{table}: stands already; move it away, or name another file")
    places = [_split(given) for given in (a, b)]
    listings = [list_folder(folder, what) for folder, what in places]
    is_apart = places[0][0].resolve() != places[1][0].resolve() and not same_patients
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["subject", "domain", "image", "label"])
    for side, (folder, _), listing in zip("AB", places, listings, strict=True):
        before = f"{folder.resolve().name}_" if is_apart else ""
        for one in listing.images:
            label = "" if one.label is None else _told(one.label, table)
            subject = re.sub(r"[/\\\x00-\x1f]", "_", f"{before}{one.subject}")
            rows.writerow([subject, side, _told(one.image, table), label])
    write_whole(table, text.getvalue())
    return listings[0], listings[1]


def _split(given: str) -> tuple[Path, str]:
    """A folder and what comes after its last colon; a folder whose own name has a colon is taken as it is."""
    folder, colon, what = given.rpartition(":")
    is_whole = not colon or Path(given).is_dir() or (len(folder) == 1 and what[:1] in ("\\", "/"))
    return (Path(given), "") if is_whole else (Path(folder), what)


def _told(path: Path, table: Path) -> str:
    return Path(os.path.relpath(path, table.parent)).as_posix()
