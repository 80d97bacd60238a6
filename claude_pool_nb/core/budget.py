"""What a task may cost, what is held back for it, and what was spent.

Invariants: a reservation is given back exactly once, with the cost booked in its place; `fits` is True only if spent
and reserved and the new amount together stay within the limit (inclusive). The ledger has the last word: what it says
of other pools that share the budget replaces what was believed of them, and what it refuses was never granted.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from claude_pool_nb.records import BudgetRecord, usd

WINDOW = 200
"""Settled costs that are remembered per profile and model."""
WARN_NUM, WARN_DEN = 4, 5
WARN_SHARE = WARN_NUM / WARN_DEN
"""The share of the limit at which a person is warned, once; in whole numbers where money is."""


def round_up(nano: int) -> int:
    """Round up to two significant digits: close estimates then share one place in the queue.

    Example:
        >>> round_up(1_234_567), round_up(1_200_000), round_up(7)
        (1300000, 1200000, 7)
    """
    unit: int = 10 ** max(0, len(str(nano)) - 2)
    return -(-nano // unit) * unit


def money(nano: int) -> str:
    """Nanodollars as text: cents where that says it, more digits where it does not.

    Example:
        >>> money(5_000_000_000), money(310_000_000), money(1_100_000), money(0)
        ('$5.00', '$0.31', '$0.0011', '$0.00')
    """
    dollars = usd(nano)
    if nano % 10_000_000 == 0 or abs(dollars) >= 100:
        return f"${dollars:.2f}"
    text = f"{dollars:.6f}".rstrip("0")
    return f"${text}" if text.strip("-") != "0." else f"${dollars:.2g}"


class Estimate:
    """The 90th percentile of what tasks of one profile and model did cost lately.

    Example:
        >>> seen = Estimate()
        >>> for cost in range(1, 11):
        ...     seen.add(cost)
        >>> seen.nano
        9

    An answer that cost nothing was played from a tape, and tells nothing of what a model takes: it counts only as long
    as nothing else is known.
    """

    __slots__ = ("_costs", "_sorted", "nano", "unknown_in_flight")

    def __init__(self) -> None:
        self._costs: deque[int] = deque()
        self._sorted: list[int] = []
        self.nano: int | None = None
        """The estimate; None until one task has settled."""
        self.unknown_in_flight = 0
        """Attempts that run without anybody knowing what they may cost."""

    def add(self, cost_nano: int) -> None:
        """Remember what a task cost."""
        costs, ordered = self._costs, self._sorted
        if self.nano is not None and (self.nano > 0) is not (cost_nano > 0):
            if not cost_nano:
                return
            costs.clear()
            ordered.clear()
        if len(costs) >= WINDOW:
            del ordered[bisect_left(ordered, costs.popleft())]
        costs.append(cost_nano)
        insort(ordered, cost_nano)
        self.nano = ordered[(9 * len(ordered) + 9) // 10 - 1]


class Budget:
    """One pool's view of the budget it draws on.

    Example:
        >>> budget = Budget(BudgetRecord(id=1, name="demo", limit_nano=100))
        >>> budget.fits(100), budget.fits(101)
        (True, False)
        >>> budget.reserve(60)
        >>> budget.settle(60, 50)
        >>> budget.spent_nano, budget.reserved_nano, budget.fits(50)
        (50, 0, True)
    """

    __slots__ = (
        "_estimates",
        "_unconfirmed",
        "limit_nano",
        "others_reserved",
        "others_spent",
        "own_reserved",
        "own_spent",
        "record",
        "strict",
        "warned_limit",
    )

    def __init__(
        self,
        record: BudgetRecord | None,
        *,
        strict: bool = False,
        history: Iterable[tuple[str, str | None, int]] = (),
    ) -> None:
        self.record = record
        self.strict = strict
        self.limit_nano = record.limit_nano if record else None
        self._unconfirmed = False  # the limit was moved here, and the ledger has not said so yet
        self.own_spent = 0
        self.own_reserved = 0
        self.others_spent = record.spent_nano if record else 0
        self.others_reserved = record.reserved_nano if record else 0
        self.warned_limit: int | None = None
        self._estimates: dict[tuple[str, str | None], Estimate] = {}
        for profile, model, cost_nano in history:
            self.estimate(profile, model).add(cost_nano)

    @property
    def spent_nano(self) -> int:
        """Booked, by this pool and the others."""
        return self.others_spent + self.own_spent

    @property
    def reserved_nano(self) -> int:
        """Held back for running attempts, by this pool and the others."""
        return self.others_reserved + self.own_reserved

    @property
    def room_nano(self) -> int | None:
        """What may still be reserved (below zero if more was spent than there was); None without a limit."""
        if self.limit_nano is None:
            return None
        return self.limit_nano - self.others_spent - self.own_spent - self.others_reserved - self.own_reserved

    def fits(self, amount_nano: int) -> bool:
        """True if that much may be reserved now."""
        room = self.room_nano
        return room is None or amount_nano <= room

    def may_fit_later(self, amount_nano: int) -> bool:
        """True if that much would fit once every other pool gave its reservations back unspent."""
        room = self.room_nano
        return room is not None and self.others_reserved > 0 and amount_nano <= room + self.others_reserved

    def estimate(self, profile: str, model: str | None) -> Estimate:
        """What is known of the cost of tasks of that profile and model."""
        key = (profile, model)
        found = self._estimates.get(key)
        if found is None:
            found = self._estimates[key] = Estimate()
        return found

    def reserve(self, amount_nano: int) -> None:
        """Hold back that much."""
        self.own_reserved += amount_nano

    def claim(self, amount_nano: int) -> None:
        """Of what the ledger says is reserved, that much is this pool's own."""
        self.own_reserved += amount_nano
        self.others_reserved -= amount_nano

    def unreserve(self, amount_nano: int) -> None:
        """Give back what the ledger refused to hold."""
        self.own_reserved -= amount_nano

    def settle(self, reserved_nano: int, cost_nano: int) -> None:
        """Give a reservation back and book what was spent."""
        self.own_reserved -= reserved_nano
        self.own_spent += cost_nano

    def extension(self, reserved_nano: int, cost_nano: int) -> int | None:
        """What to add to a reservation that was outgrown: half of it where there is room, else what is needed.

        Returns:
            None if there is not even room for what was spent already.
        """
        needed = cost_nano - reserved_nano
        room = self.room_nano
        if room is None:
            return max(needed, reserved_nano // 2)
        return None if needed > room else min(max(needed, reserved_nano // 2), room)

    def read(self, record: BudgetRecord) -> None:
        """Take what the ledger says; this pool's own part is subtracted, and may be ahead of the ledger's."""
        if self.record is None or record.id != self.record.id:  # a fresh budget counts from its own start
            self.own_spent = 0
            self._unconfirmed = False
        if self._unconfirmed and record.limit_nano == self.limit_nano:
            self._unconfirmed = False
        if not self._unconfirmed:
            self.limit_nano = record.limit_nano
        self.record = record
        self.others_spent = max(0, record.spent_nano - self.own_spent)
        self.others_reserved = max(0, record.reserved_nano - self.own_reserved)

    def move(self, limit_nano: int | None) -> None:
        """Move the wall from here; older news of the ledger does not move it back."""
        self._unconfirmed = True
        self.limit_nano = limit_nano

    def warning_due(self) -> bool:
        """True once per limit, when four fifths of it are spent."""
        limit = self.limit_nano
        if limit is None or self.warned_limit == limit or self.spent_nano * WARN_DEN < limit * WARN_NUM or limit == 0:
            return False
        self.warned_limit = limit
        return True

    def picture(self) -> BudgetRecord | None:
        """The budget as this pool sees it now."""
        if self.record is None and self.limit_nano is None:
            return None
        base = self.record or BudgetRecord(id=0, name="")
        return replace(base, limit_nano=self.limit_nano, spent_nano=self.spent_nano, reserved_nano=self.reserved_nano)

    def __repr__(self) -> str:
        text = f"{money(self.spent_nano)} spent"
        if self.reserved_nano:
            text += f", {money(self.reserved_nano)} reserved"
        return text if self.limit_nano is None else f"{text} of {money(self.limit_nano)}"
