"""Exit codes: a mistake of the user's is one line, a bug is a traceback."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer


def guarded(action: Callable[[], int | None]) -> int:
    """Run an action and return its exit code: 0 fine, 1 the input is wrong, 2 a bug, 130 interrupted.

    A mistake of the user's is told on stderr without a traceback.
    """
    try:
        code = action() or 0
    except typer.TyperException as error:
        return _refuse(f"{error.format_message().rstrip('.')}; see {_command(error)} --help")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        line = _mistake(error)
        if line is not None:
            return _refuse(line)
        traceback.print_exc()
        print("medgan: this is a bug; please report it with the lines above", file=sys.stderr)
        return 2
    if code == 130:
        print("medgan: interrupted; the same command goes on where it can", file=sys.stderr)
    return code


def _mistake(error: Exception) -> str | None:
    """The line for an error that the user can mend, or None for a bug."""
    from medgan.config import InputError

    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return (
            "out of memory; lower translate.memory_gb, or, in a new run folder, train.patch_size, train.batch_size or "
            "the networks' channels"
        )
    if isinstance(error, OSError) and error.errno in (
        errno.EACCES,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
    ):
        return f"{error.filename or 'disk'}: {error.strerror}; make room or name another place"
    return None


def _refuse(line: str) -> int:
    print(f"medgan: {line}", file=sys.stderr)
    return 1


def _command(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else "medgan"
