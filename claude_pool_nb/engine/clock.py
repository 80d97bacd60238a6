"""The time of day as the core needs it: it never goes back.

A laptop that wakes up, or a machine whose clock is set, jumps. Forward is harmless: what waited is due. Backward, a
task that waits for an instant would wait for as long as the clock was set back; so time then goes on from where it was.
"""

from __future__ import annotations

import time
from dataclasses import replace

from claude_pool_nb.core.inputs import Input


class Clock:
    """Unix seconds that only grow.

    Example:
        >>> clock = Clock()
        >>> clock.at(1000.0)
        1000.0
        >>> 1000.0 <= clock.at(900.0) < 1001.0
        True
    """

    __slots__ = ("_last", "_seen")

    def __init__(self) -> None:
        self._last = float("-inf")
        self._seen = time.monotonic()

    def at(self, wall: float) -> float:
        """The time when the system's clock says `wall`."""
        seen = time.monotonic()
        self._last = wall if wall >= self._last else self._last + (seen - self._seen)
        self._seen = seen
        return self._last

    def forward(self, told: Input) -> Input:
        """An input whose time is not before that of an earlier one."""
        at = self.at(told.at)
        return told if at == told.at else replace(told, at=at)
