"""One process at a time writes a run: a lock that outlives no process, on shared file systems too.

Two promises stand behind it. Where the file system knows locks (local disks, NFS with its lock service, Lustre mounted
with ``flock``), the system holds the lock and drops it with the process, however that ends. Where it does not, or only
within one machine, the holder also leaves a sign of life in the file every few seconds: who finds the note of another
machine waits for the next one, and takes the run over where none comes. Only changes count, no clocks are compared. A
holder that was taken for dead, because it had been stopped for a while, sees that its note is gone and writes no more.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medgan.config import InputError

try:
    import fcntl
except ImportError:  # no such locks on this system: signs of life alone
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 10.0
PATIENCE_SECONDS = 45.0  # without a sign of life, until a holder on another machine is taken for dead
_LENGTH = 1000  # bytes of a note
_held: dict[Path, RunLock] = {}


@contextmanager
def hold(folder: Path) -> Iterator[RunLock | None]:
    """Hold the lock of a run meanwhile; within, holding it again is free. Of several ranks the first one holds it.

    Raises:
        InputError: another process holds it; which one is told.
    """
    place = folder.resolve()
    ours = _held.get(place)
    if not is_first_process() or (ours and ours.is_mine):
        yield ours
        return
    lock = RunLock(folder)
    _held[place] = lock
    try:
        yield lock
    finally:
        del _held[place]
        lock.release()


def is_first_process() -> bool:
    """Whether this is the rank that writes, of those that ``torchrun`` or SLURM started together, or a single one."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


class RunLock:
    """The lock of one folder, ``lock`` in it; it is this process's until it is released."""

    def __init__(self, folder: Path) -> None:
        """Take it.

        Raises:
            InputError: another process holds it, or there is a file in place of the folder.
        """
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; name a folder for the run")
        self.path = folder / "lock"
        self._note: dict[str, Any] = {"host": platform.node(), "machine": _machine(), "pid": os.getpid()}
        self._note |= {"token": uuid.uuid4().hex, "beat": 0}
        self._file, self._done = threading.Lock(), threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._take()
        self._heart = threading.Thread(target=self._beat, name="lock of the run", daemon=True)
        self._heart.start()

    @property
    def is_mine(self) -> bool:
        """Whether this process took it, and not the one that it was forked from."""
        return bool(self._note["pid"] == os.getpid())

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            InputError: another process has taken this one for dead, and the run over.
        """
        note = self._read()
        if note.get("token") != self._note["token"]:
            what = f"{_who(note)} has taken over, as this one gave no sign of life" if note else "its lock was removed"
            raise InputError(f"{self.path.parent}: {what}; this process writes no more")

    def release(self) -> None:
        """Give it back."""
        self._done.set()
        self._heart.join()
        with suppress(InputError, OSError):
            self.check()
            self.path.unlink()
        os.close(self._handle)

    def _take(self) -> None:
        while True:
            self._handle, is_sure = self._open()
            try:
                is_taken_over = self._outwait(is_sure)
                if self._is_there():
                    self._write()
                    if is_taken_over:  # another process may have waited as long as this one: the last word counts
                        time.sleep(PATIENCE_SECONDS / 50)
                        self.check()
                    return
            except BaseException:
                os.close(self._handle)
                raise
            os.close(self._handle)  # released, and so removed, since it was opened

    def _is_there(self) -> bool:
        with suppress(FileNotFoundError):
            return os.fstat(self._handle).st_ino == self.path.stat().st_ino
        return False

    def _open(self) -> tuple[int, bool]:
        """The file, locked if the file system can, and whether it can."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            return handle, _lock(handle)
        except BlockingIOError:
            note = _parsed(os.read(handle, _LENGTH))
            os.close(handle)
            raise InputError(_refusal(self.path, note)) from None

    def _outwait(self, is_sure: bool) -> bool:
        """Refuse where whoever left a note in the file is alive; tell whether that took waiting."""
        note = self._read()
        if not note or (is_sure and note.get("machine") == self._note["machine"]):
            return False  # of a process of this machine that ended: its lock is gone
        line = f"{_who(note)} wrote here; waiting {PATIENCE_SECONDS:.0f} s for a sign of life"
        print(f"medgan: {self.path.parent}: {line}", file=sys.stderr)
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            time.sleep(PATIENCE_SECONDS / 50)
            later = self._read()
            if later != note:
                if later:
                    raise InputError(_refusal(self.path, later))
                return False
        return True

    def _beat(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            with suppress(OSError):
                if self._read().get("token") != self._note["token"]:
                    return
                self._note["beat"] += 1
                self._write()

    def _read(self) -> dict[str, Any]:
        """What the file of that name says now; the same file is not opened again, as closing it would unlock."""
        try:
            if not self._is_there():
                return _parsed(self.path.read_bytes())
        except OSError:
            return {}
        with self._file:
            os.lseek(self._handle, 0, os.SEEK_SET)
            return _parsed(os.read(self._handle, _LENGTH))

    def _write(self) -> None:
        with self._file:
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, json.dumps(self._note).ljust(_LENGTH).encode())  # one length, so never half of two
            os.fsync(self._handle)


def _lock(handle: int) -> bool:
    """Lock an open file; False where the file system or the system knows no locks.

    Raises:
        BlockingIOError: another process has it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError(error.errno, error.strerror) from None
        return False
    return True


def _machine() -> str:
    """What tells this machine, since it was started, from any other; containers of one machine share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{platform.node()} {uuid.getnode():x}"


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        note = json.loads(text) if text.strip() else {}
    except ValueError:  # caught while it is written
        note = None
    return note if isinstance(note, dict) else {"host": "an unknown machine"}


def _who(note: dict[str, Any]) -> str:
    return f"process {note.get('pid', '?')} on {note.get('host', '?')}"


def _refusal(path: Path, note: dict[str, Any]) -> str:
    return f"{path.parent}: {_who(note)} is writing this run; wait for it, end it, or name another folder"
