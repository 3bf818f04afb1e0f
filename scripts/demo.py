"""The whole job on synthetic bodies, from an empty machine to a report: environment, phantoms, study, table.

    python3 scripts/demo.py           on a machine with Python 3.11 or newer
    python3 scripts/demo.py --page    and docs/results/demo.md and demo.json from what came out

Under ten minutes on two cores with AMX or AVX-512, the installation included; half an hour without. Interrupted,
the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from environment import ROOT, STARTED, enter

CONFIG = Path("configs/demo.yaml")
PHANTOMS = Path("runs/phantoms")
RUN = Path("runs/demo")
PAGE = Path("docs/results/demo.md")
METRICS = {"mae": "MAE", "mae/cortical bone": "bone", "mae/blood": "blood", "mae/gas": "gas", "dice": "Dice of S"}


def main(*, page: bool = False) -> int:
    """Make the phantoms, run the study, print what came out, and write the page if asked to; returns an exit code."""
    os.chdir(ROOT)
    fresh = not RUN.exists()
    pairs = phantoms()
    study = [sys.executable, "pipelines/ct_mr_translation.py", str(CONFIG), str(RUN), "--pairs", str(pairs)]
    code = subprocess.run(study, check=False).returncode
    found = RUN / "evaluate" / "summary.json"
    if code == 0 and found.exists():  # else it was asked to stop, has saved, and has said how to go on
        summary = json.loads(found.read_text(encoding="utf-8"))
        print_result(summary["directions"]["BA"])
        minutes = (time.time() - float(os.environ.get(STARTED, "nan"))) / 60
        print(f"{minutes:.1f} minutes, the environment included")
        if page:
            write_page(summary, minutes if fresh else None)
    return code


def phantoms() -> Path:
    """The synthetic bodies, made on the first call, and the table of their registered pairs, in which each MR body of
    the training has the CT that a real study would not have."""
    from medgan.data.phantom import write_phantoms

    pairs = PHANTOMS / "pairs.csv"
    if not pairs.exists():
        write_phantoms(PHANTOMS)
        with pairs.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["subject", "domain", "image"])
            for truth in sorted((PHANTOMS / "truth").glob("*_ct.nii.gz")):
                subject = truth.name.removesuffix("_ct.nii.gz")
                table.writerow([subject, "A", f"truth/{truth.name}"])
                table.writerow([subject, "B", f"images/{subject}_mr.nii.gz"])
    return pairs


def print_result(part: dict[str, Any]) -> None:
    """Synthetic CT beside what needs no network, means over the held-out bodies, and where the report lies."""
    from rich.console import Console
    from rich.table import Table

    methods = part["methods"]
    table = Table(title="Synthetic CT of the held-out bodies: MAE in HU, in the body and in its hard parts")
    table.add_column("method", no_wrap=True)
    for head in METRICS.values():
        table.add_column(head, justify="right")
    for name, scores in methods.items():
        table.add_row(name, *(_cell(scores.get(metric)) for metric in METRICS))
    console = Console()
    console.print(table)
    ours = methods["translation"]["mae"]["mean"]
    best = min(scores["mae"]["mean"] for name, scores in methods.items() if name.startswith("lookup table"))
    verdict = "below" if ours < best else "above"
    console.print(f"The translation's MAE is {abs(1 - ours / best):.0%} {verdict} the best lookup table's.")
    console.print(f"Report: {RUN / 'report' / 'index.html'}", highlight=False)


def write_page(summary: dict[str, Any], minutes: float | None) -> None:
    """What the run measured, with all that is needed to repeat it; the minutes only of a run made in one go."""
    ran_on = json.loads((RUN / "environment.json").read_text(encoding="utf-8"))
    took = f", {minutes:.1f} minutes with the installation" if minutes is not None else ""
    lines = [
        "# Synthetic bodies: the demo",
        "",
        f"`python3 scripts/demo.py --page`: `{CONFIG}`, seed {ran_on['seed']}, {ran_on['processors']} cores, "
        f"{ran_on['threads']} threads, Python {ran_on['python']}, torch {ran_on['packages']['torch']}, "
        f"MONAI {ran_on['packages']['monai']}{took}. Numbers in full: `demo.json`.",
        "",
        "Twelve CT bodies and twelve other MR bodies to learn from, two of each to watch over it, four held-out bodies",
        "seen by both scanners to measure on. Mean [95 % bootstrap interval] over the four, inside the body that the",
        "source shows. The lookup tables were fitted on the MR training bodies and *their* CT, which medgan never saw.",
        "No network learnt from the four, but the demo was made while looking at them: settings, the body mask and the",
        "bodies' skin were changed between runs of it. Read the figures as a check, not as an estimate for new bodies.",
        "",
        f"![One held-out body: source, translation, truth, difference, what S reads]({PAGE.stem}.png)",
    ]
    for way, unit in (("BA", "MR to CT, HU"), ("AB", "CT to MR, stored units")):
        lines += ["", f"## {unit}", "", "| method | " + " | ".join(METRICS.values()) + " |"]
        lines += ["|---" + "|---:" * len(METRICS) + "|"]
        for name, scores in summary["directions"][way]["methods"].items():
            lines.append(f"| {name} | " + " | ".join(_with_interval(scores.get(metric)) for metric in METRICS) + " |")
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw_case(summary["directions"]["BA"])
    record = {"environment": ran_on, "minutes": minutes, "summary": summary}
    PAGE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def draw_case(part: dict[str, Any]) -> None:
    """The held-out body whose error is in the middle, as the page's picture."""
    from medgan.report import figure

    cases = sorted(part["cases"], key=lambda case: case["methods"]["translation"]["mae"])
    middle = cases[len(cases) // 2]["subject"]
    figure(RUN, middle, "BA").savefig(PAGE.with_suffix(".png"), dpi=110)


def _with_interval(entry: dict[str, Any] | None) -> str:
    if not entry or entry["mean"] is None:
        return ""
    digits = 2 if entry["mean"] < 1 else 0
    low, high = entry["low"], entry["high"]
    return f"{entry['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _cell(entry: dict[str, Any] | None) -> str:
    if not entry or entry["mean"] is None:
        return "-"
    return f"{entry['mean']:.2f}" if entry["mean"] < 1 else f"{entry['mean']:.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write docs/results/demo.md, demo.json and demo.png, too")
    options = parser.parse_args()  # what is misspelt is said before anything is installed
    enter()
    raise SystemExit(main(page=options.page))
