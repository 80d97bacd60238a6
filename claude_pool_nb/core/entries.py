"""The core's own working memory of tasks, runs and slots: what changes, beside the frozen records that do not.

Nothing outside `core` holds one of these: `record` gives the frozen picture of the moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from claude_pool_nb.core.inputs import TaskSpec
from claude_pool_nb.records import (
    FailureKind,
    RunRecord,
    RunState,
    SlotRecord,
    SlotState,
    StopReason,
    TaskRecord,
    TaskState,
)

if TYPE_CHECKING:
    from claude_pool_nb.core.budget import Estimate
    from claude_pool_nb.core.queue import Lane


class RunEntry:
    """A run and how much of it is still open."""

    __slots__ = (
        "accepted", "cancelled", "error", "finished_at", "interrupted", "open", "running", "started", "state",
        "stopped_by_cancel", "task_ids",
    )  # fmt: skip

    def __init__(self, record: RunRecord) -> None:
        self.accepted = record
        self.state = record.state
        self.finished_at = record.finished_at
        self.error = record.error
        self.task_ids: list[str] = []
        self.open = 0  # tasks that are not final
        self.running = 0  # tasks that are in a slot
        self.started = record.state is RunState.RUNNING  # any task was ever sent since it was (re)opened
        self.cancelled = 0  # final tasks, by how they ended
        self.interrupted = 0
        self.stopped_by_cancel = False  # a Stop(CANCEL) took all that was open

    @property
    def record(self) -> RunRecord:
        """The run as it is now."""
        return replace(
            self.accepted, state=self.state, finished_at=self.finished_at, error=self.error, total=len(self.task_ids)
        )


class TaskEntry:
    """A task, its place in line and its running attempt."""

    __slots__ = (
        "attempts", "booked", "cost_nano", "crashes", "error", "error_type", "extension_nano", "failure_kind",
        "finished_at", "id", "lane", "negative_priority", "opened_attempts", "order", "reserved_nano", "run", "slot",
        "spec", "spent_now_nano", "started_at", "started_seq", "state", "stop", "stop_killed", "stop_note", "uncounted",
        "unknown_of", "waiting_until",
    )  # fmt: skip

    def __init__(self, spec: TaskSpec, run: RunEntry, order: int) -> None:
        record = spec.record
        self.spec = spec
        self.run = run
        self.id = record.id
        self.order = order  # acceptance: first in, first out
        self.negative_priority = -record.priority
        self.state = record.state
        self.attempts = record.attempts
        self.opened_attempts = record.opened_attempts
        self.cost_nano = record.cost_nano
        self.started_at = record.started_at
        self.finished_at = record.finished_at
        self.waiting_until = record.waiting_until
        self.failure_kind: FailureKind | None = record.failure_kind
        self.error_type = record.error_type
        self.error = record.error
        self.lane: Lane | None = None
        self.slot: SlotEntry | None = None
        self.started_seq = 0
        self.reserved_nano = 0
        self.extension_nano = 0
        self.unknown_of: Estimate | None = None  # set while it runs without anybody knowing what it may cost
        self.spent_now_nano = 0
        self.stop: StopReason | None = None
        self.stop_killed = False
        self.stop_note: tuple[str, str] | None = None  # error_type and message of a stop for money's sake
        self.crashes = 0
        self.uncounted = 0  # attempts that the retry policy does not hold against the task
        self.booked: dict[int, int] | None = None  # what was booked for each ended attempt

    @property
    def record(self) -> TaskRecord:
        """The task as it is now."""
        return replace(
            self.spec.record,
            state=self.state,
            attempts=self.attempts,
            cost_nano=self.cost_nano,
            started_at=self.started_at,
            finished_at=self.finished_at,
            waiting_until=self.waiting_until,
            opened_attempts=self.opened_attempts,
            failure_kind=self.failure_kind,
            error_type=self.error_type,
            error=self.error,
        )

    @property
    def is_queued(self) -> bool:
        """Accepted, not final and in no slot."""
        return self.state is TaskState.PENDING or self.state is TaskState.WAITING


class SlotEntry:
    """A slot, the session it holds (by epoch) and the task it runs."""

    __slots__ = (
        "closing", "conversation", "cost_nano", "description", "epoch", "error", "id", "launch_key", "losses", "name",
        "previous", "restarts", "role", "since_at", "state", "stopped_by_pool", "task", "tasks_completed",
    )  # fmt: skip

    def __init__(self, slot_id: str) -> None:
        self.id = slot_id
        self.state = SlotState.STARTING
        self.epoch = 0
        self.name: str | None = None
        self.role: str | None = None
        self.description: str | None = None
        self.task: TaskEntry | None = None
        self.launch_key = ""  # options its session was launched with; empty: not known
        self.conversation: str | None = None
        self.previous: tuple[str, str | None] = ("", None)  # those two before the last dispatch, should it be refused
        self.closing = False  # gets no task any more
        self.losses = 0  # sessions lost in a row, without one that was ready in between
        self.restarts = 0
        self.stopped_by_pool = False  # a session that the pool itself had to kill is no loss
        self.tasks_completed = 0
        self.cost_nano = 0
        self.since_at = 0.0
        self.error: str | None = None

    @property
    def record(self) -> SlotRecord:
        """The slot as it is now; what only its session knows (pid, memory, model) is left out."""
        return SlotRecord(
            id=self.id,
            state=self.state,
            name=self.name,
            role=self.role,
            description=self.description,
            task_id=self.task.id if self.task else None,
            conversation=self.conversation,
            tasks_completed=self.tasks_completed,
            cost_nano=self.cost_nano,
            restarts=self.restarts,
            since_at=self.since_at,
            error=self.error,
        )


def new_run_state(run: RunEntry) -> RunState:
    """What a run is once all its tasks are final.

    `interrupted` if any task was interrupted; `cancelled` if a cancel took all tasks that were still open and at least
    one of them ended cancelled; else `completed`, whatever failed.
    """
    if run.interrupted:
        return RunState.INTERRUPTED
    if run.cancelled and run.stopped_by_cancel:
        return RunState.CANCELLED
    return RunState.COMPLETED
