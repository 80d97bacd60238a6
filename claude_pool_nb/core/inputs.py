"""What the core is told. Every input carries the instant at which it happened, because the core has no clock."""

from __future__ import annotations

from dataclasses import dataclass

from claude_pool_nb.records import (
    BudgetRecord,
    EarlierAnswer,
    RetryPolicy,
    RunRecord,
    StopReason,
    TaskRecord,
    TurnResult,
    Usage,
)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task with what the core needs to decide about it; the engine derives it from the task's resolved options."""

    record: TaskRecord
    launch_key: str = ""
    """Names the options that are fixed when a session is launched: a slot that has it needs no relaunch."""
    retry: RetryPolicy = RetryPolicy()
    """Which failures are tried again."""
    cap_nano: int | None = None
    """The task's own max_budget_usd: a wall for this task over all its attempts, inclusive."""
    list_price_nano: int | None = None
    """What list prices say the task costs; None if no price is known."""
    worst_case_nano: int | None = None
    """The most that it can cost; reserved with strict_budget. None if it has no bound."""
    prime_key: str | None = None
    """Tasks with the same key share a long prefix: the first goes alone until its answer begins. None: no priming."""
    deadline_at: float | None = None
    """It fails (kind timeout) if it has not been started by then."""
    answer: EarlierAnswer | None = None
    """What an identical request was answered: a submitted task that has this is completed with it, and never sent."""


@dataclass(frozen=True, slots=True)
class Input:
    """Something the core is told."""

    at: float
    """Unix seconds, UTC; never goes back."""


@dataclass(frozen=True, slots=True)
class Submit(Input):
    """A run with its tasks, in their order. Ids were given out by the ledger."""

    run: RunRecord
    tasks: tuple[TaskSpec, ...]


@dataclass(frozen=True, slots=True)
class Adopt(Input):
    """A run of a pool that is gone, all its tasks in their recorded states (none pending, waiting or running): from
    now on this pool may reopen them."""

    run: RunRecord
    tasks: tuple[TaskSpec, ...]


@dataclass(frozen=True, slots=True)
class Reopen(Input):
    """Run final tasks again. Each spec replaces the task's earlier one (its record holds the prompt and overrides
    to use); the task keeps its id, row, attempts and cost."""

    tasks: tuple[TaskSpec, ...]


@dataclass(frozen=True, slots=True)
class Stop(Input):
    """Stop tasks for good: what has not started becomes cancelled or interrupted at once, what runs is stopped."""

    task_ids: tuple[str, ...]
    """Empty means every task of the pool that is not final."""
    reason: StopReason = StopReason.CANCEL
    kill: bool = False
    """Do not ask the session: end its process."""


@dataclass(frozen=True, slots=True)
class AttemptBegan(Input):
    """The first text or tool call of an attempt's answer arrived: its prompt is in the cache now."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptSpent(Input):
    """An estimate of what a running attempt has cost so far; may go up only."""

    task_id: str
    attempt: int
    cost_nano: int
    usage: Usage
    record: bool = False
    """Write it to the ledger too (at most once a second)."""


@dataclass(frozen=True, slots=True)
class AttemptDone(Input):
    """An attempt is over, in whatever way. One that has its answer although it was to be stopped (no failure, and not
    empty) completes; a result without a failure and without an answer, of an attempt that was stopped, does not."""

    task_id: str
    attempt: int
    result: TurnResult
    stopped: StopReason | None = None
    """Set if the pool (not the API or the CLI) stopped it: its failure is the pool's doing."""
    request: str | None = None
    """Names the request that was sent, if its answer may be given to an identical one."""


@dataclass(frozen=True, slots=True)
class ReservationRefused(Input):
    """The ledger did not grant an attempt's reservation or its extension: another pool has taken the money.

    For an attempt that was not sent, the ledger has not written it: the task is pending again with the attempt number
    it had before. For an extension, the running attempt has to be stopped.
    """

    task_id: str
    attempt: int
    budget: BudgetRecord
    extension: bool = False


@dataclass(frozen=True, slots=True)
class BudgetRead(Input):
    """What the ledger says of the budget now: other pools' spending and reservations are in it."""

    budget: BudgetRecord


@dataclass(frozen=True, slots=True)
class SetBudget(Input):
    """Move the wall; None takes it away."""

    limit_nano: int | None


@dataclass(frozen=True, slots=True)
class SlotOpened(Input):
    """A slot's session is open and reset: it can take a task."""

    slot_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SlotReady(Input):
    """A slot that was resetting can take the next task."""

    slot_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SlotLost(Input):
    """A slot's session could not be opened, reset or kept. Its running attempt is told of by its own AttemptDone,
    which comes first."""

    slot_id: str
    epoch: int
    error: str


@dataclass(frozen=True, slots=True)
class SlotClosed(Input):
    """A slot's session is closed, as commanded."""

    slot_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Scale(Input):
    """Have this many slots."""

    slots: int


@dataclass(frozen=True, slots=True)
class LabelSlot(Input):
    """Give a slot a name, role or description (configure_slot); None leaves one as it is, empty takes it away."""

    slot_id: str
    name: str | None = None
    role: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Pause(Input):
    """Start no more tasks; running ones end."""

    reason: str = "paused"
    by_person: bool = True


@dataclass(frozen=True, slots=True)
class Unpause(Input):
    """Start tasks again."""


@dataclass(frozen=True, slots=True)
class Drain(Input):
    """Take no more work, let running tasks end, then close. What has not started is interrupted."""


@dataclass(frozen=True, slots=True)
class DrainTimedOut(Input):
    """Running tasks had their time: stop them."""


@dataclass(frozen=True, slots=True)
class Tick(Input):
    """An instant that a WakeAt asked for has come."""
