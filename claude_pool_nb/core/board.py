"""What the pool knows, and the few places where a task, a run or the pool as a whole changes its state.

Invariants: every change of state is one event; the events of one `handle` call go out as one `Write`, before any other
command; a task becomes final in `_finish` and nowhere else, and a run with its last task.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from random import Random
from typing import Any

from claude_pool_nb.core.budget import Budget
from claude_pool_nb.core.commands import Command, Tell, WakeAt, Write
from claude_pool_nb.core.entries import RunEntry, SlotEntry, TaskEntry, new_run_state
from claude_pool_nb.core.inputs import TaskSpec
from claude_pool_nb.core.queue import Queue
from claude_pool_nb.core.retry import LimitClock
from claude_pool_nb.errors import ConfigError, RunNotFound, SlotNotFound, TaskNotFound
from claude_pool_nb.events import (
    BudgetWarning,
    Event,
    PoolPaused,
    RunChanged,
    TaskCancelled,
    TaskFailed,
    TaskInterrupted,
    TaskPendingAgain,
    TaskWaiting,
)
from claude_pool_nb.records import (
    BudgetRecord,
    Failure,
    FailureKind,
    PoolStatus,
    RunRecord,
    RunState,
    SlotRecord,
    SlotState,
    StopReason,
    TaskRecord,
    TaskState,
)

NEVER = float("inf")


class Board:
    """Tasks, runs, slots, money and timers of one pool, with the views that the engine reads."""

    def __init__(
        self,
        pool_id: str,
        *,
        slots: int,
        budget: BudgetRecord | None = None,
        strict_budget: bool = False,
        min_slots: int = 1,
        max_slots: int = 16,
        max_restarts: int = 3,
        seed: int = 0,
        history: Iterable[tuple[str, str | None, int]] = (),
    ) -> None:
        if not 1 <= min_slots <= max_slots:
            raise ConfigError(
                f"min_slots={min_slots} and max_slots={max_slots} do not fit: 1 <= min_slots <= max_slots"
            )
        self.pool_id = pool_id
        self._min_slots, self._max_slots, self._max_restarts = min_slots, max_slots, max_restarts
        self._check_slots(slots)
        self._initial_slots = slots
        self._money = Budget(budget, strict=strict_budget, history=history)
        self._queue = Queue(self._money)
        self._limit = LimitClock()
        self._random = Random(seed)
        self._tasks: dict[str, TaskEntry] = {}
        self._runs: dict[str, RunEntry] = {}
        self._slots: dict[str, SlotEntry] = {}
        self._idle: dict[str, SlotEntry] = {}  # longest idle first
        self._slot_number = 0
        self._counts = dict.fromkeys(TaskState, 0)
        self._forgotten: dict[str, dict[TaskState, int]] = {}  # runs that are in the ledger only, and their tasks
        self._order = 0
        self._seq = 0  # counts handle calls: what was under way when something happened
        self._auth_seq = -1
        self._waiting: list[tuple[float, int, TaskEntry]] = []
        self._deadlines: list[tuple[float, int, TaskEntry]] = []
        self._ask_budget_at = NEVER
        self._budget_is_news = True  # the ledger has told it since work was accepted last
        self._budget_is_asked = False
        self._wake_at = NEVER
        self._orphans: set[tuple[str, int]] = set()  # attempts that were ended for a lost slot, not by their own word
        self._paused: str | None = None
        self._paused_by_person = False
        self._draining = False
        self._drain_timeouts = 0
        self._closed = False
        self._started = False
        self._events: list[Event] = []
        self._commands: list[Command] = []
        self._told_tasks: list[str] = []
        self._told_runs: list[str] = []
        self._tell = False

    # -- views ---------------------------------------------------------------------------------------------------------

    def task(self, task_id: str) -> TaskRecord:
        """A task as it is now.

        Raises:
            TaskNotFound: this pool has no task of that id.
        """
        return self._task(task_id).record

    def spec(self, task_id: str) -> TaskSpec:
        """A task as it was accepted or last reopened, with what decides about it."""
        return self._task(task_id).spec

    def slot(self, slot_id: str) -> SlotRecord:
        """A slot as it is now.

        Raises:
            SlotNotFound: this pool never had a slot of that id.
        """
        return self._slot(slot_id).record

    def slot_epoch(self, slot_id: str) -> int:
        """The number of a slot's present session."""
        return self._slot(slot_id).epoch

    def run(self, run_id: str) -> RunRecord:
        """A run as it is now.

        Raises:
            RunNotFound: this pool has no run of that id.
        """
        return self._run(run_id).record

    def tasks(self, run_id: str | None = None) -> list[TaskRecord]:
        """All tasks, or those of one run, in the order in which they were accepted."""
        if run_id is None:
            return [task.record for task in list(self._tasks.values())]
        found = [self._tasks.get(task_id) for task_id in self._run(run_id).task_ids]
        if None in found:  # another thread looks while the run is being forgotten
            raise RunNotFound(f"there is no run {run_id!r} in this pool; `%pool runs` lists them")
        return [task.record for task in found if task is not None]

    def task_ids(self, run_id: str) -> tuple[str, ...]:
        """The ids of a run's tasks, in their order."""
        return tuple(self._run(run_id).task_ids)

    def runs(self) -> list[RunRecord]:
        """All runs, oldest first."""
        return [run.record for run in list(self._runs.values())]

    def slots(self) -> list[SlotRecord]:
        """All slots that are not stopped."""
        return [slot.record for slot in list(self._slots.values()) if slot.state is not SlotState.STOPPED]

    def counts(self) -> dict[TaskState, int]:
        """How many tasks are in each state."""
        return dict(self._counts)

    def open_tasks(self, run_id: str) -> int:
        """How many tasks of a run are not final."""
        return self._run(run_id).open

    def queued_tasks(self, run_id: str) -> int:
        """How many tasks of a run are not final and in no slot."""
        run = self._run(run_id)
        return run.open - run.running

    @property
    def budget(self) -> BudgetRecord | None:
        """The budget as this pool sees it; None if it was given none."""
        return self._money.picture()

    @property
    def paused(self) -> str | None:
        """Why the pool is paused; None if it is not."""
        return self._paused

    @property
    def paused_by_person(self) -> bool:
        """False if the pool paused itself, because of a bad key or a full disk."""
        return self._paused is not None and self._paused_by_person

    @property
    def own_spent_nano(self) -> int:
        """What this pool has booked to its budget, committed or not."""
        return self._money.own_spent

    @property
    def own_reserved_nano(self) -> int:
        """What this pool holds back of its budget, committed or not."""
        return self._money.own_reserved

    @property
    def draining(self) -> bool:
        """True once the pool takes no more work."""
        return self._draining

    @property
    def closed(self) -> bool:
        """True once every slot is stopped."""
        return self._closed

    def status(self, backend: str = "claude") -> PoolStatus:
        """The pool at this moment."""
        return PoolStatus(
            pool_id=self.pool_id,
            backend=backend,
            slots={str(state): n for state, n in self._slot_counts().items()},
            tasks={str(state): n for state, n in self._counts.items() if n},
            budget=self.budget,
            paused=self._paused,
            closed=self._draining,
            warming=self._queue.warming(),
        )

    def __repr__(self) -> str:
        slots = ", ".join(f"{n} {state}" for state, n in self._slot_counts().items()) or "no slots"
        shown = [state for state in TaskState if state is not TaskState.RUNNING and self._counts[state]]
        tasks = ", ".join(f"{self._counts[state]} {state}" for state in shown) or "no tasks"
        state = "closed" if self._closed else "draining" if self._draining else ""
        if self._paused is not None and not self._draining:
            state = f"paused: {self._paused}"
        return f"<Pool {slots} | {tasks} | {self._money!r}{' | ' + state if state else ''}>"

    def durable(self) -> dict[str, Any]:
        """All that the ledger's rows must bring back, as plain values to be compared."""
        tasks = {
            t.id: (
                t.state,
                t.attempts,
                t.opened_attempts,
                t.cost_nano,
                t.started_at,
                t.finished_at if t.state.is_final else None,
                t.waiting_until if t.state is TaskState.WAITING else None,
                (t.failure_kind, t.error_type, t.error) if t.state is TaskState.FAILED else None,
                t.spec.record.prompt,
                t.spec.record.overrides,
            )
            for t in self._tasks.values()
        }
        runs = {run_id: (run.state, run.finished_at, run.error, run.open) for run_id, run in self._runs.items()}
        money = self._money
        return {
            "tasks": tasks,
            "runs": runs,
            "budget": (money.limit_nano, money.spent_nano, money.reserved_nano),
            "paused": self._paused,
        }

    def check(self) -> None:
        """Assert what must hold after every call; for tests, in time linear in the tasks.

        Raises:
            AssertionError: the state contradicts itself, which is a defect of this package.
        """
        counted = dict.fromkeys(TaskState, 0)
        held = 0
        for task in self._tasks.values():
            counted[task.state] += 1
            if task.state is TaskState.RUNNING:
                assert task.lane is None, f"{task.id} runs and stands in line"
                assert task.slot is None or task.slot.task is task, f"{task.id} is not what its slot runs"
                held += task.reserved_nano
            else:
                assert task.slot is None, f"{task.id} is {task.state} and holds a slot"
                assert task.reserved_nano == 0, f"{task.id} is {task.state} and holds money back"
                assert task.stop is None, f"{task.id} is {task.state} and still to be stopped"
            assert task.lane is None or task.state is TaskState.PENDING, f"{task.id} is {task.state} and in line"
        assert counted == self._counts, f"{self._counts} does not count the tasks, {counted} does"
        assert held == self._money.own_reserved, f"{self._money.own_reserved} is reserved, {held} is held back"
        for slot in self._slots.values():
            busy, idle = slot.state is SlotState.BUSY, slot.id in self._idle
            assert (slot.task is not None) == busy, f"{slot.id} is {slot.state} with task {slot.task}"
            assert slot.task is None or slot.task.slot is slot, f"{slot.id} runs a task that is elsewhere"
            assert idle == (slot.state is SlotState.IDLE and not slot.closing), f"{slot.id} is {slot.state}"
        for run in self._runs.values():
            tasks = [self._tasks[task_id] for task_id in run.task_ids]
            assert run.open == sum(not task.state.is_final for task in tasks), f"{run.accepted.id} counts wrongly"
            assert run.running == sum(task.state is TaskState.RUNNING for task in tasks), f"{run.accepted.id} too"

    # -- what the desks above share ------------------------------------------------------------------------------------

    def _task(self, task_id: str) -> TaskEntry:
        """The working memory of a task."""
        try:
            return self._tasks[task_id]
        except KeyError:
            raise TaskNotFound(f"there is no task {task_id!r} in this pool; `%pool tasks` lists the latest") from None

    def _run(self, run_id: str) -> RunEntry:
        """The working memory of a run."""
        try:
            return self._runs[run_id]
        except KeyError:
            raise RunNotFound(f"there is no run {run_id!r} in this pool; `%pool runs` lists them") from None

    def _slot(self, slot_id: str) -> SlotEntry:
        """The working memory of a slot."""
        try:
            return self._slots[slot_id]
        except KeyError:
            raise SlotNotFound(f"there is no slot {slot_id!r}; `%pool slots` lists them") from None

    def _check_slots(self, slots: int) -> None:
        """Refuse a number of slots that the pool may not have."""
        if not self._min_slots <= slots <= self._max_slots:
            raise ConfigError(
                f"slots={slots} is not possible: this pool takes {self._min_slots} to {self._max_slots} "
                "(it was started with these min_slots and max_slots)"
            )

    def _slot_counts(self) -> dict[SlotState, int]:
        """How many slots are in each state, without those that are over."""
        counts: dict[SlotState, int] = {}
        slots = list(self._slots.values())  # another thread may look while one is added
        for state in (SlotState.STARTING, SlotState.IDLE, SlotState.BUSY, SlotState.RESETTING, SlotState.ERRORED):
            n = sum(slot.state is state for slot in slots)
            if n:
                counts[state] = n
        return counts

    def _move(self, task: TaskEntry, state: TaskState) -> None:
        """Count a task under another state."""
        self._counts[task.state] -= 1
        self._counts[state] += 1
        task.state = state

    def _finish(self, task: TaskEntry, state: TaskState, event: Event) -> None:
        """A task is final: the one place where that happens."""
        self._move(task, state)
        task.finished_at = event.at
        task.waiting_until = None
        task.stop, task.stop_killed, task.stop_note = None, False, None
        self._queue.leave(task)
        self._events.append(event)
        self._told_tasks.append(task.id)
        run = task.run
        run.open -= 1
        if state is TaskState.CANCELLED:
            run.cancelled += 1
        elif state is TaskState.INTERRUPTED:
            run.interrupted += 1
        if run.open == 0:
            self._change_run(run, new_run_state(run), event.at)

    def _fail(self, task: TaskEntry, at: float, failure: Failure) -> None:
        """A task will not get its answer."""
        task.failure_kind, task.error_type, task.error = failure.kind, failure.error_type, failure.message
        event = TaskFailed(at, task.id, failure.kind, failure.error_type, failure.message)
        self._finish(task, TaskState.FAILED, event)

    def _end_by(self, task: TaskEntry, at: float, reason: StopReason, why: str = "interrupted") -> None:
        """A task is over because somebody stopped it."""
        if reason is StopReason.CANCEL:
            self._finish(task, TaskState.CANCELLED, TaskCancelled(at, task.id))
        elif reason is StopReason.TIMEOUT:
            self._fail(task, at, Failure(FailureKind.TIMEOUT, "timeout", "It was stopped because its time was over."))
        elif reason is StopReason.BUDGET:
            kind, message = task.stop_note or ("BudgetExhausted", "It was stopped because its money was used up.")
            self._fail(task, at, Failure(FailureKind.BUDGET, kind, message))
        else:
            task.error = why
            self._finish(task, TaskState.INTERRUPTED, TaskInterrupted(at, task.id, why))

    def _wait(self, task: TaskEntry, at: float, until: float, failure: Failure) -> None:
        """A task will be tried again at an instant, or now."""
        self._events.append(TaskWaiting(at, task.id, until, failure))
        if until <= at:
            self._events.append(TaskPendingAgain(at, task.id))
            self._pend(task, at)
            return
        self._move(task, TaskState.WAITING)
        task.waiting_until = until
        heappush(self._waiting, (until, task.order, task))
        self._pause_run(task.run, at)

    def _pend(self, task: TaskEntry, at: float) -> None:
        """A task stands in line again."""
        self._move(task, TaskState.PENDING)
        task.waiting_until = None
        self._queue.push(task)
        self._pause_run(task.run, at)

    def _change_run(self, run: RunEntry, state: RunState, at: float) -> None:
        """A run enters a state."""
        if run.state is state:
            return
        run.state = state
        run.finished_at = at if state.is_final else None
        self._events.append(RunChanged(at, run.accepted.id, state))
        if state.is_final:
            self._told_runs.append(run.accepted.id)

    def _pause_run(self, run: RunEntry, at: float) -> None:
        """In a paused pool a run with tasks in line is paused."""
        if self._paused is not None and run.open > run.running and run.state in (RunState.PENDING, RunState.RUNNING):
            self._change_run(run, RunState.PAUSED, at)

    def _pause(self, at: float, reason: str, *, by_person: bool) -> None:
        """Start nothing until somebody unpauses."""
        self._paused = reason
        self._paused_by_person = by_person
        self._events.append(PoolPaused(at, reason, by_person))
        self._tell = True
        for run in self._runs.values():
            self._pause_run(run, at)

    def _warn_budget(self, at: float) -> None:
        """Tell a person, once, that most of the money is gone."""
        if self._money.warning_due():
            self._events.append(BudgetWarning(at, self._money.spent_nano, self._money.limit_nano or 0))

    def _next_wake(self, at: float) -> float:
        """The next instant at which something is to be done without being told."""
        waiting, deadlines = self._waiting, self._deadlines
        while waiting and not (
            waiting[0][2].state is TaskState.WAITING and waiting[0][2].waiting_until == waiting[0][0]
        ):
            heappop(waiting)
        while deadlines and not self._is_unstarted(deadlines[0][2], deadlines[0][0]):
            heappop(deadlines)
        wake = self._ask_budget_at
        if waiting and waiting[0][0] < wake:
            wake = waiting[0][0]
        if deadlines and deadlines[0][0] < wake:
            wake = deadlines[0][0]
        if at < self._limit.until_at < wake:
            wake = self._limit.until_at
        return wake

    @staticmethod
    def _is_unstarted(task: TaskEntry, deadline_at: float) -> bool:
        """True if a deadline still holds for a task."""
        return task.is_queued and task.attempts == task.opened_attempts and task.spec.deadline_at == deadline_at

    def _flush(self, at: float) -> list[Command]:
        """Hand out what this call decided."""
        commands: list[Command] = []
        if self._events:
            commands.append(Write(tuple(self._events)))
            self._events = []
        if self._commands:
            commands += self._commands
            self._commands = []
        if self._told_tasks or self._told_runs or self._tell:
            commands.append(Tell(tuple(self._told_tasks), tuple(self._told_runs)))
            self._told_tasks, self._told_runs, self._tell = [], [], False
        wake = self._next_wake(at)
        if wake < self._wake_at:
            self._wake_at = wake
            commands.append(WakeAt(wake))
        return commands
