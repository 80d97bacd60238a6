"""One task warms the prompt cache, the others read it.

Invariant: while the answer of the first task of a cold key has not begun, no other task with that key is started. A
key is warm for `WARM_S` seconds after an answer with it last began, a little less than the cache itself keeps it.
"""

from __future__ import annotations

WARM_S = 240.0
"""The API keeps a prefix for 300 s after its last use."""


class Gate:
    """Whether tasks that share a long prefix may start.

    Example:
        >>> gate = Gate()
        >>> gate.is_closed(0.0)
        False
        >>> gate.start("r1.1", 0.0)
        >>> gate.is_closed(1.0)
        True
        >>> gate.begin(2.0)
        >>> gate.is_closed(3.0)
        False
    """

    __slots__ = ("leader", "warm_at")

    def __init__(self) -> None:
        self.leader: str | None = None
        self.warm_at = float("-inf")

    def is_closed(self, at: float) -> bool:
        """True while the first task goes alone."""
        return self.leader is not None and at - self.warm_at >= WARM_S

    def start(self, task_id: str, at: float) -> None:
        """A task with the key starts: the first of a cold key is the one that the others wait for."""
        if at - self.warm_at >= WARM_S:
            self.leader = task_id

    def begin(self, at: float) -> None:
        """An answer with the key began: its prefix is in the cache now."""
        self.warm_at = at
        self.leader = None

    def end(self, task_id: str) -> None:
        """A task with the key is over; if it was the first and never began, the next goes first."""
        if self.leader == task_id:
            self.leader = None
