"""Two processes never write one run, and a dead one holds up nobody for long."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from medgan import lock as locks
from medgan.config import InputError
from medgan.lock import RunLock, hold

HOLDER = (
    "import sys, time; from pathlib import Path; from medgan.lock import hold\n"
    "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_held_run_is_refused_and_a_killed_holder_frees_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(InputError, match=rf"process {process.pid} on .* is writing this run; wait"), hold(tmp_path):
            pass
        process.kill()
    assert (tmp_path / "lock").exists(), "its note stays behind"
    with hold(tmp_path) as mine:
        assert mine is not None
        mine.check()
    assert list(tmp_path.iterdir()) == []


def test_within_one_process_holding_again_is_free(tmp_path: Path) -> None:
    with hold(tmp_path) as outer, hold(tmp_path) as inner:
        assert inner is outer
    assert not (tmp_path / "lock").exists()


def test_further_ranks_leave_the_lock_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(tmp_path), monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        patch.setattr(locks, "_held", {})
        with hold(tmp_path) as none:
            assert none is None


def test_a_forked_child_does_not_take_its_parents_lock_for_its_own(tmp_path: Path) -> None:
    with hold(tmp_path):
        child = os.fork()
        if not child:
            try:
                with hold(tmp_path):
                    os._exit(0)
            except InputError:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose locks reach no other machine, and little patience."""
    monkeypatch.setattr(locks, "_lock", lambda handle: False)
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.03)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.3)


@pytest.mark.usefixtures("weak")
def test_without_locks_a_sign_of_life_refuses(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    with pytest.raises(InputError, match=rf"process {os.getpid()} .* is writing this run"):
        RunLock(tmp_path)
    held.check()
    held.release()


@pytest.mark.usefixtures("weak")
def test_without_a_sign_of_life_the_run_is_taken_over_and_the_late_riser_writes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asleep = RunLock(tmp_path)
    asleep._done.set()  # as if stopped: its heart beats no more
    asleep._heart.join()
    other = RunLock(tmp_path)
    assert "waiting 0 s for a sign of life" in capsys.readouterr().err
    with pytest.raises(InputError, match="has taken over, as this one gave no sign of life; this process"):
        asleep.check()
    asleep.release()
    other.check()
    assert other.path.exists(), "what is another's is not removed"
    other.release()
    assert not other.path.exists()


@pytest.mark.usefixtures("weak")
def test_what_is_released_while_one_waits_is_taken_at_once(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    held._done.set()
    held._heart.join()
    started = time.monotonic()
    child = os.fork()
    if not child:
        time.sleep(0.1)
        held.path.unlink()
        os._exit(0)
    later = RunLock(tmp_path)
    os.waitpid(child, 0)
    later.check()
    assert time.monotonic() - started < 5
    later.release()
    os.close(held._handle)


def test_a_note_of_another_machine_is_waited_for_even_where_the_lock_was_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    (tmp_path / "lock").write_text(json.dumps({"host": "node17", "machine": "another", "pid": 12, "token": "x"}))
    with hold(tmp_path):
        assert "process 12 on node17 wrote here; waiting" in capsys.readouterr().err


def test_a_removed_lock_is_noticed(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    held.path.unlink()
    with pytest.raises(InputError, match="its lock was removed; this process writes no more"):
        held.check()
    held.release()


def test_a_file_in_place_of_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"), hold(tmp_path / "file"):
        pass
