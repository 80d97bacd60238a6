"""The words for where things are and why: states, kinds of failure, what is known of a cost.

Invariant: every value is the word that stands in frames, in the ledger and on the page.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is. The last four are final: only an explicit reopen changes them."""

    PENDING = "pending"
    WAITING = "waiting"  # for a retry, a rate limit, or its conversation
    RUNNING = "running"
    PENDING_REVIEW = "pending_review"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """True for completed, failed, cancelled and interrupted."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.INTERRUPTED})


class SlotState(StrEnum):
    """What a slot does."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    RESETTING = "resetting"
    STOPPED = "stopped"
    ERRORED = "errored"


class RunState(StrEnum):
    """Where a run is. `completed` means that all its tasks are final, whatever failed."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """True for completed, cancelled, interrupted and failed."""
        return self not in OPEN_RUN_STATES


OPEN_RUN_STATES = frozenset({RunState.PENDING, RunState.RUNNING, RunState.PAUSED})
"""States of a run that still has something to do."""


class FailureKind(StrEnum):
    """Why an attempt failed; what is tried again depends on it."""

    TRANSPORT = "transport"  # lost connection, 5xx
    CRASH = "crash"  # lost process
    LIMIT = "limit"  # 429, 529
    AUTH = "auth"  # 401, 403
    REQUEST = "request"  # 400, 404, 413
    TASK = "task"  # a check or a schema failed
    DENIED = "denied"
    BUDGET = "budget"
    TIMEOUT = "timeout"
    TURNS = "turns"


class CostBasis(StrEnum):
    """How a cost is known."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class AttemptState(StrEnum):
    """Where an attempt is; the words are those of a task."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class StopReason(StrEnum):
    """Why the pool itself stopped an attempt; decides the state that the task gets."""

    CANCEL = "cancel"  # -> cancelled
    INTERRUPT = "interrupt"  # kernel interrupt -> interrupted
    TIMEOUT = "timeout"  # wall or idle timeout -> failed, kind timeout
    BUDGET = "budget"  # outgrew what the budget could give -> failed, kind budget
    DRAIN = "drain"  # the pool ends -> interrupted
