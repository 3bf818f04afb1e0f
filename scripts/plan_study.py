"""Does `medgan plan` foretell what training takes, and is nothing prepared twice? Two sections of reliability.md.

    python3 scripts/plan_study.py WORK --sts DATA              everything; DATA is the folder with subjects.csv
    python3 scripts/plan_study.py WORK --sts DATA --only plan  one part: plan, twice

Each study is planned, prepared and trained by the commands that a user would give. The peak is the resident set of the
training process; training is long enough to fill its small pools of earlier translations. What WORK holds is kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from reliability_page import write_section
from sts_cases import write_table

from medgan.data.phantom import make_phantom, write_phantoms
from medgan.plan.machine import GIB, peak_resident_bytes

STEPS = 6
POOL = 3  # earlier translations of each domain, so that few steps fill the pools
PLANS = Path(__file__).resolve().parents[1] / "docs/results/reliability"
_STUDIES = (("sts", 1.6), ("phantom", 1.6), ("made-up", 1.6))  # GiB allowed
_HARMONISED = (
    "preprocess.bias_correction={}",
    "preprocess.table_mm=10",
    "data.B.intensity=nyul",
)


def measure_plans(work: Path, sts: Path) -> list[dict[str, Any]]:
    """Plan, prepare and train each study; predicted and measured peaks."""
    rows = []
    for name, memory_gb in _STUDIES:
        cases = _cases(name, work, sts)
        folder = work / f"{name}_{memory_gb:g}"
        if not (folder / "measured.json").exists():
            plan, run = folder / "plan", folder / "run"
            planned = plan / "experiment.yaml"
            if not planned.exists():
                pools = ("--set", f"recipe.pool_size={POOL}")
                _medgan("plan", cases, "--output", plan, "--memory-gb", memory_gb, "--device", "cpu", *pools)
            short = ("--set", f"train.num_steps={STEPS}")
            _medgan("preprocess", planned, run, *short, "--cache", work / "cache")
            took = _medgan("train", planned, run, *short, "--device", "cpu")
            (folder / "measured.json").write_text(json.dumps(took) + "\n", encoding="utf-8")
        predicted = json.loads((folder / "plan" / "plan.json").read_text(encoding="utf-8"))
        took = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        rows.append(_row(name, memory_gb, predicted, took))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _row(name: str, memory_gb: float, predicted: dict[str, Any], took: dict[str, Any]) -> dict[str, Any]:
    values = {decision["key"]: decision["value"] for decision in predicted["decisions"]}
    measured = took["peak_bytes"] / GIB
    return {
        "study": name,
        "memory_gb": memory_gb,
        "spacing_mm": values["preprocess.spacing_mm"],
        "patch_size": values["train.patch_size"],
        "batch_size": values["train.batch_size"],
        "largest_dry_step": max(one["voxels"] for one in predicted["dry_steps"]),
        "predicted_gib": predicted["predicted"]["peak_gib"],
        "measured_gib": measured,
        "error": predicted["predicted"]["peak_gib"] / measured - 1,
        "predicted_step_seconds": predicted["predicted"]["step_seconds"],
    }


def _cases(name: str, work: Path, sts: Path) -> Path:
    """The table of a study's cases, made where it is missing."""
    table = work / "data" / name / "cases.csv"
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        if name == "sts":
            write_table(sts, table, paired=False, merge={})
        elif name == "phantom":
            write_phantoms(table.parent)
        else:
            _make_large(table.parent)
    return table


def _make_large(folder: Path) -> None:
    """CT of 512 x 512 x 300 and MR of 320 x 320 x 60 voxels, one body each to learn from and one to watch."""
    rows = []
    for number in range(2):
        body = make_phantom([7, number], (64, 64, 50))
        for domain, array, shape, mm in (
            ("CT", body.ct, (512, 512, 300), (0.8, 0.8, 1.25)),
            ("MR", body.mr, (320, 320, 60), (1.2, 1.2, 5.0)),
        ):
            places = [np.arange(n) * size // n for n, size in zip(shape, array.shape, strict=True)]
            subject = f"{domain.lower()}-{number}"
            rows.append(
                [subject, domain, f"{subject}.nii", f"{subject}_labels.nii.gz", "train" if number else "validation"]
            )
            for ending, values in ((".nii", array), ("_labels.nii.gz", body.labels)):
                large = nib.Nifti1Image(values[np.ix_(*places)], np.diag([*mm, 1.0]))  # type: ignore[no-untyped-call]
                nib.save(large, folder / f"{subject}{ending}")
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["subject", "domain", "image", "label", "split"], *rows])


