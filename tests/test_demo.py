"""The demo's page: what it claims and what it leaves out."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    import demo as module

    monkeypatch.setattr(module, "RUN", tmp_path)
    monkeypatch.setattr(module, "PAGE", tmp_path / "demo.md")
    packages = {"torch": "1.2.3", "monai": "4.5.6"}
    facts = {"seed": 7, "processors": 2, "threads": 2, "python": "3.11", "packages": packages}
    (tmp_path / "environment.json").write_text(json.dumps(facts))
    monkeypatch.setattr(module, "draw_case", lambda part: None)  # needs a whole run; tests/test_report.py draws one
    yield module
    sys.modules.pop("demo")


def summary(ours: float, table: float) -> dict[str, Any]:
    def entry(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 1, "high": mean + 1}

    methods = {
        "translation": {"mae": entry(ours), "dice": entry(0.9)},
        "lookup table (median)": {"mae": entry(table)},
        "lookup table (mean)": {"mae": entry(table + 10)},
    }
    return {"directions": {"AB": {"methods": methods}, "BA": {"methods": methods}}}


def test_the_page_holds_intervals_versions_and_time(demo: Any, tmp_path: Path) -> None:
    demo.write_page(summary(80.0, 100.0), 9.5)
    page = (tmp_path / "demo.md").read_text()
    assert "| translation | 80 [79, 81] |" in page
    assert "torch 1.2.3" in page
    assert "9.5 minutes" in page
    assert json.loads((tmp_path / "demo.json").read_text())["minutes"] == 9.5


def test_a_run_made_in_pieces_claims_no_time(demo: Any, tmp_path: Path) -> None:
    demo.write_page(summary(80.0, 100.0), None)
    assert "minutes" not in (tmp_path / "demo.md").read_text()


@pytest.mark.parametrize(("ours", "words"), [(80.0, "20% below"), (150.0, "50% above")])
def test_the_verdict_is_against_the_best_table(
    demo: Any, capsys: pytest.CaptureFixture[str], ours: float, words: str
) -> None:
    demo.print_result(summary(ours, 100.0)["directions"]["BA"])
    assert f"{words} the best lookup table" in " ".join(capsys.readouterr().out.split())
