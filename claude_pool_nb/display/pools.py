"""The pool's status card, and its budget in a line.

Invariants: a card is a picture of one moment and says what backend it is, whose money it spends and what has to be
known (paused, warnings); text and HTML say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from claude_pool_nb.display import html
from claude_pool_nb.display.text import count, money
from claude_pool_nb.records import BudgetRecord, PoolStatus


@dataclass(frozen=True, slots=True)
class PoolCard:
    """What the status card of a pool shows.

    Example:
        >>> PoolCard(PoolStatus(pool_id="p1", backend="demo", slots={"idle": 4})).title
        'pool p1 · demo · 4 slots'
    """

    status: PoolStatus
    """The pool at this moment."""
    notice: str = ""
    """What the backend says of itself: a demo, notional dollars ..."""
    profile: str = ""
    """Name of the set of session options."""
    model: str = ""
    """The model asked for, if one is."""
    store: str = ""
    """Where the ledger is."""
    warnings: Sequence[str] = ()
    """What a person should know."""

    @property
    def title(self) -> str:
        """The first line."""
        total = sum(number for state, number in self.status.slots.items() if state != "stopped")
        parts = [f"pool {self.status.pool_id}", self.status.backend, count(total, "slot")]
        if self.status.closed:
            parts.append("stopped")
        elif self.status.paused:
            parts.append("paused")
        return " · ".join(parts)


def budget_line(budget: BudgetRecord | None) -> str:
    """A budget in one line.

    Example:
        >>> budget_line(BudgetRecord(1, "demo", limit_nano=5_000_000_000, spent_nano=310_000_000))
        "$0.3100 spent of $5.00 (budget 'demo', since 1970-01-01)"
    """
    if budget is None:
        return "no budget"
    spent = f"{money(budget.spent_nano)} spent"
    reserved = f", {money(budget.reserved_nano)} reserved" if budget.reserved_nano else ""
    limit = ", no limit" if budget.limit_nano is None else f" of {money(budget.limit_nano)}"
    since = datetime.fromtimestamp(budget.since_at, UTC).strftime("%Y-%m-%d")
    play = ", play money" if budget.play_money else ""
    return f"{spent}{reserved}{limit} (budget {budget.name!r}, since {since}{play})"


def warming_line(status: PoolStatus) -> str:
    """Why tasks wait although slots are free: one of them goes first; empty if none does.

    Example:
        >>> warming_line(PoolStatus("p1", "claude", warming=("r1.1",)))
        'warming the prompt cache: r1.1 goes first, the others read what it writes'
    """
    if not status.warming:
        return ""
    first = ", ".join(status.warming)
    verb, written = ("goes", "it writes") if len(status.warming) == 1 else ("go", "they write")
    return f"warming the prompt cache: {first} {verb} first, the others read what {written}"


def _states(numbers: Mapping[str, int]) -> str:
    """`3 completed, 1 failed`, in the order given, without zeros."""
    return ", ".join(f"{number:,} {state}" for state, number in numbers.items() if number) or "none"


def _rows(card: PoolCard) -> list[tuple[str, str]]:
    status = card.status
    rows = [("slots", _states(status.slots)), ("tasks", _states(status.tasks)), ("budget", budget_line(status.budget))]
    rows += [("waiting", warming_line(status))] if status.warming else []
    options = " · ".join(part for part in (card.profile and f"profile {card.profile}", card.model) if part)
    rows += [("sessions", options)] if options else []
    rows += [("ledger", card.store)] if card.store else []
    rows += [("paused", status.paused)] if status.paused else []
    rows += [("note", card.notice)] if card.notice else []
    return rows + [("warning", warning) for warning in card.warnings]


def pool_text(card: PoolCard) -> str:
    """The card as text.

    Example:
        >>> print(pool_text(PoolCard(PoolStatus(pool_id="p1", backend="demo", slots={"idle": 4}))))
        pool p1 · demo · 4 slots
          slots   4 idle
          tasks   none
          budget  no budget
    """
    rows = _rows(card)
    width = max(len(name) for name, _ in rows)
    return "\n".join([card.title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def pool_html(card: PoolCard) -> str:
    """The card as static HTML.

    Example:
        >>> "4 slots" in pool_html(PoolCard(PoolStatus(pool_id="p1", backend="demo", slots={"idle": 4})))
        True
    """
    volatile_rows = {"tasks", "budget", "ledger", "slots", "waiting"}
    rows = [
        (name, html.volatile(value) if name in volatile_rows else html.escape(value)) for name, value in _rows(card)
    ]
    body = f"<b>{html.volatile(card.title)}</b>{html.pairs(rows)}"
    return html.box(body, label="status of the pool")
