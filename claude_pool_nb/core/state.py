"""`PoolState`: every state change of the pool is made here.

`handle` takes one input and returns the commands to perform: first one `Write` with all events of the call, then the
rest. The engine performs them and feeds the outcomes back; it decides nothing. No clock is read (every input says when
it happened), nothing is awaited, nothing is on disk.

Invariants (proven by `tests/unit/core/test_invariants.py`):
1. every accepted task ends in exactly one final state, exactly once per (re)opening;
2. a slot holds at most one task, a task at most one slot;
3. spent + reserved never exceeds the budget at a dispatch;
4. no slot is idle while a runnable task exists; priority, then first in, first out (not runnable, among others: a
   task whose conversation is in a slot that is just being reset);
5. after a cancel is accepted, no new attempt of that task starts unless it is reopened;
6. what an old attempt says after it was replaced changes nothing (its cost is still booked);
7. a state rebuilt from the ledger's rows equals the state that wrote them (`durable`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from heapq import heappush
from typing import Any

from claude_pool_nb.core.attempts import BY_PERSON, STOPPED_POOL, AttemptDesk
from claude_pool_nb.core.board import NEVER
from claude_pool_nb.core.commands import CloseSlot, Command
from claude_pool_nb.core.entries import RunEntry, TaskEntry
from claude_pool_nb.core.inputs import (
    Adopt,
    AttemptBegan,
    AttemptDone,
    AttemptSpent,
    BudgetRead,
    Drain,
    DrainTimedOut,
    Input,
    LabelSlot,
    Pause,
    Reopen,
    ReservationRefused,
    Scale,
    SetBudget,
    SlotClosed,
    SlotLost,
    SlotOpened,
    SlotReady,
    Stop,
    Submit,
    TaskSpec,
    Tick,
    Unpause,
)
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.errors import PoolClosed as PoolClosedError
from claude_pool_nb.events import (
    BudgetChanged,
    PoolDraining,
    PoolUnpaused,
    RunAccepted,
    RunAdopted,
    TaskCached,
    TaskReopened,
    Warned,
)
from claude_pool_nb.records import (
    AttemptRecord,
    AttemptState,
    EarlierAnswer,
    RunRecord,
    RunState,
    SlotState,
    StopReason,
    TaskState,
)

_OPEN = (TaskState.PENDING, TaskState.WAITING, TaskState.RUNNING)


class PoolState(AttemptDesk):
    """A pool as a plain object: inputs in, commands out.

    Args:
        pool_id: The pool's id in the ledger.
        slots: How many slots `start` opens.
        budget: The budget it draws on, as the ledger has it; None for none.
        strict_budget: Reserve the worst case, so that the budget cannot be exceeded at all.
        min_slots: The fewest slots that `Scale` may ask for.
        max_slots: The most.
        max_restarts: How often in a row a slot's session is opened again without completing anything.
        seed: Of the jitter in the waits.
        history: (profile, requested model, cost in nanodollars) of settled tasks, oldest first.

    Raises:
        ConfigError: the number of slots is not possible.

    Example:
        >>> from claude_pool_nb.records import TaskRecord
        >>> state = PoolState("p1", slots=1)
        >>> [type(command).__name__ for command in state.start(0.0)]
        ['Write', 'OpenSlot']
        >>> _ = state.handle(SlotOpened(0.1, "s1", 1))
        >>> task = TaskSpec(TaskRecord("r1.1", "r1", 1, "hello"))
        >>> [type(c).__name__ for c in state.handle(Submit(0.2, RunRecord("r1", "run"), (task,)))]
        ['Write', 'Dispatch']
        >>> state
        <Pool 1 busy | no tasks | $0.00 spent>
    """

    def start(self, at: float) -> list[Command]:
        """Open the slots. Called once, before any input."""
        if not self._started:
            self._started = True
            self._add_slots(self._initial_slots, at)
        return self._flush(at)

    def handle(self, given: Input) -> list[Command]:
        """Take one input and decide.

        Raises:
            PoolClosed: new work, or another size, for a pool that takes none.
            ConfigError: a size, a limit or tasks that are not possible.
            TaskNotFound, RunNotFound, SlotNotFound: it names what this pool does not have.
                After an error nothing has changed.
        """
        at = given.at
        self._seq += 1
        match given:
            # 1. attempts: many a second
            case AttemptDone():
                self._attempt_done(given)
            case AttemptSpent():
                self._attempt_spent(given)
            case AttemptBegan():
                self._attempt_began(given)
            case ReservationRefused():
                self._refused(given)
            # 2. slots
            case SlotReady(slot_id=slot_id, epoch=epoch):
                self._slot_ready(slot_id, epoch, SlotState.RESETTING, at)
            case SlotOpened(slot_id=slot_id, epoch=epoch):
                self._slot_ready(slot_id, epoch, SlotState.STARTING, at)
            case SlotLost(slot_id=slot_id, epoch=epoch, error=error):
                slot = self._slot(slot_id)
                if slot.epoch == epoch and slot.task is not None:
                    self._end_orphan(slot, error, at)
                self._slot_lost(slot_id, epoch, error, at)
            case SlotClosed(slot_id=slot_id, epoch=epoch):
                self._slot_closed(slot_id, epoch, at)
            case Scale(slots=slots):
                self._scale(slots, at)
                self._warn_open_roles(at)
            case LabelSlot():
                self._label(given)
                self._warn_open_roles(at)
            # 3. work
            case Submit():
                self._submit(given)
            case Adopt():
                self._adopt(given)
            case Reopen():
                self._reopen(given)
            case Stop():
                self._stop(given)
            # 4. money
            case BudgetRead(budget=budget):
                self._money.read(budget)
                self._budget_is_news, self._budget_is_asked = True, False
                self._warn_budget(at)
            case SetBudget(limit_nano=limit_nano):
                self._set_budget(limit_nano, at)
            # 5. the pool
            case Pause(reason=reason, by_person=by_person):
                if self._paused is None and not self._draining:
                    self._pause(at, reason, by_person=by_person)
            case Unpause():
                self._unpause(at)
            case Drain():
                self._drain(at)
            case DrainTimedOut():
                self._drain_timed_out()
            case Tick():
                self._wake_at = NEVER
            case _:
                raise TypeError(f"the core knows no input of type {type(given).__name__}")
        self._advance(at)
        self._schedule(at)
        return self._flush(at)

    # -- work ----------------------------------------------------------------------------------------------------------

    def _submit(self, given: Submit) -> None:
        """Accept a run with its tasks."""
        if self._draining:
            raise PoolClosedError
        self._refuse_unfit(given.run, given.tasks, _OPEN[:1])
        at = given.at
        self._budget_is_news = self._money.record is None
        run = self._add_run(given.run)
        run.state = RunState.PENDING
        records = tuple(spec.record for spec in given.tasks)
        self._events.append(RunAccepted(at, run.accepted, records))
        run.open = len(given.tasks)
        self._counts[TaskState.PENDING] += run.open
        for spec in given.tasks:
            task = self._add_task(spec, run)
            if spec.answer is not None:
                continue
            self._queue.push(task)
            if spec.deadline_at is not None:
                heappush(self._deadlines, (spec.deadline_at, task.order, task))
        for spec in given.tasks:
            if spec.answer is not None:
                self._answer(self._tasks[spec.record.id], spec.answer, at)
        self._warn_roles((spec.record.role for spec in given.tasks if spec.answer is None), at)
        if run.open:
            self._pause_run(run, at)
        else:
            self._change_run(run, RunState.COMPLETED, at)

    def _answer(self, task: TaskEntry, answer: EarlierAnswer, at: float) -> None:
        """A task that was answered before is completed without a slot, an attempt or money."""
        task.spec = replace(task.spec, answer=None)  # the event has it from here on
        self._finish(task, TaskState.COMPLETED, TaskCached(at, task.id, answer))

    def _refuse_unfit(self, run: RunRecord, tasks: tuple[TaskSpec, ...], states: tuple[TaskState, ...]) -> None:
        """Refuse a run that is here already, or whose tasks cannot be taken over as they are."""
        if run.id in self._runs:
            raise ConfigError(f"run {run.id!r} belongs to this pool already")
        seen: set[str] = set()
        for spec in tasks:
            record = spec.record
            if record.id in self._tasks or record.id in seen or record.run_id != run.id:
                raise ConfigError(f"task {record.id!r} is there twice, or belongs to another run than {run.id!r}")
            if record.state not in states:
                raise ConfigError(f"task {record.id!r} is {record.state}; it has to be one of {', '.join(states)}")
            seen.add(record.id)

    def _add_run(self, record: RunRecord) -> RunEntry:
        """Remember a run."""
        run = self._runs[record.id] = RunEntry(record)
        return run

    def _add_task(self, spec: TaskSpec, run: RunEntry) -> TaskEntry:
        """Remember a task, behind all that came before it."""
        self._order += 1
        task = TaskEntry(spec, run, self._order)
        self._tasks[task.id] = task
        run.task_ids.append(task.id)
        return task

    def _warn_roles(self, roles: Iterable[str | None], at: float) -> None:
        """Say so if no slot has a role that is asked for: those tasks wait until one is given it."""
        asked = {role for role in roles if role}
        if not asked:
            return
        leaving = self.leaving()
        for role in sorted(asked - {slot.role for slot in self._slots.values() if slot.id not in leaving}):
            message = f"No slot has the role {role!r}: tasks that ask for it wait until configure_slot gives it to one."
            self._events.append(Warned(at, message))

    def _warn_open_roles(self, at: float) -> None:
        """The same for what was accepted before, now that a slot has left or has another role."""
        self._warn_roles((task.spec.record.role for task in self._tasks.values() if not task.state.is_final), at)

    def leaving(self) -> frozenset[str]:
        """The slots that get no more tasks."""
        return frozenset(slot.id for slot in self._slots.values() if slot.closing or slot.state is SlotState.STOPPED)

    def _adopt(self, given: Adopt) -> None:
        """Take over a run of a pool that is gone."""
        if self._draining:
            raise PoolClosedError
        final = (*(state for state in TaskState if state.is_final), TaskState.PENDING_REVIEW)
        self._refuse_unfit(given.run, given.tasks, final)
        for state, n in self._forgotten.pop(given.run.id, {}).items():
            self._counts[state] -= n
        run = self._add_run(given.run)
        for spec in given.tasks:
            self._count_adopted(self._add_task(spec, run))
        self._events.append(RunAdopted(given.at, given.run.id, self.pool_id))

    def forget(self, run_id: str) -> tuple[str, ...]:
        """Drop a run all of whose tasks are final: it is in the ledger, and `Adopt` brings it back.

        Returns:
            The ids of the tasks that were dropped; none if the run is still needed.
        """
        run = self._runs.get(run_id)
        if run is None or run.open or any(task_id in run.task_ids for task_id, _ in self._orphans):
            return ()
        counts: dict[TaskState, int] = {}
        for task_id in run.task_ids:
            state = self._tasks.pop(task_id).state
            counts[state] = counts.get(state, 0) + 1
        del self._runs[run_id]
        self._forgotten[run_id] = counts
        return tuple(run.task_ids)

    def _count_adopted(self, task: TaskEntry) -> None:
        """Count a task that comes with a history."""
        run, state = task.run, task.state
        self._counts[state] += 1
        run.open += not state.is_final
        run.running += state is TaskState.RUNNING
        run.cancelled += state is TaskState.CANCELLED
        run.interrupted += state is TaskState.INTERRUPTED

    def _reopen(self, given: Reopen) -> None:
        """Run final tasks again."""
        if self._draining:
            raise PoolClosedError
        seen: set[str] = set()
        for spec in given.tasks:
            task = self._task(spec.record.id)
            if not task.state.is_final or task.id in seen:
                raise ConfigError(f"task {task.id!r} is {task.state}; only final tasks can be run again, each once")
            seen.add(task.id)
        at = given.at
        self._budget_is_news = self._money.record is None
        for spec in given.tasks:
            self._reopen_one(self._tasks[spec.record.id], spec, at)
        self._warn_roles((spec.record.role for spec in given.tasks), at)
        for run in {id(run): run for run in (self._tasks[task_id].run for task_id in seen)}.values():
            if run.state not in (RunState.RUNNING, RunState.PAUSED):
                run.started = False
                run.stopped_by_cancel = False
                self._change_run(run, RunState.PENDING, at)
            self._pause_run(run, at)

    def _reopen_one(self, task: TaskEntry, spec: TaskSpec, at: float) -> None:
        """A final task stands in line again, where it stood when it was accepted."""
        old, new, run = task.spec.record, spec.record, task.run
        other_prompt = new.prompt != old.prompt
        self._events.append(
            TaskReopened(
                at,
                task.id,
                new.prompt if other_prompt else None,
                new.overrides if new.overrides != old.overrides else None,
                new.requested_model if new.requested_model != old.requested_model else None,
                old.prompt if other_prompt else None,
            )
        )
        run.open += 1
        run.cancelled -= task.state is TaskState.CANCELLED
        run.interrupted -= task.state is TaskState.INTERRUPTED
        task.spec = spec
        task.negative_priority = -new.priority
        task.opened_attempts = task.attempts
        task.crashes = task.uncounted = 0
        task.finished_at = None
        task.failure_kind = task.error_type = task.error = None
        self._move(task, TaskState.PENDING)
        self._queue.push(task)
        if spec.deadline_at is not None:
            heappush(self._deadlines, (spec.deadline_at, task.order, task))

    def _stop(self, given: Stop) -> None:
        """Stop tasks for good."""
        if given.task_ids:
            tasks = [self._task(task_id) for task_id in dict.fromkeys(given.task_ids)]
        else:
            tasks = list(self._tasks.values())
        tasks = [task for task in tasks if not task.state.is_final]
        if given.reason is StopReason.CANCEL:
            per_run: dict[int, int] = {}
            for task in tasks:
                per_run[id(task.run)] = per_run.get(id(task.run), 0) + 1
            for task in tasks:
                if per_run[id(task.run)] == task.run.open:
                    task.run.stopped_by_cancel = True
        self._stop_all(tasks, given.reason, given.at, kill=given.kill)

    def _stop_all(self, tasks: list[TaskEntry], reason: StopReason, at: float, *, kill: bool = False) -> None:
        """End what has not started, stop what runs."""
        for task in tasks:
            if task.state is TaskState.RUNNING:
                self._stop_running(task, reason, kill=kill)
                continue
            why = "interrupted"
            if reason is StopReason.DRAIN:
                why = STOPPED_POOL if task.attempts > task.opened_attempts else "the pool was stopped before it started"
            self._end_by(task, at, reason, why)

    # -- money, the pool, its end --------------------------------------------------------------------------------------

    def _set_budget(self, limit_nano: int | None, at: float) -> None:
        """Move the wall."""
        if limit_nano is not None and limit_nano < 0:
            raise ConfigError("budget_usd must not be negative; use 0 to spend nothing, None for no limit")
        self._money.move(limit_nano)
        self._events.append(BudgetChanged(at, limit_nano))
        self._warn_budget(at)

    def _label(self, given: LabelSlot) -> None:
        """Give a slot a name, role or description; what is None stays, what is empty goes."""
        slot = self._slot(given.slot_id)
        slot.name = slot.name if given.name is None else given.name or None
        slot.role = slot.role if given.role is None else given.role or None
        slot.description = slot.description if given.description is None else given.description or None

    def _unpause(self, at: float) -> None:
        """Start tasks again, and open slots again that were given up."""
        if self._draining:
            return
        self._revive(at)
        if self._paused is None:
            return
        self._paused = None
        self._events.append(PoolUnpaused(at))
        for run in self._runs.values():
            if run.state is RunState.PAUSED:
                self._change_run(run, RunState.RUNNING if run.started else RunState.PENDING, at)

    def _drain(self, at: float) -> None:
        """Take no more work, let running tasks end, then close."""
        if self._draining:
            return
        self._draining = True
        self._events.append(PoolDraining(at))
        self._stop_all([task for task in self._tasks.values() if task.is_queued], StopReason.DRAIN, at)
        for slot in list(self._slots.values()):
            if slot.state is not SlotState.STOPPED and not slot.closing:
                self._close(slot, at)
        self._finish_drain(at)

    def _drain_timed_out(self) -> None:
        """Stop what still runs: first by asking, the next time by killing."""
        if not self._draining or self._closed:
            return
        self._drain_timeouts += 1
        kill = self._drain_timeouts > 1
        for slot in self._slots.values():
            if slot.task is not None:
                if slot.task.stop not in BY_PERSON or kill:
                    self._stop_running(slot.task, StopReason.DRAIN, kill=kill)
            elif slot.state is not SlotState.STOPPED:
                self._commands.append(CloseSlot(slot.id, slot.epoch, kill=True))

    # -- from the ledger's rows ----------------------------------------------------------------------------------------

    @classmethod
    def rebuild(
        cls,
        pool_id: str,
        *,
        runs: Iterable[RunRecord],
        tasks: Iterable[TaskSpec],
        attempts: Iterable[AttemptRecord] = (),
        paused: str | None = None,
        **options: Any,
    ) -> PoolState:
        """A state from the ledger's rows, equal to the one that wrote them in all that is durable.

        Args:
            pool_id: The pool's id in the ledger.
            runs: Its runs, oldest first.
            tasks: Their tasks in the order in which they were accepted, as recorded.
            attempts: Attempts that were running: what is reserved for them is this pool's own.
            paused: Why the pool is paused.
            options: As for `PoolState`: slots, budget and the rest.
        """
        state = cls(pool_id, **options)
        for record in runs:
            state._add_run(record)
        for spec in tasks:
            task = state._add_task(spec, state._run(spec.record.run_id))
            state._count_adopted(task)
            if task.state is TaskState.PENDING:
                state._queue.push(task)
            elif task.state is TaskState.WAITING and task.waiting_until is not None:
                heappush(state._waiting, (task.waiting_until, task.order, task))
            if spec.deadline_at is not None and task.is_queued:
                heappush(state._deadlines, (spec.deadline_at, task.order, task))
        for attempt in attempts:
            if attempt.state is AttemptState.RUNNING and attempt.task_id in state._tasks:
                state._tasks[attempt.task_id].reserved_nano = attempt.reserved_nano
                state._money.claim(attempt.reserved_nano)
        state._paused = paused
        return state
