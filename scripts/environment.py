"""The project's own virtual environment: made once, refreshed when the pins change, entered by the other scripts.

Needs nothing but Python 3.11 and its standard library. The environment is `.venv` in the project's root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.sha256"


STARTED = "MEDGAN_STARTED"  # environment variable: when the command was given, seconds


def enter() -> None:
    """Return at once inside the environment; outside it, make it if need be, run the calling script in it, and exit.

    Exits with the script's own code, or with 1 and one line where no environment can be made.
    """
    os.environ.setdefault(STARTED, str(time.time()))
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if sys.version_info < (3, 11):  # noqa: UP036 (run by whatever python3 is)
        raise SystemExit(f"Python {sys.version.split()[0]} is too old; run this with Python 3.11 or newer")
    make()
    try:
        code = subprocess.run([str(PYTHON), *sys.argv], check=False).returncode
    except KeyboardInterrupt:
        code = 130
    raise SystemExit(code)


def make() -> None:
    """Create the environment and install the pinned packages, unless exactly these are installed already."""
    wanted = fingerprint()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text(encoding="ascii") == wanted:
        return
    if not PYTHON.exists():
        print(f"Making the environment {VENV.name}", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise SystemExit(
                "cannot make the environment; install Python's venv (Debian, Ubuntu: apt install python3-venv)"
            )
    print("Installing the pinned packages (a few minutes the first time)", flush=True)
    install = [str(PYTHON), "-m", "pip", "install", "-c", "constraints.txt", "-e", ".[dev]"]
    if subprocess.run(install, cwd=ROOT, check=False).returncode:
        raise SystemExit(
            "the packages cannot be installed; pip says above which; mend it and run the same command again"
        )
    STAMP.write_text(wanted, encoding="ascii")


def fingerprint() -> str:
    """SHA-256 of everything that decides what is installed: the pins, the dependencies and this Python."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("constraints.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()
