"""Two busy cores: one thread per test process keeps tiny tensors fast. And a session that is over, ends."""

import os
from collections.abc import Generator

import pytest
import torch

torch.set_num_threads(1)

ENDED = pytest.StashKey[int]()


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Remember how the session ended, after everybody has had a say."""
    yield
    session.config.stash[ENDED] = int(session.exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave at once: nobody need wait for the pools and threads of libraries that the tests have woken."""
    if ENDED in config.stash:
        config.get_terminal_writer().flush()
        os._exit(config.stash[ENDED])
