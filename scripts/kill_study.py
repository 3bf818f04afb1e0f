"""Kill trainings at random moments, and let disks run full: does the same command end with the same bytes?

    python3 scripts/kill_study.py                 some minutes; goes on where it was stopped
    python3 scripts/kill_study.py evenly full     a part of it: evenly, writing, family, full
    python3 scripts/kill_page.py                  the section of docs/results/reliability.md from what was measured

A 3D `seg_cyclegan` of tiny networks on synthetic bodies is trained once to its end. Then the same training is started,
ended by SIGKILL and started again, a hundred times, and what it leaves is compared with the uninterrupted run's: every
number of every checkpoint, every line of the logs, every picture. Sixty moments are drawn evenly from the training's
whole life, from its first instruction to its last; forty are moments at which a checkpoint is being written, found by
watching for its temporary file. Every fifth training is killed once more while it goes on. Then each other recipe of
the family, in 2D on digits or slices, is killed at random moments too.

Each training is a process of its own, forked from one that has imported everything and trained nothing, so that a
start costs no seconds; that import writes nothing. A fork has the same state as a fresh process at that point.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kill_trainings import FAMILY, MAIN, SEED, fit, prepare, start_anew

from environment import ROOT, enter

STATE = Path("runs/kill_study.jsonl")
EVENLY, WRITING, PER_RECIPE = 60, 40, 2
FULL = (0.4, 0.6, 0.8, 0.9, 0.95)  # shares of the room that a training needs
SECONDS = ("tensorboard", "times.jsonl")  # what says how long it took
PARTS = ("evenly", "writing", "family", "full")


def main() -> None:
    """Measure what is not measured yet."""
    os.chdir(ROOT)
    STATE.parent.mkdir(parents=True, exist_ok=True)
    import monai.networks.nets  # noqa: F401 (imported once, before anything is forked)
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401

    import medgan.experiment  # noqa: F401

    parts = [word for word in sys.argv[1:] if word in PARTS] or list(PARTS)
    with tempfile.TemporaryDirectory(dir=STATE.parent) as name:
        folder = Path(name)
        prepare(folder / "store")
        if "evenly" in parts:
            kill_all(folder, MAIN, range(EVENLY), is_writing=False)
        if "writing" in parts:
            kill_all(folder, MAIN, range(EVENLY, EVENLY + WRITING), is_writing=True)
        for recipe in FAMILY if "family" in parts else ():
            kill_all(folder, recipe, range(PER_RECIPE), is_writing=False)
        if "full" in parts:
            fill_all(folder)


def kill_all(folder: Path, recipe: str, indices: Iterable[int], is_writing: bool) -> None:
    """Kill one recipe's training at moments that are not in the record yet."""
    done = {record["index"] for record in records() if record["kind"] == "kill" and record["recipe"] == recipe}
    todo = [index for index in indices if index not in done]
    if not todo:
        return
    whole, trial = folder / f"{recipe}_whole", folder / f"{recipe}_trial"
    start_anew(whole, folder, recipe)
    seconds = finished(started(recipe, whole))
    for index in todo:
        rng = random.Random(f"{SEED} {recipe} {index}")
        kills: list[dict[str, Any]] = []
        while not kills or not kills[0]["alive"]:  # it had ended already: draw again
            start_anew(trial, folder, recipe)
            kills = [killed(recipe, trial, rng, seconds, is_writing)]
        if index % 5 == 4:
            kills.append(killed(recipe, trial, rng, seconds, is_writing))
        finished(started(recipe, trial))
        apart = differences(whole, trial)
        note({"kind": "kill", "recipe": recipe, "index": index, "writing": is_writing, "kills": kills, "apart": apart})
    shutil.rmtree(whole)
    shutil.rmtree(trial)


def fill_all(folder: Path) -> None:
    """Train on disks that run full at ever later moments, make room, and go on."""
    done = [(record["kind"], record.get("share")) for record in records()]
    whole = folder / "whole"
    start_anew(whole, folder, MAIN)
    finished(started(MAIN, whole))
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    largest = (whole / "train/checkpoints/last.pt").stat().st_size
    for share in FULL:
        if ("tmpfs", share) not in done and shutil.which("mount") and os.geteuid() == 0:
            note({"kind": "tmpfs", "share": share, **filled(folder, whole, int(size * share))})
        if ("file size", share) not in done:
            note({"kind": "file size", "share": share, **limited(folder, whole, int(largest * share))})


