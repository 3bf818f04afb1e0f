"""Reading, computing and writing at the same time: in order, one ahead at most, and no error lost."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from medgan.translate.overlap import overlapped

SECONDS = 30.0  # until something that never comes is given up


def outcomes(futures: list[Future[str]]) -> list[str]:
    return [type(error).__name__ if (error := done.exception()) else done.result() for done in futures]


def test_the_next_is_read_and_the_last_is_written_while_one_is_computed() -> None:
    reading = [threading.Event() for _ in range(3)]
    writing = [threading.Event() for _ in range(3)]
    computed = [threading.Event() for _ in range(3)]
    read_at_once: list[int] = []

    def read(item: int) -> int:
        read_at_once.append(item)
        reading[item].set()
        return item

    def compute(item: int, given: int) -> Callable[[], str]:
        assert item == given
        if item < 2:
            assert reading[item + 1].wait(SECONDS), "the next is not read"
        if item:
            assert writing[item - 1].wait(SECONDS), "the one before is not written"
        assert max(read_at_once) <= item + 1, "more than one is read ahead"
        computed[item].set()

        def write() -> str:
            writing[item].set()
            if item < 2:
                assert computed[item + 1].wait(SECONDS), "the next is not computed meanwhile"
            return f"written {item}"

        return write

    assert outcomes(list(overlapped(range(3), read, compute))) == ["written 0", "written 1", "written 2"]


def test_an_error_is_its_own_item_s_wherever_it_happens() -> None:
    def read(item: str) -> str:
        if item == "unreadable":
            raise OSError(item)
        return item

    def compute(item: str, given: str) -> Callable[[], str]:
        if item == "empty":
            raise ValueError(item)

        def write() -> str:
            if item == "full":
                raise MemoryError(item)
            return item

        return write

    items = ["a", "unreadable", "b", "empty", "full", "c"]
    assert outcomes(list(overlapped(items, read, compute))) == ["a", "OSError", "b", "ValueError", "MemoryError", "c"]
    assert outcomes(list(overlapped([], read, compute))) == []


@pytest.mark.filterwarnings("error")
def test_what_is_being_written_is_written_to_its_end_when_the_user_interrupts() -> None:
    written: list[int] = []
    is_interrupted = threading.Event()

    def compute(item: int, given: int) -> Callable[[], None]:
        if item == 1:
            is_interrupted.set()
            raise KeyboardInterrupt

        def write() -> None:
            assert is_interrupted.wait(SECONDS)
            written.append(item)

        return write

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(4), lambda item: item, compute))
    assert written == [0]


def test_an_interrupt_of_the_writing_ends_the_rest() -> None:
    computed: list[int] = []

    def compute(item: int, given: int) -> Callable[[], None]:
        computed.append(item)

        def write() -> None:
            raise KeyboardInterrupt

        return write

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(4), lambda item: item, compute))
    assert computed == [0, 1]
