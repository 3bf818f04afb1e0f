"""What medgan costs beside the ordinary way, measured side by side in one run; a table and a JSON.

    python3 scripts/benchmark.py                          everything that needs no trained run; about 15 minutes
    python3 scripts/benchmark.py --only step,supply       some parts of it (PARTS)
    python3 scripts/benchmark.py --run runs/demo          and what needs one: the first step, ranks, translation
    python3 scripts/benchmark.py --page                   and docs/results/performance.md, .json and .png; parts that
                                                          were measured before and not now keep their figures

Leave the machine alone meanwhile. On a GPU the step is measured at 128^3, too (`step_gpu`), by CUDA events.
"""

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from environment import ROOT, enter

PAGE = Path("docs/results/performance.md")
WORK = Path("runs/benchmark")
SUPPLY_S = 4.0
Row = dict[str, Any]


def main() -> None:
    """Measure what is asked for and print it."""
    os.chdir(ROOT)
    options = arguments()
    wanted = options.only.split(",") if options.only else [name for name in PARTS if options.run or name not in OF_RUN]
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        sys.exit(f"--only {','.join(unknown)}: unknown; choose from {', '.join(PARTS)}")
    if not options.run and set(wanted) & set(OF_RUN):
        sys.exit(f"--only {options.only}: needs a trained run; give it with --run runs/demo")
    found: dict[str, list[Row]] = {}
    from benchmark_page import processor, write_page

    for name in wanted:
        found[name] = [{"on": processor(), **row} for row in PARTS[name](options)]
        print(f"{name}\n" + table(found[name]), flush=True)
    if options.page:
        record = PAGE.with_suffix(".json")
        before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        write_page(PAGE, before | found)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, with commas")
    parser.add_argument("--run", type=Path, help="a trained run")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; the ways take turns")
    parser.add_argument("--page", action="store_true", help="write the page, too")
    return parser.parse_args()


def job(script: str, *words: object, threads: int | None = None) -> Row:
    """What a script prints, run in a process of its own."""
    quiet = {"OMP_WAIT_POLICY": "passive"}  # a thread that waits does not count as busy
    environment = os.environ | quiet | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, str(Path("scripts") / script), *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def in_turn(jobs: Sequence[Row], rounds: int) -> list[Row]:
    """Steps of several kinds, each in processes of its own that take turns: the median of all, the largest peak."""
    done: list[list[Row]] = []
    for _ in range(rounds):
        done.append([])
        for one in jobs:
            done[-1].append(job("benchmark_step.py", json.dumps(one)))
            print(table(done[-1][-1:]), file=sys.stderr, flush=True)
    rows = []
    for facts in zip(*done, strict=True):
        seconds = [second for fact in facts for second in fact["seconds"]]
        peak = max(fact["peak_gib"] for fact in facts)
        busy = statistics.median(second for fact in facts for second in fact["cpu_seconds"])
        middle = {"median_s": statistics.median(seconds), "median_cpu_s": busy, "peak_gib": peak}
        rows.append(facts[0] | {"seconds": seconds} | middle)
    return rows


def has_gpu() -> bool:
    """Whether there is a GPU to measure on."""
    import torch

    return torch.cuda.is_available()


def in_bf16() -> tuple[str, ...]:
    """The way in bfloat16, where the processor has instructions for it: elsewhere it takes twenty times as long."""
    from medgan.device import has_bf16

    return ("medgan bf16",) if has_bf16() else ()


def step(options: argparse.Namespace) -> list[Row]:
    """`seg_cyclegan` beside `plain` at 64^3."""
    one = {"recipe": "seg_cyclegan", "patch": [64] * 3, "repeats": 2}
    ways = ("medgan", *in_bf16(), "plain")
    return in_turn([one | {"way": way, "rates": way == "medgan"} for way in ways], options.rounds)


def step_demo(options: argparse.Namespace) -> list[Row]:
    """The 3D translators at the demo's patch."""
    one = {"patch": [32, 32, 24], "repeats": 6}
    ways = (("seg_cyclegan", ("medgan", *in_bf16(), "plain")), ("cyclegan", ("medgan", "plain")))
    jobs = [one | {"recipe": recipe, "way": way, "rates": way == "medgan"} for recipe, some in ways for way in some]
    return in_turn([*jobs, one | {"recipe": "pix2pix", "way": "medgan"}], options.rounds)


def step_compile(options: argparse.Namespace) -> list[Row]:
    """The demo's step through `torch.compile`, whose first step takes minutes, beside the same as it is."""
    one = {"recipe": "seg_cyclegan", "patch": [32, 32, 24], "repeats": 6}
    return in_turn([one | {"way": way} for way in ("medgan compile", "medgan")], 1)


def step_gpu(options: argparse.Namespace) -> list[Row]:
    """`seg_cyclegan` at 128^3 on a GPU, with and without `torch.compile`, beside `plain` with TF32 and in bf16."""
    if not has_gpu():
        return []
    one = {"recipe": "seg_cyclegan", "patch": [128] * 3, "channels": 32, "device": "cuda", "repeats": 20}
    ways = ("medgan bf16", "medgan bf16 contiguous", "medgan bf16 compile", "plain", "plain autocast")
    return in_turn([one | {"way": way, "rates": True} for way in ways], options.rounds)


def memory(options: argparse.Namespace) -> list[Row]:
    """What computing blocks again saves and costs."""
    one = {"recipe": "seg_cyclegan", "patch": [64, 64, 64], "repeats": 2}
    return in_turn([one | {"way": way} for way in ("medgan", "medgan recompute")], options.rounds)


