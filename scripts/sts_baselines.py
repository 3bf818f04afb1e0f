"""The lookup-table and constant baselines on the soft-tissue sarcoma data, where and how the project scores them.

python3 scripts/sts_baselines.py DATA                    prints the table
python3 scripts/sts_baselines.py DATA --output OUT.json  and writes it

Tables from T1 to HU (60 bins to 1500) are fitted on the pairs of `train_mr` and scored on `test`, mean over patients.
The table scored over the MR body is fitted over the MR body, the one for the common body over the common body.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan.data.volume import read_volume
from medgan.metrics.image import mae
from medgan.metrics.lookup import LookupTable, Statistic
from medgan.metrics.masks import bone, common_body, mr_body
from medgan.metrics.statistics import summarize

Array = np.ndarray[Any, np.dtype[Any]]
CONSTANT_HU = -39.0
TISSUES = {1: "fat", 2: "soft tissue", 3: "bone with marrow", 4: "tumour"}


@dataclass(frozen=True)
class Pair:
    """One patient: T1 and CT on one grid, the tissue labels, and the masks to score in."""

    subject: str
    mr: Array
    ct_hu: Array
    regions: dict[str, Array]


def read_pairs(data: Path, role: str) -> list[Pair]:
    """The paired patients of a role in subjects.csv."""
    table = data / "subjects.csv"
    if not table.is_file():
        raise SystemExit(f"{table}: no such file; give the folder that holds subjects.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == role]
    return [_read_pair(data / row["subject"], row) for row in rows]


def _read_pair(folder: Path, row: dict[str, str]) -> Pair:
    ct = read_volume(folder / row["ct"], dtype=np.float32)
    mr = read_volume(folder / row["t1"], dtype=np.float32).array
    tissue = read_volume(folder / row["tissue"]).array
    common = common_body(mr, ct.array, ct.spacing_mm)
    regions = {"common body": common, "bone": common & bone(ct.array, ct.spacing_mm), "MR body": mr_body(mr)}
    regions |= {f"label {name}": common & (tissue == value) for value, name in TISSUES.items()}
    return Pair(row["subject"], mr, ct.array, regions)


def baselines(data: Path) -> dict[str, Any]:
    """MAE in HU of each baseline: per region the mean over patients with its 95 % interval, and per patient."""
    fitted, tested = read_pairs(data, "train_mr"), read_pairs(data, "test")
    return {
        "lookup table, mean per bin": _score(tested, _tables(fitted, "mean")),
        "lookup table, median per bin": _score(tested, _tables(fitted, "median")),
        f"constant {CONSTANT_HU:g} HU": _score(tested, lambda region, mr: np.full_like(mr, CONSTANT_HU)),
    }


def _tables(pairs: list[Pair], statistic: Statistic) -> Callable[[str, Array], Array]:
    tables = {
        where: LookupTable.fit(
            [pair.mr for pair in pairs],
            [pair.ct_hu for pair in pairs],
            [pair.regions[where] for pair in pairs],
            statistic=statistic,
        )
        for where in ("common body", "MR body")
    }
    return lambda region, mr: tables["MR body" if region == "MR body" else "common body"].apply(mr)


def _score(pairs: list[Pair], predict: Callable[[str, Array], Array]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for region in pairs[0].regions:
        each = {
            pair.subject: mae(predict(region, pair.mr), pair.ct_hu, pair.regions[region])
            if pair.regions[region].any()
            else float("nan")
            for pair in pairs
        }
        summary = summarize(list(each.values()))
        scores[region] = {
            "mean": round(summary.mean, 2),
            "interval": [round(summary.low, 2), round(summary.high, 2)],
            "count": summary.count,
            "patients": {subject: None if np.isnan(value) else round(value, 2) for subject, value in each.items()},
        }
    return scores


def main() -> None:
    """Print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with subjects.csv")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    scores = baselines(arguments.data)
    regions = list(next(iter(scores.values())))
    print(f"{'MAE in HU':<30}" + "".join(f"{region:>24}" for region in regions))
    for name, score in scores.items():
        print(f"{name:<30}" + "".join(f"{score[region]['mean']:>24.1f}" for region in regions))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
