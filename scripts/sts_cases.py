"""Write the case table of the soft-tissue sarcoma data: unpaired CT and MR to train on, paired patients to test on.

python3 scripts/sts_cases.py DATA OUT.csv            DATA is the folder with subjects.csv
python3 scripts/sts_cases.py DATA OUT.csv --paired   with the CT of the MR patients too
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from collections import Counter
from pathlib import Path

SEED = 0
VALIDATION = 2  # patients of each role that watch over training


def read_subjects(data: Path) -> list[dict[str, str]]:
    """The rows of subjects.csv: subject, role, and the file names of CT, T1 and tissue labels."""
    table = data / "subjects.csv"
    if not table.is_file():
        raise SystemExit(f"{table}: no such file; give the folder that holds subjects.csv")
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def case_rows(data: Path, *, paired: bool, start: Path) -> list[dict[str, str]]:
    """The rows of the case table, paths relative to `start`."""
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
        for domain in domains[row["role"]]:
            folder = Path(os.path.relpath(data / row["subject"], start))
            split = "test" if row["role"] == "test" else "validation" if row["subject"] in held else "train"
            rows.append(
                {
                    "subject": row["subject"],
                    "domain": domain,
                    "image": (folder / (row["ct"] if domain == "CT" else row["t1"])).as_posix(),
                    "label": (folder / row["tissue"]).as_posix(),
                    "split": split,
                }
            )
    return rows


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with subjects.csv")
    parser.add_argument("out", type=Path, help="CSV to write; paths in it are relative to its folder")
    parser.add_argument("--paired", action="store_true", help="also the CT of the MR patients: for paired training")
    arguments = parser.parse_args()
    rows = case_rows(arguments.data.resolve(), paired=arguments.paired, start=arguments.out.resolve().parent)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["subject", "domain", "image", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    counts = Counter(f"{row['domain']} {row['split']}" for row in rows)
    print(f"{arguments.out}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
