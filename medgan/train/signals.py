"""SIGTERM and SIGUSR1, by which clusters announce that they want their machine back: save, then end."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, Self

WATCHED = ("SIGTERM", "SIGUSR1")


class Stopped(SystemExit):
    """The training was asked to stop, and has saved where it stands: the process ends with exit code 0."""

    def __init__(self, step: int, num_steps: int, name: str, is_told: bool) -> None:
        super().__init__(0)
        self.step = step
        if is_told:
            name = name or "a signal to another rank"
            line = f"{name}: saved at step {step} of {num_steps}; run the same command again to go on"
            print(f"medgan: {line}", file=sys.stderr)


class StopRequest:
    """Notes a signal while it is entered, instead of ending by it; the loop asks after every step.

    Attributes:
        name: of the signal that came; empty while none has.
    """

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in WATCHED:
                if hasattr(signal, name):
                    number = getattr(signal, name)
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.name = signal.Signals(number).name
