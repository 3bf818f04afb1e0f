"""What medgan costs beside the ordinary way, measured side by side in one run; a table and a JSON.

    python3 scripts/benchmark.py                          everything that needs no trained run; about 15 minutes
    python3 scripts/benchmark.py --only step,supply       some parts of it (PARTS)
    python3 scripts/benchmark.py --run runs/demo          and what needs one: the first step, ranks, translation
    python3 scripts/benchmark.py --run runs/demo --other runs/demo_float32    and two runs side by side (`precision`)
    python3 scripts/benchmark.py --page                   and docs/results/performance.md, .json and .png after each
                                                          part; other parts and other machines keep their figures
    python3 scripts/benchmark.py --quick                  the smallest sizes, one round: whether all of it runs here

Leave the machine alone meanwhile. On a GPU the step is measured at 128^3, too (`step_gpu`), by CUDA events.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark_runs import first_step, precision, ranks, waiting

from environment import ROOT, enter

PAGE = Path("docs/results/performance.md")
WORK = Path("runs/benchmark")
SUPPLY_S = 4.0
Row = dict[str, Any]


def main() -> None:
    """Measure what is asked for and print it."""
    os.chdir(ROOT)
    options = arguments()
    found: dict[str, list[Row]] = {}
    from benchmark_page import joined, processor, write_page

    record = PAGE.with_suffix(".json")
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    for name in wanted(options):
        found[name] = [{"on": processor(), **row} for row in PARTS[name](options)]
        print(f"{name}\n" + table(found[name]), flush=True)
        if options.page:
            write_page(PAGE, before | {part: joined(before.get(part, ()), rows) for part, rows in found.items()})


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, with commas")
    parser.add_argument("--run", type=Path, help="a trained run")
    parser.add_argument("--other", type=Path, help="the same in another precision")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; the ways take turns")
    parser.add_argument("--page", action="store_true", help="write the page, too")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, one round; figures of no use")
    options = parser.parse_args(words)
    if options.quick and options.page:
        sys.exit("--quick: its figures are no page; leave one of --quick and --page out")
    if options.quick:
        options.rounds = 1
    return options


def wanted(options: argparse.Namespace) -> list[str]:
    """The parts that are asked for, or else all that can be measured with the runs given."""
    able = [name for name in PARTS if all(getattr(options, one) for one in NEEDS.get(name, ()))]
    if not options.only:
        return able
    names: list[str] = options.only.split(",")
    if unknown := sorted(set(names) - set(PARTS)):
        sys.exit(f"--only {','.join(unknown)}: unknown; choose from {', '.join(PARTS)}")
    for name in names:
        if name not in able:
            runs = " ".join(f"--{one} {RUNS[one]}" for one in NEEDS[name])
            sys.exit(f"--only {name}: needs trained runs; give {runs}")
    return names


def job(script: str, *words: object, threads: int | None = None) -> Row:
    """What a script prints, run in a process of its own."""
    quiet = {"OMP_WAIT_POLICY": "passive"}  # a thread that waits does not count as busy
    environment = os.environ | quiet | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, str(Path("scripts") / script), *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def in_turn(jobs: Sequence[Row], options: argparse.Namespace, rounds: int | None = None) -> list[Row]:
    """Steps of several kinds, each in processes of its own that take turns: the median of all, the largest peak."""
    done: list[list[Row]] = []
    if options.quick:
        small = [one | {"patch": [24, 24, 16], "repeats": 1} for one in jobs]
        jobs = [one for number, one in enumerate(small) if one not in small[:number]]
    for _ in range(rounds or options.rounds):
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
    """Both ways in bfloat16, where the processor has instructions for it: elsewhere it takes twenty times as long."""
    from medgan.device import has_bf16

    return ("medgan bf16", "plain autocast") if has_bf16() else ()


def step(options: argparse.Namespace) -> list[Row]:
    """`seg_cyclegan` beside `plain` at 64^3."""
    one = {"recipe": "seg_cyclegan", "patch": [64] * 3, "repeats": 2}
    ways = ("medgan", *in_bf16(), "plain")
    return in_turn([one | {"way": way, "rates": way == "medgan"} for way in ways], options)


def step_demo(options: argparse.Namespace) -> list[Row]:
    """The 3D translators at the demo's patch."""
    one = {"patch": [32, 32, 24], "repeats": 6}
    ways = (("seg_cyclegan", ("medgan", *in_bf16(), "plain")), ("cyclegan", ("medgan", "plain")))
    jobs = [one | {"recipe": recipe, "way": way, "rates": way == "medgan"} for recipe, some in ways for way in some]
    return in_turn([*jobs, one | {"recipe": "pix2pix", "way": "medgan"}], options)


