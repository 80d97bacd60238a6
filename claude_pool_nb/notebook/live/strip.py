"""All tasks as a strip of letters, one per task or, where there are many, one per group of tasks.

Invariants: at most `MAX_CELLS` letters however many tasks; a change of one task costs the same whatever their number;
every task is counted in exactly one cell.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby

MAX_CELLS = 200
"""More tasks than this are told in groups."""
LETTERS = {
    "completed": "D",
    "running": "R",
    "pending": "Q",
    "waiting": "W",
    "pending_review": "V",
    "failed": "F",
    "cancelled": "C",
    "interrupted": "I",
}
"""The letter of each state; `f` is a group of which some failed."""
WORDS = {
    "completed": "done",
    "running": "running",
    "pending": "queued",
    "waiting": "waiting",
    "pending_review": "to review",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}
"""How each state is called in the view."""
SOME_FAILED = "f"
"""A group that is over, of which less than half failed."""


class Strip:
    """The states of tasks, in their order.

    Example:
        >>> strip = Strip()
        >>> for state in ("completed", "running", "pending"):
        ...     strip.add(state)
        >>> strip.letters(), strip.tasks_per_cell
        ('DRQ', 1)
        >>> strip.change(1, "running", "failed")
        >>> strip.runs()
        [('D', 1), ('F', 1), ('Q', 1)]
    """

    def __init__(self) -> None:
        self.tasks_per_cell = 1
        self._cells: list[Counter[str]] = []
        self._letters: list[str] = []
        self._stale: set[int] = set()
        self._total = 0

    def add(self, state: str) -> None:
        """One more task, behind all others."""
        if self._total >= MAX_CELLS * self.tasks_per_cell:
            self._widen()
        cell = self._total // self.tasks_per_cell
        self._total += 1
        if cell == len(self._cells):
            self._cells.append(Counter())
            self._letters.append("")
        self._cells[cell][state] += 1
        self._stale.add(cell)

    def _widen(self) -> None:
        """Twice as many tasks in a cell."""
        self.tasks_per_cell *= 2
        self._cells = [sum(self._cells[at : at + 2], Counter()) for at in range(0, len(self._cells), 2)]
        self._letters = [""] * len(self._cells)
        self._stale = set(range(len(self._cells)))

    def change(self, index: int, before: str, after: str) -> None:
        """The task at this place, counted from 0, left one state for another."""
        cell = index // self.tasks_per_cell
        counts = self._cells[cell]
        counts[before] -= 1
        counts[after] += 1
        self._stale.add(cell)

    def letters(self) -> str:
        """One letter per cell."""
        for cell in self._stale:
            self._letters[cell] = _letter(self._cells[cell])
        self._stale.clear()
        return "".join(self._letters)

    def runs(self) -> list[tuple[str, int]]:
        """The letters, equal neighbours taken together: letter and how many."""
        return [(letter, len(list(same))) for letter, same in groupby(self.letters())]


def _letter(counts: Counter[str]) -> str:
    """What a cell is: at work if any of it is, else what most of it is; failures are never hidden."""
    if counts["running"] > 0:
        return LETTERS["running"]
    rest = {state: counts[state] for state in ("pending", "waiting", "pending_review") if counts[state] > 0}
    if rest:
        return LETTERS[max(rest, key=lambda state: rest[state])]
    most = max(LETTERS, key=lambda state: counts[state])
    return SOME_FAILED if counts["failed"] > 0 and most != "failed" else LETTERS[most]
