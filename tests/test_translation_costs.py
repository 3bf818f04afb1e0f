"""Times of whole volumes: what a job has measured is kept."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import translation_costs
from translation_costs import METHODS, measure_costs

from medgan.rundir import RunDir


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
