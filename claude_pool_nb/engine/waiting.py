"""Who waits for a run, a task or the end of the pool.

Invariants: whoever waits is woken after the commit of what was waited for; nobody waits for what will not come: when
the pool ends, pauses itself or cannot write, those whose work is stuck get the reason as an error.
"""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable, Iterable

from claude_pool_nb.errors import PoolError

WhyNot = Callable[[str], PoolError | None]
"""Why waiting for a run or task of that id would be for ever; None if it would not."""


class Waiters:
    """Futures by the id of what they wait for."""

    def __init__(self, why_not: WhyNot) -> None:
        self._why_not = why_not
        self._waiting: dict[str, list[cf.Future[None]]] = {}
        self._closing: list[cf.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, key: str) -> cf.Future[None]:
        """A future for a run or task that is not final; it fails at once if it would wait for ever."""
        future: cf.Future[None] = cf.Future()
        error = self._why_not(key)
        if error is not None:
            future.set_exception(error)
        else:
            self._waiting.setdefault(key, []).append(future)
        return future

    def add_closing(self, future: cf.Future[None]) -> None:
        """Somebody waits for the end of the pool."""
        self._closing.append(future)

    def told(self, keys: Iterable[str]) -> None:
        """These are final, and in the ledger."""
        for key in keys:
            resolve(self._waiting.pop(key, ()))

    def wake_stuck(self) -> None:
        """Raise the reason in whoever waits for what will not come."""
        for key in tuple(self._waiting):
            if self._why_not(key) is None:
                continue
            for future in self._waiting.pop(key):
                error = self._why_not(key)  # one for each: a raised error collects its own traceback
                if not future.done() and error is not None:
                    future.set_exception(error)

    def closed(self) -> None:
        """The pool is over."""
        self.wake_stuck()
        waiting, self._closing = self._closing, []
        resolve(waiting)


def resolve(futures: Iterable[cf.Future[None]]) -> None:
    """Wake those that still wait."""
    for future in futures:
        if not future.done():
            future.set_result(None)
