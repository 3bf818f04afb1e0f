"""The notebooks run from top to bottom."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 150_000  # bytes, outputs included: they are kept small


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    from notebooks import execute

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    execute(notebook, str(tmp_path))


def test_there_are_three_small_ones_without_a_trace_of_a_machine() -> None:
    assert len(NOTEBOOKS) >= 3
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert len(text) < LARGEST
        assert "/tmp/" not in text
        assert "/home/" not in text
        assert "/work/" not in text
