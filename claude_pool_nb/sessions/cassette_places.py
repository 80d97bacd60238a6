"""Whose turn it is on a tape: which of several answers to the same request a task gets.

Invariants: each answer is given to one task, until all have been; the attempts of a task stay together and in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from claude_pool_nb.sessions.cassette_entry import Entry
from claude_pool_nb.sessions.cassette_file import Group


@dataclass(slots=True)
class Place:
    """Where a task is on the tape."""

    number: int
    """Which of the tasks that asked the same, from 0."""
    attempts: list[Entry]
    """What that one got."""
    done: int = 0
    """How many of its attempts are over."""
    starts_over: bool = False
    """True if the tape had no more tasks of that request, and began again."""


class Line:
    """The tasks that asked the same when the tape was recorded, waiting to be played.

    Tasks of a run do not ask in their order: which of identical ones has which answer is known by their numbers.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._starts_over = False
        self._fill()

    def _fill(self) -> None:
        self._left = dict.fromkeys(range(len(self._group)))
        self._by_number: dict[int | None, list[int]] = {}
        for place in reversed(range(len(self._group))):
            self._by_number.setdefault(self._group[place][0].task, []).append(place)

    @property
    def is_empty(self) -> bool:
        """True if all have been played."""
        return not self._left

    def next(self, number: int | None) -> Place:
        """The place of a task with that number in its run; when all were played it starts over."""
        if self.is_empty:
            self._starts_over = True
            self._fill()
        alike = self._by_number.get(number, [])
        while alike and alike[-1] not in self._left:
            alike.pop()
        place = alike.pop() if alike else next(iter(self._left))
        del self._left[place]
        return Place(place, self._group[place], starts_over=self._starts_over)


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that is on the tape, and whose turn it is."""

    entry: Entry
    """The answer."""
    place: Place
    """Whose turn it is."""

    @property
    def starts_over(self) -> bool:
        """True if the request was asked more often than it was recorded."""
        return self.place.starts_over


def number_in_run(task_id: str) -> int | None:
    """The number of a task in its run.

    Example:
        >>> number_in_run("r12.3"), number_in_run("")
        (3, None)
    """
    number = task_id.rpartition(".")[2]
    return int(number) if number.isdecimal() else None
