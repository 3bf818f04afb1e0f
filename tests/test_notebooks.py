"""The notebooks run from top to bottom."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 150_000  # bytes, outputs included: they are kept small


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(name: str) -> None:
    script = str(ROOT / "scripts" / "notebooks.py")
    told = subprocess.run([sys.executable, script, "--check", name], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert f"{name}.ipynb" in told.stdout


def test_there_are_three_small_ones_without_a_trace_of_a_machine() -> None:
    assert len(NOTEBOOKS) >= 3
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert len(text) < LARGEST
        assert "/tmp/" not in text
        assert "/home/" not in text
        assert "/work/" not in text
