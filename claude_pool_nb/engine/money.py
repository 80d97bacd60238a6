"""What this pool has committed to a budget that other pools may share.

The ledger's sums are of its last commit, and the core's own part may be ahead of them. The core subtracts its own part
to know the others'; so every sum it is told of is brought up to what it has decided since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from claude_pool_nb import events
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.records import BudgetRecord
from claude_pool_nb.store.ledger import WriteResult


class SharedBudget:
    """The ledger's word on the budget, and this pool's part in it."""

    def __init__(self, state: PoolState, budget: BudgetRecord) -> None:
        self.record = budget
        self._state = state
        self._begin()

    def _begin(self) -> None:
        self._spent_nano = 0
        self._reserved_nano = 0
        self._reserved: dict[tuple[str, int], int] = {}
        self._others_seen: tuple[int, int | None, int, int] | None = None

    def replaced(self, budget: BudgetRecord) -> None:
        """A new budget counts from now; what runs is still booked to the old one."""
        self._begin()
        self.record = budget

    def book(self, committed: Iterable[events.Event], done: WriteResult) -> None:
        """Take over committed events."""
        for event in committed:
            match event:
                case events.TaskRunning() if (event.task_id, event.attempt) not in done.refused:
                    self._add(event.task_id, event.attempt, event.reserved_nano)
                case events.ReservationExtended() if (event.task_id, event.attempt) not in done.refused_extensions:
                    self._add(event.task_id, event.attempt, event.added_nano)
                case events.AttemptEnded():
                    self._reserved_nano -= self._reserved.pop((event.task_id, event.attempt), 0)
                    self._spent_nano += event.result.cost_nano

    def _add(self, task_id: str, attempt: int, nano: int) -> None:
        self._reserved_nano += nano
        self._reserved[task_id, attempt] = self._reserved.get((task_id, attempt), 0) + nano

    def as_core_sees(self, *, less_nano: int = 0) -> BudgetRecord:
        """The ledger's sums, brought up to what the core has decided since; less what was refused."""
        return replace(
            self.record,
            spent_nano=self.record.spent_nano - self._spent_nano + self._state.own_spent_nano,
            reserved_nano=self.record.reserved_nano - self._reserved_nano + self._state.own_reserved_nano - less_nano,
        )

    def see(self, budget: BudgetRecord) -> bool:
        """Take the ledger's word; true if other pools have changed anything."""
        self.record = budget
        others = (
            budget.id,
            budget.limit_nano,
            budget.spent_nano - self._spent_nano,
            budget.reserved_nano - self._reserved_nano,
        )
        changed = others != self._others_seen
        self._others_seen = others
        return changed