def step_compile(options: argparse.Namespace) -> list[Row]:
    """Steps through `torch.compile`, the first of which takes minutes, beside the same as they are."""
    one = {"recipe": "seg_cyclegan"}
    sizes = [{"patch": [32, 32, 24], "repeats": 6}, {"patch": [64] * 3, "repeats": 2}]
    return in_turn([one | size | {"way": way} for size in sizes for way in ("medgan compile", "medgan")], options, 1)


def step_gpu(options: argparse.Namespace) -> list[Row]:
    """`seg_cyclegan` at 128^3 on a GPU, with and without `torch.compile`, beside `plain` with TF32 and in bf16."""
    if not has_gpu():
        return []
    one = {"recipe": "seg_cyclegan", "patch": [128] * 3, "channels": 32, "device": "cuda", "repeats": 20}
    ways = ("medgan bf16", "medgan bf16 contiguous", "medgan bf16 compile", "plain", "plain autocast")
    return in_turn([one | {"way": way, "rates": True} for way in ways], options)


def memory(options: argparse.Namespace) -> list[Row]:
    """What computing blocks again saves and costs."""
    one = {"recipe": "seg_cyclegan", "patch": [64, 64, 64], "repeats": 2}
    return in_turn([one | {"way": way} for way in ("medgan", "medgan recompute")], options)


def growth(options: argparse.Namespace) -> list[Row]:
    """A step against the patch and against the channels."""
    one = {"recipe": "seg_cyclegan", "way": "medgan", "repeats": 3}
    jobs = [one | {"patch": [side] * 3} for side in (24, 32, 48, 64, 80)]
    jobs += [one | {"patch": [32] * 3, "channels": channels} for channels in (8, 16, 24, 32, 48)]
    return in_turn(jobs, options, 1)


def supply(options: argparse.Namespace) -> list[Row]:
    """Patches per second of medgan's store, other formats and MONAI's datasets; medgan also with workers."""
    from benchmark_supply import FORMATS

    folder, duration_s = (WORK / "quick" / "supply", 0.2) if options.quick else (WORK / "supply", SUPPLY_S)
    words = ["make", str(folder), *(["small"] if options.quick else [])]
    subprocess.run([sys.executable, "scripts/benchmark_supply.py", *words], check=True)
    kinds = [kind for kind in (*FORMATS, "medgan, 1 worker", "medgan, 2 workers") if is_installed(kind)]
    rounds = [
        [job("benchmark_supply.py", kind, folder, duration_s, threads=1) for kind in kinds]
        for _ in range(options.rounds)
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
    for _ in range(2 if options.quick else 11):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return [{"what": "medgan --help", "median_s": statistics.median(seconds), "largest_s": max(seconds)}]


def volumes(options: argparse.Namespace) -> list[Row]:
    """Preparing a volume, and a challenge's figures of a pair, on one thread; as scripts/evaluation_speed.py."""
    from benchmark_page import by
    from evaluation_speed import KINDS, SHAPE, apart, measured

    prepared, pair = ((64, 64, 48), (128, 128, 128)) if options.quick else ((256, 256, 128), SHAPE)
    rows = [job("benchmark_volume.py", *prepared, threads=1) for _ in range(options.rounds)]
    seconds = statistics.median(row["seconds"] for row in rows)
    peak = max(row["peak_gib"] for row in rows)
    found: list[Row] = [{"what": f"prepare {by(prepared)}", "median_s": seconds, "peak_gib": peak}]
    with tempfile.TemporaryDirectory() as folder:
        apart("--write", folder, *map(str, pair))
        for kind in KINDS:
            facts = [measured(kind, folder) for _ in range(options.rounds)]
            seconds = statistics.median(fact["seconds"] for fact in facts)
            peak = max(fact["peak_mib"] for fact in facts) / 1024
            found.append({"what": f"evaluate {by(pair)}, {kind}", "median_s": seconds, "peak_gib": peak})
    return found


def translation(options: argparse.Namespace) -> list[Row]:
    """A generator over whole volumes, medgan beside MONAI's inferer; as scripts/translation_costs.py."""
    from translation_costs import METHODS, measure_costs

    if options.quick:
        return measure_costs(options.run, WORK / "quick" / "translation", [(64, 64, 48)], 1, ("medgan", "MONAI 0.25"))
    sizes = [(64, 64, 48), (96, 96, 64), (128, 128, 96)]
    return measure_costs(options.run, WORK / "translation", sizes, 1, METHODS)


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
    "precision": precision,
}
RUNS = {"run": "runs/demo", "other": "runs/demo_float32"}
NEEDS = dict.fromkeys(("first_step", "waiting", "ranks", "translation"), ("run",)) | {"precision": ("run", "other")}

if __name__ == "__main__":
    enter()
    main()