def growth(options: argparse.Namespace) -> list[Row]:
    """A step against the patch and against the channels."""
    one = {"recipe": "seg_cyclegan", "way": "medgan", "repeats": 3}
    jobs = [one | {"patch": [side] * 3} for side in (24, 32, 48, 64, 80)]
    jobs += [one | {"patch": [32] * 3, "channels": channels} for channels in (8, 16, 24, 32, 48)]
    return in_turn(jobs, 1)


def supply(options: argparse.Namespace) -> list[Row]:
    """Patches per second of medgan's store, other formats and MONAI's datasets; medgan also with workers."""
    from benchmark_supply import FORMATS

    folder = WORK / "supply"
    subprocess.run([sys.executable, "scripts/benchmark_supply.py", "make", str(folder)], check=True)
    kinds = [kind for kind in (*FORMATS, "medgan, 1 worker", "medgan, 2 workers") if is_installed(kind)]
    rounds = [
        [job("benchmark_supply.py", kind, folder, SUPPLY_S, threads=1) for kind in kinds] for _ in range(options.rounds)
    ]
    rows = []
    for facts in zip(*rounds, strict=True):
        rates = [fact["patches_per_s"] for fact in facts]
        peak = max(fact["peak_gib"] for fact in facts)
        rows.append({"format": facts[0]["format"], "patches_per_s": statistics.median(rates), "peak_gib": peak})
    sizes = {kind: size_of(folder, kind) for kind in ("npy", "zarr", "blosc2")}
    return [row | {"disk_gib": sizes.get(row["format"])} for row in rows]


def is_installed(kind: str) -> bool:
    """Whether a format can be measured here."""
    from importlib.util import find_spec

    return kind not in ("zarr", "blosc2") or find_spec(kind) is not None


def size_of(folder: Path, kind: str) -> float:
    """GiB on the disk of the images and labels in a format."""
    pattern = {"npy": "case*/[il]*.npy", "zarr": "*.zarr/**/*", "blosc2": "*.b2nd"}[kind]
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) / 2**30


def start_up(options: argparse.Namespace) -> list[Row]:
    """Seconds of ``medgan --help``."""
    command = [sys.executable, "-m", "medgan", "--help"]
    seconds = []
    for _ in range(11):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return [{"what": "medgan --help", "median_s": statistics.median(seconds), "largest_s": max(seconds)}]


def first_step(options: argparse.Namespace) -> list[Row]:
    """Seconds from the command ``medgan train`` to the end of its first step, on the run's prepared data."""
    return [timed_training(options.run, steps=1) for _ in range(options.rounds)]


def waiting(options: argparse.Namespace) -> list[Row]:
    """The share of a run's whole training in which it waited for its next batch."""
    spent, waited, before = 0.0, 0.0, 0
    for line in (options.run / "train" / "times.jsonl").read_text(encoding="utf-8").splitlines():
        lap = json.loads(line)
        seconds, before = lap["seconds"] * (lap["step"] - before), lap["step"]
        spent, waited = spent + seconds, waited + seconds * lap["waiting"]
    return [{"run": options.run.name, "steps": before, "seconds": spent, "waiting": waited / spent}]


def ranks(options: argparse.Namespace) -> list[Row]:
    """Seconds per step of one process and of two, a thread each; the batch of a step is twice as large with two."""
    return [timed_training(options.run, steps=31, count=count) for count in (1, 2)]


def timed_training(run: Path, steps: int, count: int = 1) -> Row:
    """A training of a few steps on a run's prepared data: seconds to the first step, and of a later one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        copy.mkdir()
        shutil.copytree(run / "preprocess", copy / "preprocess")
        sets = {"num_steps": steps, "log_every": 1 if steps == 1 else 10, "validate_every": 1000, "preview_every": 1000}
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


def volumes(options: argparse.Namespace) -> list[Row]:
    """Preparing a volume, and a challenge's figures of a pair, on one thread; as scripts/evaluation_speed.py."""
    from evaluation_speed import KINDS, apart, measured

    rows = [job("benchmark_volume.py", threads=1) for _ in range(options.rounds)]
    what = {"what": "prepare 256 x 256 x 128", "median_s": statistics.median(row["seconds"] for row in rows)}
    found = [what | {"peak_gib": max(row["peak_gib"] for row in rows)}]
    with tempfile.TemporaryDirectory() as folder:
        apart("--write", folder)
        for kind in KINDS:
            facts = [measured(kind, folder) for _ in range(options.rounds)]
            seconds = statistics.median(fact["seconds"] for fact in facts)
            peak = max(fact["peak_mib"] for fact in facts) / 1024
            found.append({"what": f"evaluate 400 x 400 x 150, {kind}", "median_s": seconds, "peak_gib": peak})
    return found


def translation(options: argparse.Namespace) -> list[Row]:
    """A generator over whole volumes, medgan beside MONAI's inferer; as scripts/translation_costs.py."""
    from translation_costs import measure_costs

    sizes = [(64, 64, 48), (96, 96, 64), (128, 128, 96)]
    return measure_costs(options.run, WORK / "translation", sizes, 1)


def table(rows: Sequence[Row]) -> str:
    """Rows as text; what is long stays in the JSON."""
    lines = []
    for row in rows:
        short = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in short.values())
        lines.append("  " + "  ".join(f"{key}={cell}" for key, cell in zip(short, cells, strict=True)))
    return "\n".join(lines)


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "step": step,
    "step_demo": step_demo,
    "step_compile": step_compile,
    "step_gpu": step_gpu,
    "memory": memory,
    "growth": growth,
    "supply": supply,
    "start_up": start_up,
    "volumes": volumes,
    "first_step": first_step,
    "waiting": waiting,
    "ranks": ranks,
    "translation": translation,
}
OF_RUN = ("first_step", "waiting", "ranks", "translation")

if __name__ == "__main__":
    enter()
    main()
