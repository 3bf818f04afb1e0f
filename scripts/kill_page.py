"""The section of docs/results/reliability.md on kills and full disks, from what `kill_study.py` has measured.

python3 scripts/kill_page.py
"""

from __future__ import annotations

import os
from typing import Any

from kill_study import PER_RECIPE, SECONDS, records
from kill_trainings import FAMILY, MAIN, STEPS
from reliability_page import write_section

from environment import ROOT, enter

EVENLY, WRITING = "3D `seg_cyclegan`, at any moment", "3D `seg_cyclegan`, while a checkpoint is written"
DISKS = {"tmpfs": "a small tmpfs", "file size": "a limit on file sizes"}


def main() -> None:
    """Write the section."""
    os.chdir(ROOT)
    found = list(records())
    kills = [record for record in found if record["kind"] == "kill"]
    disks = [record for record in found if record["kind"] != "kill"]
    write_section(
        "kills",
        order=25,
        title="Kills and a full disk",
        command="python3 scripts/kill_study.py && python3 scripts/kill_page.py",
        blocks=[*_kills(kills), *_disks(disks)],
        numbers={"records": found},
        packages=("torch", "numpy"),
    )


def is_equal(record: dict[str, Any]) -> bool:
    """Whether the two runs differ in nothing but seconds."""
    return all(name.endswith(SECONDS) for name in record["apart"])


def _kills(kills: list[dict[str, Any]]) -> list[Any]:
    main_kills = [one for one in kills if one["recipe"] == MAIN]
    equal = sum(is_equal(one) for one in main_kills)
    groups = {
        EVENLY: [one for one in main_kills if not one["writing"]],
        WRITING: [one for one in main_kills if one["writing"]],
        **{f"`{name}`": [one for one in kills if one["recipe"] == name] for name in FAMILY},
    }
    return [
        f"A 3D `seg_cyclegan` of tiny networks on synthetic bodies ({STEPS['num_steps']} steps, a checkpoint every "
        f"{STEPS['checkpoint_every']}) was ended by SIGKILL in {len(main_kills)} runs and started again. "
        f"**{equal} of {len(main_kills)} ended with the bytes of a run that nothing ended**: every number of every "
        "checkpoint (weights, averages, moments, image pools), every line of the logs but those on seconds, every "
        "picture, and no temporary file or lock left. Moments are drawn evenly from the training's life, or from the "
        "time while a checkpoint's temporary file is there. Every fifth run met a second SIGKILL while it went on, "
        "unless it had ended. The "
        f"other recipes were killed {PER_RECIPE} times each, on digits, slices or films.",
        "A training is a process forked from one that has imported everything and trained nothing: Python's start, "
        "which writes nothing, is left out. The processor was shared with other work, so seconds measure no speed.",
        {
            "columns": ["training", "runs", "kills", "amid a write", "seconds after the start", "equal"],
            "rows": [_row(title, chosen) for title, chosen in groups.items() if chosen],
        },
    ]


def _row(title: str, runs: list[dict[str, Any]]) -> list[Any]:
    living = [kill for one in runs for kill in one["kills"] if kill["alive"]]
    times = [kill["seconds"] for kill in living]
    amid = sum(bool(kill["amid"]) for kill in living)
    equal = sum(is_equal(one) for one in runs)
    return [title, len(runs), len(living), amid, f"{min(times):.2f} to {max(times):.2f}", f"{equal} of {len(runs)}"]


def _disks(disks: list[dict[str, Any]]) -> list[Any]:
    if not disks:
        return []
    said = next(one["told"][-1] for one in disks if one["told"] and "not written" in one["told"][-1])
    rows = [
        [
            DISKS[one["kind"]],
            f"{one['share']:.0%}",
            one["code"],
            ", ".join(map(str, one["stands"])) or "none yet",
            len(one["damaged"]) + len(one["parts"]),
            "equal" if is_equal(one) else ", ".join(one["apart"]),
        ]
        for one in sorted(disks, key=lambda one: (one["kind"], one["share"]), reverse=True)
    ]
    return [
        "The same training with less room than it needs, and then with all of it. It ended with one line, such as",
        f"```\n{said}\n```",
        {
            "columns": ["disk", "room", "exit code", "steps that stood", "damaged or left over", "after making room"],
            "rows": rows,
        },
        "Steps are those of all whole checkpoints, the best included. A limit on file sizes below a checkpoint's size "
        "lets none be written; `tests/test_resume.py` has one that only the third exceeds, and the second stands.",
    ]


if __name__ == "__main__":
    enter()
    main()