def measure_twice(work: Path, sts: Path) -> list[dict[str, Any]]:
    """Processor's seconds of `medgan preprocess` on the 29 sarcoma patients, first, again, and in another run."""
    rows = []
    for word, options in (("as they are", ()), ("N4, table, Nyul", _HARMONISED)):
        folder = work / "twice" / word.replace(", ", "_").replace(" ", "_")
        table = folder / "cases.csv"
        folder.mkdir(parents=True, exist_ok=True)
        write_table(sts, table, paired=False, merge={})
        study = folder / "study.yaml"
        study.write_text(json.dumps(_study(table.name)), encoding="utf-8")
        sets = [word for option in options for word in ("--set", option)]
        for what, run in (("first", "one"), ("again", "one"), ("another run", "two")):
            took = _medgan("preprocess", study, folder / run, "--cache", work / "cache", *sets)
            rows.append({"settings": word, "what": what, "seconds": took["seconds"]})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _study(table: str) -> dict[str, Any]:
    return {
        "data": {
            "table": table,
            "A": {"name": "CT", "modality": "ct"},
            "B": {"name": "MR", "modality": "mr"},
            "classes": {0: "air", 1: "fat", 2: "soft tissue", 3: "bone", 4: "tumour"},
        },
        "recipe": {"name": "seg_cyclegan"},
    }


def _medgan(*words: object) -> dict[str, Any]:
    """Run a command in a process of its own; its peak memory, and the processor's seconds without loading it."""
    command = [sys.executable, __file__, "--child", *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _child(words: Sequence[str]) -> int:
    import_module("medgan.experiment")  # so that the seconds are those of the work
    from medgan.cli import run

    began = time.process_time()
    code = run(words)
    print(json.dumps({"peak_bytes": peak_resident_bytes(), "seconds": time.process_time() - began}), flush=True)
    return code


def write_plans(rows: Sequence[dict[str, Any]], work: Path) -> None:
    """The section on predictions, and the planned configurations beside it."""
    for name, memory_gb in _STUDIES:
        text = (work / f"{name}_{memory_gb:g}" / "plan" / "experiment.yaml").read_text(encoding="utf-8")
        text = text.replace(str(work), "WORK")
        lines = [line for line in text.splitlines() if not line.startswith("#   medgan")]
        (PLANS / f"plan_{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    worst = max(abs(row["error"]) for row in rows)
    table = {
        "columns": ["study", "allowed, GiB", "spacing, mm", "patch", "batch", "predicted, GiB", "measured, GiB", "off"],
        "rows": [
            [
                row["study"],
                f"{row['memory_gb']:g}",
                "own" if row["spacing_mm"] is None else " x ".join(f"{mm:g}" for mm in row["spacing_mm"]),
                " x ".join(map(str, row["patch_size"])),
                row["batch_size"],
                f"{row['predicted_gib']:.2f}",
                f"{row['measured_gib']:.2f}",
                f"{row['error']:+.1%}",
            ]
            for row in rows
        ],
    }
    write_section(
        "plan",
        order=40,
        title="Plan",
        command="python3 scripts/plan_study.py WORK --sts DATA --only plan",
        blocks=[
            "`medgan plan` on the sarcoma data (full resolution), on synthetic bodies and on made-up cases of "
            "512 x 512 x 300 CT with 320 x 320 x 60 MR. Predicted from dry steps on small patches; measured as the "
            f"largest resident set of a real `medgan train` of {STEPS} steps with the planned configuration, on a "
            f"processor, one thread. Pools hold {POOL} translations of each domain instead of 50, so that these steps "
            f"fill them. Largest error {worst:.1%}; the aim is 15 %. On a GPU it was not measured.",
            table,
            "The planned configurations: "
            + ", ".join(f"[{name}](reliability/plan_{name}.yaml)" for name, _ in _STUDIES)
            + ".",
        ],
        numbers={"rows": list(rows)},
        packages=("numpy", "torch", "monai"),
    )


def write_twice(rows: Sequence[dict[str, Any]]) -> None:
    """The section on preparing twice."""
    first = {row["settings"]: row["seconds"] for row in rows if row["what"] == "first"}
    again = [row["seconds"] / first[row["settings"]] for row in rows if row["what"] != "first"]
    write_section(
        "preprocessing",
        order=60,
        title="Preprocessing twice",
        command="python3 scripts/plan_study.py WORK --sts DATA --only twice",
        blocks=[
            "`medgan preprocess` on the 29 sarcoma patients (16 CT and 17 MR at full resolution, with labels), one "
            "process, one measurement each, libraries loaded before; then again in the same run and in another run "
            "that shares the cache. "
            f"The second time takes {max(again):.1%} of the first at most; the aim is 5 %.",
            {
                "columns": ["settings", "time", "processor's seconds", "share of the first"],
                "rows": [
                    [
                        row["settings"],
                        row["what"],
                        f"{row['seconds']:.2f}",
                        f"{row['seconds'] / first[row['settings']]:.1%}",
                    ]
                    for row in rows
                ],
            },
        ],
        numbers={"rows": list(rows)},
        packages=("numpy", "scipy", "simpleitk"),
    )


def main() -> None:
    """Measure what is asked for and write its sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for cases and runs")
    parser.add_argument("--sts", type=Path, required=True, help="folder with subjects.csv")
    parser.add_argument("--only", choices=("plan", "twice"), help="one part")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.only != "plan":
        write_twice(measure_twice(arguments.work, arguments.sts))
    if arguments.only != "twice":
        write_plans(measure_plans(arguments.work, arguments.sts), arguments.work)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(_child(sys.argv[2:]))
    main()
