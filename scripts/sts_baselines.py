"""What needs no network on the soft-tissue sarcoma data, scored as in the study: lookup tables, one value everywhere.

python3 scripts/sts_baselines.py DATA                    prints the table
python3 scripts/sts_baselines.py DATA --output OUT.json  and writes it

Fitted on the pairs of `train_mr` (tables of 60 bins from T1 to HU), scored on `test`, mean over patients. What is
scored over the MR body is fitted over the MR body, all else in the common body; see `sts_scores`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sts_scores import MAE_METRICS, baseline_methods, read_patients, score_methods


def baselines(data: Path) -> dict[str, dict[str, Any]]:
    """MAE in HU by baseline and region: the mean over patients with its 95 % interval, and each patient's."""
    scores = score_methods(baseline_methods(read_patients(data, "train_mr")), read_patients(data, "test"))
    return {name: {metric: of[metric] for metric in MAE_METRICS} for name, of in scores.items()}


def main() -> None:
    """Print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with subjects.csv")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    scores = baselines(arguments.data)
    print(f"{'HU, mean over the test patients':<32}" + "".join(f"{metric:>17}" for metric in MAE_METRICS))
    for name, of in scores.items():
        print(f"{name:<32}" + "".join(f"{of[metric]['mean']:>17.1f}" for metric in MAE_METRICS))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
