"""What befalls a training from outside, said in one line: a data worker that died, another rank that ended."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from medgan.config import InputError

_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: \w[\w ]*|exited \w+)")
_PEER = re.compile(
    r"Connection (closed|reset) by peer|Connection refused|Broken pipe|remote process exited|Socket closed"
)
_STANDS = "the last checkpoint stands, the same command goes on from it"


@contextmanager
def told() -> Iterator[None]:
    """Turn such mishaps into lines.

    Raises:
        InputError: what happened, and the way out.
    """
    try:
        yield
    except InputError as error:
        if "Original Traceback" not in str(error):
            raise
        raise InputError(str(error).strip().rpartition("InputError: ")[2]) from None  # as the worker said it
    except RuntimeError as error:
        line = _line(error)
        if line is None:
            raise
        raise InputError(f"train: {line}; {_STANDS}") from None


def ignore_signals(_: int) -> None:
    """For data workers: what is sent to a whole job is for the training to answer, which ends them itself."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _line(error: BaseException) -> str | None:
    text, cause = str(error), error.__cause__
    worker = _WORKER.search(str(cause)) or _WORKER.search(text)
    if worker:
        pids, how = worker[1], worker[2]
        if "Bus error" in how:
            way = "shared memory ran out: enlarge /dev/shm (docker run --shm-size=8g) or set train.workers=0"
        else:
            way = "memory may have run out: set fewer train.workers, or 0 to see an error of theirs"
        return f"data worker {pids} {how}; {way}"
    if _PEER.search(text):
        return "another rank has ended (its own lines say why)"
    return None
