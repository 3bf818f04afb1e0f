"""Write the case table of the soft-tissue sarcoma data: unpaired CT and MR to train on, paired patients to test on.

python3 scripts/sts_cases.py DATA OUT.csv               DATA is the folder with subjects.csv
python3 scripts/sts_cases.py DATA OUT.csv --paired      with the CT of the MR patients too
python3 scripts/sts_cases.py DATA OUT.csv --merge 4:2   label 4 read as 2; label maps go into labels/ beside OUT.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0
VALIDATION = 2  # patients of each role that watch over training


def read_subjects(data: Path) -> list[dict[str, str]]:
    """The rows of subjects.csv: subject, role, and the file names of CT, T1 and tissue labels."""
    table = data / "subjects.csv"
    if not table.is_file():
        raise SystemExit(f"{table}: no such file; give the folder that holds subjects.csv")
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def case_rows(data: Path, *, paired: bool, start: Path, labels: Path | None = None) -> list[dict[str, str]]:
    """The rows of the case table, paths relative to `start`.

    Args:
        data: folder with subjects.csv.
        paired: whether the CT of the MR patients is used too.
        start: folder that the table will lie in.
        labels: folder with relabelled maps, see `write_labels`; None takes those of `data`.
    """
    subjects = read_subjects(data)
    held = {
        name
        for role in ("train_ct", "train_mr")
        for name in random.Random(SEED).sample(
            sorted(row["subject"] for row in subjects if row["role"] == role), VALIDATION
        )
    }
    domains = {"train_ct": ["CT"], "train_mr": ["CT", "MR"] if paired else ["MR"], "test": ["CT", "MR"]}
    rows = []
    for row in subjects:
        label = data / row["subject"] / row["tissue"] if labels is None else labels / f"{row['subject']}.nii.gz"
        for domain in domains[row["role"]]:
            image = data / row["subject"] / (row["ct"] if domain == "CT" else row["t1"])
            split = "test" if row["role"] == "test" else "validation" if row["subject"] in held else "train"
            rows.append(
                {
                    "subject": row["subject"],
                    "domain": domain,
                    "image": Path(os.path.relpath(image, start)).as_posix(),
                    "label": Path(os.path.relpath(label, start)).as_posix(),
                    "split": split,
                }
            )
    return rows


def relabel(labels: NDArray[Any], merge: Mapping[int, int]) -> NDArray[Any]:
    """A copy in which each value that `merge` names reads as another; all values change at once."""
    out = labels.copy()
    for value, another in merge.items():
        out[labels == value] = another
    return out


def write_labels(data: Path, folder: Path, merge: Mapping[int, int]) -> None:
    """The tissue labels of all patients, relabelled, as ``folder/<subject>.nii.gz``; equal ones are left alone."""
    from medgan.data.volume import read_volume, write_volume  # without --merge, the table needs no installation

    folder.mkdir(parents=True, exist_ok=True)
    for row in read_subjects(data):
        volume = read_volume(data / row["subject"] / row["tissue"])
        array, path = relabel(volume.array.astype(np.uint8), merge), folder / f"{row['subject']}.nii.gz"
        if not (path.exists() and np.array_equal(read_volume(path).array, array)):
            write_volume(path, array, volume)


def write_table(data: Path, out: Path, *, paired: bool, merge: Mapping[int, int]) -> list[dict[str, str]]:
    """Write the table, and the relabelled maps if labels are merged, and return its rows."""
    data, out = data.resolve(), out.resolve()
    labels = out.parent / "labels" if merge else None
    if labels is not None:
        write_labels(data, labels, merge)
    rows = case_rows(data, paired=paired, start=out.parent, labels=labels)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["subject", "domain", "image", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _merge(text: str) -> tuple[int, int]:
    value, colon, another = text.partition(":")
    if not (colon and value.isdigit() and another.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not VALUE:ANOTHER; write 4:2 to read label 4 as 2")
    return int(value), int(another)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with subjects.csv")
    parser.add_argument("out", type=Path, help="CSV to write; paths in it are relative to its folder")
    parser.add_argument("--paired", action="store_true", help="also the CT of the MR patients: for paired training")
    parser.add_argument(
        "--merge", type=_merge, action="append", default=[], metavar="4:2", help="read a label as another; repeatable"
    )
    arguments = parser.parse_args()
    rows = write_table(arguments.data, arguments.out, paired=arguments.paired, merge=dict(arguments.merge))
    counts = Counter(f"{row['domain']} {row['split']}" for row in rows)
    print(f"{arguments.out}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
