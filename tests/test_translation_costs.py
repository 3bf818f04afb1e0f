"""Times of whole volumes: what a job has measured is kept, and a process that was held has not worked."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import translation_costs
from translation_costs import METHODS, Stopwatch, measure_costs

from medgan.rundir import RunDir


@pytest.mark.parametrize(
    ("wall", "processor", "seconds"),
    [
        ([0, 1, 2, 4], [0, 1, 2, 4], 4),  # at work
        ([0, 1, 2, 4], [0, 0, 0, 0], 4),  # waits for a disk
        ([0, 1, 301, 302], [0, 1, 3, 4], 4),  # 2 s of work, then held until 301
        ([0, 1, 11, 12], [0, 1, 21, 22], 12),  # ten seconds in which two threads let no tick through
    ],
)
def test_seconds_in_which_a_process_is_held_do_not_count(
    wall: list[float], processor: list[float], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, busy = iter(wall), iter(processor)
    clock = SimpleNamespace(perf_counter=lambda: next(times), process_time=lambda: next(busy))
    monkeypatch.setattr(translation_costs, "time", clock)
    watch = Stopwatch()
    for _ in wall[1:]:
        watch.tick()
    assert watch.seconds == seconds


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, jobs = RunDir(tmp_path / "run"), list[Any]()
    run.checkpoint("last").parent.mkdir(parents=True)
    run.checkpoint("last").write_bytes(b"weights")

    def job(*words: Any) -> dict[str, Any]:
        jobs.append(words)
        if len(jobs) == 5:
            raise KeyboardInterrupt
        return {"seconds": float(len(jobs)), "peak_gib": 1.0}

    monkeypatch.setattr(translation_costs, "_in_own_process", job)
    with pytest.raises(KeyboardInterrupt):
        measure_costs(run.path, tmp_path, [(8, 8, 8)], repeats=1)
    rows = measure_costs(run.path, tmp_path, [(8, 8, 8)], repeats=1)
    measured = [words for words in jobs if words[0] in ("network", "file")]
    assert len(measured) == len(METHODS) + 1 + 1  # a file, and the one that was cut short, twice
    assert {row["method"] for row in rows} == {*METHODS, "medgan translate"}
    assert rows == measure_costs(run.path, tmp_path, [(8, 8, 8)], repeats=1)
