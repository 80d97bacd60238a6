"""Waiting in tests: until something holds, and how long what happens at once may take.

How fast things are is measured in benchmarks/. A test only tells "at once" from what it rules out: a hang, the CLI's
own retries, a command of a minute. So its limit can be wide, and a machine that others keep busy fails no test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROMPTLY_S = 15.0
"""More than anything here takes on a busy machine, and less than what would be waited for in vain."""


def wait_until(condition: Callable[[], bool], timeout_s: float = PROMPTLY_S) -> None:
    """Wait for something that another thread or process does and tells nobody."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {timeout_s:g} s"
        time.sleep(0.005)


async def until(condition: Callable[[], bool], timeout_s: float = PROMPTLY_S) -> None:
    """Wait in a coroutine for something that tells nobody."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {timeout_s:g} s"
        await asyncio.sleep(0.005)


@contextmanager
def promptly(what: str = "it") -> Iterator[None]:
    """Hold that a block does not wait for what it need not wait for."""
    began = time.monotonic()
    yield
    took_s = time.monotonic() - began
    assert took_s < PROMPTLY_S, f"{what} took {took_s:.1f} s"
