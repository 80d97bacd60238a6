"""What happens: one class per state, and per booking.

Every state change of the pool is exactly one of these. The core makes them, the ledger commits them and keeps them as
rows of its `event` table, and whoever watches (the live view, a subscriber) gets them after the commit. Each holds all
that a table needs to be brought up to date, so that the tables can be rebuilt from the events and the pool from the
tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from claude_pool_nb.records import (
    AttemptState,
    EarlierAnswer,
    Failure,
    FailureKind,
    RunRecord,
    RunState,
    SlotState,
    TaskRecord,
    TaskState,
    TurnResult,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at an instant."""

    at: float
    """Unix seconds, UTC."""


# -- tasks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskEvent(Event):
    """Something that happened to a task."""

    task_id: str
    """`r12.3`."""


@dataclass(frozen=True, slots=True)
class TaskRunning(TaskEvent):
    """An attempt starts: the claim, the attempt's row and its reservation are one write."""

    attempt: int
    slot_id: str
    reserved_nano: int
    requested_model: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptProgress(TaskEvent):
    """What a running attempt has used so far; at most one a second, so that a dead kernel's bill is known."""

    attempt: int
    usage: Usage
    cost_nano: int
    """Estimated."""


@dataclass(frozen=True, slots=True)
class ReservationExtended(TaskEvent):
    """A running attempt outgrew its reservation and got more."""

    attempt: int
    added_nano: int


@dataclass(frozen=True, slots=True)
class AttemptEnded(TaskEvent):
    """An attempt is over: its cost is booked and its reservation given back, whatever becomes of the task."""

    attempt: int
    state: AttemptState
    result: TurnResult
    late: bool = False
    """Its task had moved on: the cost counts, the verdict does not."""
    request: str | None = None
    """Names the request that this answers, so that an identical one may be given the same answer; None for none."""


@dataclass(frozen=True, slots=True)
class TaskWaiting(TaskEvent):
    """The task will be tried again."""

    until: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class TaskPendingAgain(TaskEvent):
    """The wait of a waiting task is over."""


@dataclass(frozen=True, slots=True)
class TaskPendingReview(TaskEvent):
    """The task has an answer that a person has to approve."""


@dataclass(frozen=True, slots=True)
class TaskCompleted(TaskEvent):
    """The task has its answer."""


@dataclass(frozen=True, slots=True)
class TaskCached(TaskEvent):
    """The task has its answer without an attempt: that of an earlier task to the same request."""

    answer: EarlierAnswer


@dataclass(frozen=True, slots=True)
class TaskFailed(TaskEvent):
    """The task will not get an answer."""

    kind: FailureKind
    error_type: str
    error: str


@dataclass(frozen=True, slots=True)
class TaskCancelled(TaskEvent):
    """Somebody cancelled the task."""


@dataclass(frozen=True, slots=True)
class TaskInterrupted(TaskEvent):
    """The kernel was interrupted, or it died, or the pool was stopped."""

    error: str = "interrupted"


@dataclass(frozen=True, slots=True)
class TaskReopened(TaskEvent):
    """A final task may run again: it keeps its id and row and gets new attempts."""

    prompt: str | None = None
    """A new prompt, where one was given."""
    overrides: str | None = None
    """New overrides as JSON text, where some were given."""
    requested_model: str | None = None
    """The model that is asked for now, where that is another."""
    previous_prompt: str | None = None
    """The prompt of the attempts so far, where a new one was given."""


# -- runs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunAccepted(Event):
    """A run and all its tasks were accepted (the tasks are pending)."""

    run: RunRecord
    tasks: tuple[TaskRecord, ...]


@dataclass(frozen=True, slots=True)
class RunAdopted(Event):
    """A run of a pool that is gone belongs to this pool now."""

    run_id: str
    pool_id: str


@dataclass(frozen=True, slots=True)
class RunChanged(Event):
    """A run entered a state."""

    run_id: str
    state: RunState
    error: str | None = None


# -- slots -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotChanged(Event):
    """A slot entered a state."""

    slot_id: str
    state: SlotState
    task_id: str | None = None
    error: str | None = None
    restarts: int = 0
    tasks_completed: int = 0
    cost_nano: int = 0


# -- the pool ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PoolPaused(Event):
    """No task is started until somebody unpauses."""

    reason: str
    by_person: bool = True
    """False if the pool paused itself, because of a bad key or a full disk."""


@dataclass(frozen=True, slots=True)
class PoolUnpaused(Event):
    """Tasks are started again."""


@dataclass(frozen=True, slots=True)
class PoolScaled(Event):
    """The number of slots was changed."""

    slots: int


@dataclass(frozen=True, slots=True)
class PoolDraining(Event):
    """The pool takes no more work."""


@dataclass(frozen=True, slots=True)
class PoolClosed(Event):
    """The pool is over."""


@dataclass(frozen=True, slots=True)
class BudgetChanged(Event):
    """The wall was moved."""

    limit_nano: int | None


@dataclass(frozen=True, slots=True)
class BudgetWarning(Event):
    """Four fifths of the budget are spent; said once."""

    spent_nano: int
    limit_nano: int


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something a person should know; shown once per text."""

    message: str
    task_id: str | None = None


TASK_STATE_OF: dict[type[Event], TaskState] = {
    TaskRunning: TaskState.RUNNING,
    TaskWaiting: TaskState.WAITING,
    TaskPendingAgain: TaskState.PENDING,
    TaskPendingReview: TaskState.PENDING_REVIEW,
    TaskCompleted: TaskState.COMPLETED,
    TaskCached: TaskState.COMPLETED,
    TaskFailed: TaskState.FAILED,
    TaskCancelled: TaskState.CANCELLED,
    TaskInterrupted: TaskState.INTERRUPTED,
    TaskReopened: TaskState.PENDING,
}
"""The state that each task event leads to."""