def filled(folder: Path, whole: Path, size: int) -> dict[str, Any]:
    """A training on a file system of `size` bytes, which is then enlarged."""
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        trial = disk / "run"
        start_anew(trial, folder, MAIN)
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
        found = ended_full(trial, started(MAIN, trial))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        finished(started(MAIN, trial))
        return {**found, "apart": differences(whole, trial)}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def limited(folder: Path, whole: Path, size: int) -> dict[str, Any]:
    """A training that may write no file larger than `size` bytes, and then may."""
    trial = folder / "trial"
    start_anew(trial, folder, MAIN)
    found = ended_full(trial, started(MAIN, trial, size))
    finished(started(MAIN, trial))
    return {**found, "apart": differences(whole, trial)}


def ended_full(run: Path, child: int) -> dict[str, Any]:
    """How a training ended, and what stands: the steps of whole checkpoints, damaged ones, left parts."""
    from medgan.checkpoint import read_checkpoint
    from medgan.config import InputError

    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = [line for line in log_of(run).read_text().splitlines() if line.startswith("medgan: ")]
    steps, damaged = [], []
    for path in sorted(run.glob("train/checkpoints/*.pt")):
        try:
            steps.append(int(read_checkpoint(path)["step"]))
        except InputError:
            damaged.append(path.name)
    parts = [path.name for path in run.rglob("*.part")]
    told = [line.replace(str(run), "RUN") for line in lines]
    return {"code": code, "told": told, "stands": sorted(steps), "damaged": damaged, "parts": parts}


def killed(recipe: str, run: Path, rng: random.Random, seconds: float, is_writing: bool) -> dict[str, Any]:
    """Start a training and kill it: at a moment drawn evenly, or within the n-th write of a checkpoint."""
    child = started(recipe, run)
    begun = time.perf_counter()
    if is_writing:
        part, nth, delay = run / "train/checkpoints/last.part", rng.randrange(1, 4), rng.uniform(0, 0.004)
        wait_for_writes(part, nth, child)
        time.sleep(delay)
    else:
        time.sleep(rng.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    at = time.perf_counter() - begun
    _, status = os.waitpid(child, 0)
    parts = [path.name for path in run.glob("train/checkpoints/*.part")]
    saved = sorted(path.stem for path in run.glob("train/checkpoints/*.pt"))
    return {"seconds": round(at, 4), "alive": os.WIFSIGNALED(status), "amid": parts, "saved": saved}


def wait_for_writes(part: Path, nth: int, child: int) -> None:
    """Return as soon as this temporary file has come for the n-th time, or the process has ended."""
    seen, is_there = 0, False
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        was_there, is_there = is_there, part.exists()
        seen += is_there and not was_there
        if seen == nth:
            return


def started(recipe: str, run: Path, file_size: int = 0) -> int:
    """The process of a training; it may write no file larger than `file_size` bytes, if any is given."""
    child = os.fork()
    if child:
        return child
    from medgan.cli import guarded

    log = os.open(log_of(run), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    code = guarded(lambda: fit(recipe, run))
    sys.stderr.flush()
    os._exit(code)


def log_of(run: Path) -> Path:
    """What a training said; beside the trials, as their disk may be full."""
    return STATE.with_name(f"kill_study_{run.name}.log")


def finished(child: int) -> float:
    """Wait for a training; its seconds.

    Raises:
        RuntimeError: it failed.
    """
    begun = time.perf_counter()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise RuntimeError(f"a training ended with {code}; see its log")
    return time.perf_counter() - begun


def differences(whole: Path, trial: Path) -> list[str]:
    """What two runs do not have in common: files, and numbers, lines or pictures in them."""
    from medgan.checkpoint import read_checkpoint

    left_out = ("preprocess", *SECONDS)
    one, two = (
        {
            str(path.relative_to(run)): path
            for path in run.rglob("*")
            if path.is_file() and not any(word in str(path.relative_to(run)) for word in left_out)
        }
        for run in (whole, trial)
    )
    apart = sorted(one.keys() ^ two.keys())
    for name in one.keys() & two.keys():
        if name.endswith(".pt"):
            apart += [] if same(read_checkpoint(one[name]), read_checkpoint(two[name])) else [name]
        elif one[name].read_bytes() != two[name].read_bytes():
            apart.append(name)
    return apart


def same(one: object, two: object) -> bool:
    """Whether nested values are equal, tensors number by number."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def records() -> Iterator[dict[str, Any]]:
    """What was measured so far."""
    if STATE.exists():
        yield from map(json.loads, STATE.read_text(encoding="utf-8").splitlines())


def note(record: dict[str, Any]) -> None:
    """Keep one measurement."""
    print(json.dumps(record), flush=True)
    with STATE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    enter()
    main()
