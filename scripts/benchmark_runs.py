"""Parts of benchmark.py that need trained runs: short trainings on their data, and what they wrote down themselves."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def first_step(options: argparse.Namespace) -> list[Row]:
    """Seconds from the command ``medgan train`` to the end of its first step, on the run's prepared data."""
    rows = [timed_training(options.run, steps=1) for _ in range(options.rounds)]
    return [rows[0] | {"first_step_s": statistics.median(row["first_step_s"] for row in rows)}]


def waiting(options: argparse.Namespace) -> list[Row]:
    """The share of a run's whole training in which it waited for its next batch."""
    steps, spent, waited = training_time(options.run)
    return [{"run": options.run.name, "steps": steps, "seconds": spent, "waiting": waited / spent}]


def training_time(run: Path) -> tuple[int, float, float]:
    """Steps of a training, its seconds, and those in which it had no batch."""
    spent, waited, before = 0.0, 0.0, 0
    for line in (run / "train" / "times.jsonl").read_text(encoding="utf-8").splitlines():
        lap = json.loads(line)
        seconds, before = lap["seconds"] * (lap["step"] - before), lap["step"]
        spent, waited = spent + seconds, waited + seconds * lap["waiting"]
    return before, spent, waited


def precision(options: argparse.Namespace) -> list[Row]:
    """Two evaluated runs that differ in `train.precision`: their synthetic CT and the seconds of their training."""
    return [quality(run) for run in (options.run, options.other)]


def quality(run: Path) -> Row:
    """MAE and Dice of a run's synthetic CT, means over the held-out bodies with their intervals, and its training."""
    import yaml  # from the environment that benchmark.py enters

    summary, ran_on = (
        json.loads((run / name).read_text(encoding="utf-8")) for name in ("evaluate/summary.json", "environment.json")
    )
    to_ct = [way for way in summary["directions"].values() if way["target"]["modality"] == "ct"]
    if not to_ct:
        sys.exit(f"{run}: no translations to CT; evaluate a run that makes them")
    scores = to_ct[0]["methods"]["translation"]
    steps, spent, _ = training_time(run)
    return {
        "on": f"{ran_on['processors']} cores, {ran_on['threads']} threads ({ran_on['platform']})",
        "run": run.name,
        "precision": yaml.safe_load((run / "experiment.yaml").read_text(encoding="utf-8"))["train"]["precision"],
        "steps": steps,
        "training_s": spent,
        **{name: {key: scores[name][key] for key in ("mean", "low", "high", "count")} for name in ("mae", "dice")},
    }


def ranks(options: argparse.Namespace) -> list[Row]:
    """Seconds per step of one process and of two, a thread each; the batch of a step is twice as large with two."""
    steps, log_every = (4, 1) if options.quick else (31, 10)
    return [timed_training(options.run, steps=steps, log_every=log_every, count=count) for count in (1, 2)]


def timed_training(run: Path, steps: int, log_every: int = 1, count: int = 1) -> Row:
    """A training of a few steps on a run's prepared data: seconds to the first step, and of a later one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        copy.mkdir()
        shutil.copytree(run / "preprocess", copy / "preprocess")
        sets = {"num_steps": steps, "log_every": log_every, "validate_every": 1000, "preview_every": 1000}
        words = [word for key, value in sets.items() for word in ("--set", f"train.{key}={value}")]
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
        command = [sys.executable, *start, "-m", "medgan", "train", str(run / "experiment.yaml"), str(copy), *words]
        threads = {"OMP_NUM_THREADS": "1"} if steps > 1 else {}
        begin, times = time.perf_counter(), copy / "train" / "times.jsonl"
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | threads)
        while process.poll() is None and not (times.exists() and times.stat().st_size):
            time.sleep(0.02)
        first_s = time.perf_counter() - begin
        if process.wait():
            sys.exit(f"medgan train ended with {process.returncode}")
        lines = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()]
    facts: Row = {"ranks": count, "steps": steps}
    if steps == 1:
        return facts | {"first_step_s": first_s}
    return facts | {"seconds_per_step": statistics.median(line["seconds"] for line in lines[1:-1])}
