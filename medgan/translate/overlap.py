"""Volume after volume: while the networks compute one, the next is read and the one before is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Given = TypeVar("Given")
Result = TypeVar("Result")


def overlapped(
    items: Sequence[Item], read: Callable[[Item], Given], compute: Callable[[Item, Given], Callable[[], Result]]
) -> Iterator[Future[Result]]:
    """What becomes of each item, in order: a future that holds its result, or the error that it met on the way.

    At most one item is read ahead, and at most one is being written. Whatever ends the loop, what is being written is
    written to its end. What is no error but an end, such as an interrupt, ends the loop wherever it comes.

    Args:
        items: to be worked on.
        read: fetches what an item is computed from, in a thread of its own.
        compute: computes it, in the caller's thread; returns what writes it, which another thread calls.
    """
    with ThreadPoolExecutor(1, "reading") as reader, ThreadPoolExecutor(1, "writing") as writer:
        behind: Future[Result] | None = None
        ahead = [reader.submit(read, item) for item in items[:1]]
        for number, item in enumerate(items):
            given = ahead.pop()
            wait([given])
            ahead += [reader.submit(read, following) for following in items[number + 1 : number + 2]]
            write = _computed(compute, item, given)
            del given  # and its memory with it
            if behind:
                yield _done(behind)
            behind = writer.submit(write)
            del write
        if behind:
            yield _done(behind)


def _done(future: Future[Result]) -> Future[Result]:
    """A future once it is done; raises what is no error of its item."""
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return future


def _computed(
    compute: Callable[[Item, Given], Callable[[], Result]], item: Item, given: Future[Given]
) -> Callable[[], Result]:
    """What writes an item; where something failed, what raises its error."""
    try:
        return compute(item, given.result())
    except Exception as error:
        failure = error

        def fail() -> Result:
            raise failure

        return fail
