"""Damaged volumes are read or refused; the study that says so sees what goes wrong."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import reader_fuzz
from reader_fuzz import GOOD, Outcome, Reader, outcomes, run_fuzz
from reader_mutations import make_seeds, mutate
from reliability_page import write_section

from medgan.config import InputError
from medgan.data.volume import read_volume


def test_damaged_files_of_every_format_are_read_or_refused_in_one_line(tmp_path):
    found = run_fuzz(130, 7, tmp_path)
    bad = [(name, damage, outcome) for name, damage, outcome in found if outcome.verdict not in GOOD]
    assert not bad
    assert {outcome.verdict for *_, outcome in found} == set(GOOD)
    assert len({name for name, *_ in found}) == 13


def test_the_seeds_are_sound_and_damage_is_drawn_from_its_number(tmp_path):
    for seed in make_seeds(tmp_path):
        content = next(iter(seed.files.values()))
        if seed.name not in ("dicom_rle", "dicom_j2k"):  # each takes a process; the study reads them
            assert read_volume(seed.write(tmp_path / "x", content)).array.shape[:2] == (9, 8)
        assert mutate(seed, random.Random("1/2")) == mutate(seed, random.Random("1/2"))
        assert any(mutate(seed, random.Random(f"1/{n}"))[0] != content for n in range(3))


@pytest.fixture
def harmful(monkeypatch):
    """A reader that does what its file is named after."""

    def act(pipe):
        pipe.send("ready")
        while True:
            name = Path(pipe.recv()).name
            if name == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "hang":
                time.sleep(60)
            pipe.send(Outcome("read", "", 9.0 if name == "slow" else 0.1, 5000.0 if name == "memory" else 10.0))

    monkeypatch.setattr(reader_fuzz, "_serve", act)
    monkeypatch.setattr(reader_fuzz, "START", "fork")
    monkeypatch.setattr(reader_fuzz, "PATIENCE", 0.5)


@pytest.mark.parametrize(
    ("name", "verdict"), [("die", "died"), ("hang", "slow"), ("slow", "slow"), ("memory", "memory"), ("good", "read")]
)
def test_a_reader_that_dies_hangs_or_takes_all_memory_is_told_and_replaced(harmful, name, verdict):
    with Reader() as reader:
        assert reader.read(Path(name)).verdict == verdict
        assert reader.read(Path("good")).verdict == "read"


def test_outcomes_are_counted_by_format_and_refusals_by_kind():
    found = [
        ("a", "flip", Outcome("read", "", 0.1, 10)),
        ("a", "flip", Outcome("refused", "FILE: declares 12 bytes; copy it", 0.2, 30)),
        ("b", "cut", Outcome("refused", "FILE: declares 7 bytes; copy it", 0.3, 20)),
        ("b", "cut", Outcome("died", "exit code -6", 0.3, 0)),
    ]
    numbers = outcomes(found)
    assert numbers["formats"] == {"a": {"read": 1, "refused": 1}, "b": {"refused": 1, "died": 1}}
    assert (numbers["bad"], numbers["slowest_s"], numbers["peak_mib"]) == (1, 0.3, 30)
    assert numbers["refusals"] == {"declares N bytes": 2}


def test_the_page_is_made_of_its_sections_in_their_order(tmp_path):
    for name, order in (("b", 2), ("a", 3), ("c", 1)):
        table = {"columns": ["x", "y"], "rows": [[order, "p|q"]]}
        write_section(
            name,
            order=order,
            title=f"T{order}",
            command="run it",
            blocks=["Words.", table],
            numbers={},
            results=tmp_path,
        )
    page = (tmp_path / "reliability.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## T1", "## T2", "## T3"]
    assert "| 1 | p\\|q |" in page
    assert "`run it`; python 3" in page


def test_a_damaged_slice_is_not_left_out_of_its_series(tmp_path):
    seed = next(one for one in make_seeds(tmp_path) if one.name == "dicom")
    path = seed.write(tmp_path / "x", next(iter(seed.files.values()))[:300])
    with pytest.raises(InputError, match=r"0\.dcm"):
        read_volume(path)
