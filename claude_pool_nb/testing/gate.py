"""A gate at which answers wait, so that a test can act in the middle of one without sleeping.

Invariant: an answer whose client has left no longer waits; it is neither counted nor released.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Gate:
    """Open, or closed at one point of every answer; answers pass on one loop, anyone may open and close.

    Example:
        >>> gate = Gate()
        >>> gate.hold(after_chunks=2)
        >>> gate.point, gate.held
        (2, 0)
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._point: int | None = None
        self._held: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def point(self) -> int | None:
        """After how many deltas answers wait; ``None`` while the gate is open."""
        return self._point

    @property
    def held(self) -> int:
        """How many answers wait now."""
        with self._changed:
            return len(self._held)

    def hold(self, after_chunks: int = 0) -> None:
        """Close the gate after this many deltas.

        Example:
            >>> Gate().hold()
        """
        with self._changed:
            self._point = after_chunks

    def release(self, count: int | None = None) -> None:
        """Let the ``count`` longest held go on and stay closed; without a count let all go, and open.

        Example:
            >>> Gate().release()
        """
        with self._changed:
            if count is None:
                self._point = None
            going = [self._held.popleft() for _ in range(len(self._held) if count is None else count) if self._held]
        for loop, future in going:
            loop.call_soon_threadsafe(_resolve, future)

    def wait_for_held(self, wanted: int, timeout_s: float) -> None:
        """Wait until that many answers wait here.

        Raises:
            TimeoutError: They did not.

        Example:
            >>> Gate().wait_for_held(0, timeout_s=1)
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= wanted, timeout_s):
                raise TimeoutError(f"waited {timeout_s:g} s for {wanted} held answers; there are {len(self._held)}")

    async def enter(self) -> None:
        """Wait until released, if the gate is closed.

        Example:
            >>> asyncio.run(Gate().enter())
        """
        with self._changed:
            if self._point is None:
                return
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            place = (loop, future)
            self._held.append(place)
            self._changed.notify_all()
        try:
            await future
        finally:
            with self._changed:
                if place in self._held:
                    self._held.remove(place)


def _resolve(future: asyncio.Future[None]) -> None:
    """Let one held answer go, unless its client has left."""
    if not future.done():
        future.set_result(None)
