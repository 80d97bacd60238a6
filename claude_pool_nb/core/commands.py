"""What the core asks for. The engine performs the commands of one `handle` call in their order.

`Write` comes first and is committed before any `Dispatch` or `Tell` of the same call is performed: an attempt and its
reservation are on disk before the prompt is sent, a finished attempt's result and cost before the caller is told.
The other commands do not wait for the commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from claude_pool_nb.events import Event
from claude_pool_nb.records import StopReason


@dataclass(frozen=True, slots=True)
class Command:
    """Something to perform."""


@dataclass(frozen=True, slots=True)
class Write(Command):
    """Commit these events, in their order, in one transaction; then hand them to whoever watches."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class OpenSlot(Command):
    """Open a session for a slot, reset it and say SlotOpened (or SlotLost)."""

    slot_id: str
    epoch: int
    """Every open gets a new number: what an older session says is ignored."""
    delay_s: float = 0.0
    """Wait first: the slot was lost before."""


@dataclass(frozen=True, slots=True)
class CloseSlot(Command):
    """Close a slot's session and say SlotClosed."""

    slot_id: str
    epoch: int
    kill: bool = False


@dataclass(frozen=True, slots=True)
class ResetSlot(Command):
    """Make a slot ready for an unrelated task and say SlotReady (or SlotLost)."""

    slot_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Dispatch(Command):
    """Send a task's prompt in a slot's session, relaunched first if its options need it, and say AttemptDone."""

    slot_id: str
    epoch: int
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopAttempt(Command):
    """Interrupt a running attempt (or kill its process); its AttemptDone must follow within seconds."""

    slot_id: str
    task_id: str
    attempt: int
    reason: StopReason
    kill: bool = False


@dataclass(frozen=True, slots=True)
class Tell(Command):
    """These tasks (and runs) became final, or the pool paused: wake who waits for them."""

    task_ids: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WakeAt(Command):
    """Say Tick at this instant (an earlier one already asked for stays)."""

    at: float


@dataclass(frozen=True, slots=True)
class Closed(Command):
    """Drained: every task is final and every slot is stopped."""


@dataclass(frozen=True, slots=True)
class ReadBudget(Command):
    """Read the budget from the ledger (after the writes before it) and say BudgetRead: only what other pools hold back
    keeps this pool's tasks from running."""
