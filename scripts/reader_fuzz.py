"""Damaged volumes through the readers: each must be read or refused in one line, whatever is in it.

    python scripts/reader_fuzz.py                              2,000 files, numbers to docs/results/reliability
    python scripts/reader_fuzz.py --count 200 --seed 1 --keep FOLDER      what went wrong is kept in FOLDER

A process of its own reads the files: it lives under an address limit and is ended where it takes too long, so that the
study outlives what it looks for. It does to a file what medgan does: `read_header`, `read_volume`, and `check --deep`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from reader_mutations import SHAPE, make_seeds, mutate
from reliability_page import write_section

SEED, COUNT = 20260, 2000
SECONDS, MEBIBYTES = 5.0, 1024
PATIENCE = 4 * SECONDS  # above the limit, so that how slow a file is gets known
START = "spawn"
ADDRESSES = 6 * 2**30  # of the reading process; so much is never used, it keeps the machine alive


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        verdict: "read", "refused", "traceback", "died", "slow" or "memory".
        line: of the refusal, without the path; the last line of a traceback; the signal.
        seconds: of the reading.
        peak_mib: the largest resident set meanwhile, that of the decoder included.
    """

    verdict: str
    line: str
    seconds: float
    peak_mib: float


GOOD = ("read", "refused")


def run_fuzz(count: int, seed: int, folder: Path, keep: Path | None = None) -> list[tuple[str, str, Outcome]]:
    """`count` damaged files, the formats in turn: format, damage, outcome of each."""
    seeds = make_seeds(folder)
    found = []
    with Reader() as reader:
        for number in range(count):
            one = seeds[number % len(seeds)]
            content, damage = mutate(one, random.Random(f"{seed}/{number}"))
            path = one.write(folder / str(number % 2), content)
            outcome = reader.read(path)
            if outcome.verdict == "slow":  # or another process was in the way
                outcome = reader.read(path)
            found.append((one.name, damage, outcome))
            if keep is not None and outcome.verdict not in GOOD:
                one.write(keep / f"{number}_{outcome.verdict}", content)
                print(number, one.name, damage, outcome, flush=True)
    return found


class Reader:
    """A process that reads volumes, one after the other, and is started again when one was too much for it."""

    def __enter__(self) -> Reader:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, path: Path) -> Outcome:
        """What becomes of one file."""
        began = time.perf_counter()
        self._pipe.send(str(path))
        try:
            if not self._pipe.poll(PATIENCE):
                self._stop()
                self._start()
                return Outcome("slow", "stopped", time.perf_counter() - began, 0.0)
            outcome: Outcome = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start()
            return Outcome("died", f"exit code {code}", time.perf_counter() - began, 0.0)
        if outcome.peak_mib > MEBIBYTES:  # which the process may keep
            self._stop()
            self._start()
        if outcome.verdict in GOOD and outcome.seconds > SECONDS:
            return replace(outcome, verdict="slow")
        if outcome.verdict in GOOD and outcome.peak_mib > MEBIBYTES:
            return replace(outcome, verdict="memory")
        return outcome

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(START)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # its libraries are loaded

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    from medgan.check import run_check
    from medgan.config import InputError
    from medgan.data.volume import read_header, read_volume

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    pipe.send("ready")
    while True:
        try:
            path = Path(pipe.recv())
        except EOFError:
            return
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        began, verdict, line = time.perf_counter(), "read", ""
        try:
            run_check([path], deep=True)  # its findings are the refusals, so nothing may be raised
            read_header(path)
            read_volume(path)
        except InputError as error:
            line = str(error).replace(str(path), "FILE", 1)
            verdict = "refused" if "\n" not in line and "; " in line else "traceback"
        except BaseException as error:
            verdict, line = "traceback", f"{type(error).__name__}: {error}".splitlines()[0][:200]
        pipe.send(Outcome(verdict, line, time.perf_counter() - began, _peak_mib()))


def _peak_mib() -> float:
    """The largest resident set of this process since it was asked last, and of its decoder since that started."""
    children = [file.read_text().split() for file in Path("/proc/self/task").glob("*/children")]
    peak = 0
    for process in ("self", *(child for some in children for child in some)):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        peak += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak / 1024


def outcomes(found: Sequence[tuple[str, str, Outcome]]) -> dict[str, Any]:
    """How many files of each format came to which end, how long and how large at most, and the commonest refusals."""
    formats: dict[str, Counter[str]] = {}
    for name, _, one in found:
        formats.setdefault(name, Counter())[one.verdict] += 1
    lines = Counter(_shape(one.line) for *_, one in found if one.verdict == "refused")
    return {
        "files": len(found),
        "formats": {name: dict(verdicts) for name, verdicts in formats.items()},
        "bad": sum(one.verdict not in GOOD for *_, one in found),
        "slowest_s": round(max(one.seconds for *_, one in found), 2),
        "peak_mib": round(max(one.peak_mib for *_, one in found)),
        "refusals": dict(lines.most_common(40)),
    }


def _shape(line: str) -> str:
    """A refusal without its values, to count its kind."""
    reason = re.sub(r"^[^:]*: ", "", line.rpartition("; ")[0])
    return re.sub(r"-?\d[\d.e+-]*", "N", re.sub(r"'.*?'", "'...'", reason))[:100]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = run_fuzz(options.count, options.seed, Path(folder), options.keep)
        numbers = outcomes(found) | {"seed": options.seed, "wall_s": round(time.perf_counter() - began)}
    for name, verdicts in numbers["formats"].items():
        print(f"{name:12} {verdicts}")
    print(f"{numbers['bad']} bad; slowest {numbers['slowest_s']} s, peak {numbers['peak_mib']} MiB")
    if options.keep is None:
        _write(numbers)


def _write(numbers: dict[str, Any]) -> None:
    verdicts = (*GOOD, "traceback", "died", "slow", "memory")
    rows = [[name, *(found.get(one, 0) for one in verdicts)] for name, found in numbers["formats"].items()]
    size = " x ".join(map(str, SHAPE))
    write_section(
        "readers",
        order=10,
        title="Readers under fuzz",
        command=f"scripts/reader_fuzz.py --count {numbers['files']} --seed {numbers['seed']}",
        blocks=[
            f"Sound volumes of {size} voxels ({len(rows)} formats; DICOM: three slices) were damaged "
            f"{numbers['files']} times: bits, bytes and integers at the ends of their ranges, most of them in the "
            "header; files cut, lengthened, repeated; words, numbers and lines of text headers; compressed files "
            "outside, or inside and packed again. Each goes through `read_header`, `read_volume` and `check --deep`. "
            "*Read* and *refused* (one line: place, reason, way out) are good; *died* is the end of the process, "
            f"*slow* more than {SECONDS:.0f} s twice, *memory* a resident set above {MEBIBYTES} MiB.",
            {"columns": ["format", *verdicts], "rows": rows},
            f"Slowest file {numbers['slowest_s']} s; largest resident set {numbers['peak_mib']} MiB, that of the "
            "process which decodes compressed pixels included; Python and its libraries take most of it.",
        ],
        numbers=numbers,
        packages=("medgan", "nibabel", "simpleitk", "pydicom", "numpy"),
    )


if __name__ == "__main__":
    main()
