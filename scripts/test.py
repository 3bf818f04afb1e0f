"""Everything that must hold: lint, format, types, tests. One command, from a clean clone.

python3 scripts/test.py                    the fast suite, with its coverage
python3 scripts/test.py --slow             the slow tests too
python3 scripts/test.py -k resume          other arguments go to pytest, and nothing is counted
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from environment import ROOT, enter

FLOOR = 90  # per cent of medgan's lines that the whole suite must run


def main(arguments: list[str]) -> int:
    """Run the checks in order, stop at the first that fails, and return its exit code."""
    marks = ["-m", ""] if "--slow" in arguments else []
    words = [word for word in arguments if word != "--slow"]
    counted = [] if words else ["--cov", "--cov-report=term", f"--cov-fail-under={FLOOR}"]
    checks = (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pytest", "--durations=10", *marks, *counted, *words],
    )
    for check in checks:
        print(f"== {' '.join(check)}", flush=True)
        code = alone([sys.executable, "-m", *check])
        if code:
            return code
    return 0


def alone(command: list[str]) -> int:
    """The exit code of a command, which leaves no process behind that would hold on to this one's output."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        return process.wait(10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    enter()
    raise SystemExit(main(sys.argv[1:]))
