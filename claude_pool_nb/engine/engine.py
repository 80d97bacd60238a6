"""The engine: performs the core's commands on an event loop and feeds the outcomes back.

It holds no state that decides anything; that is the core's. What it does hold: the live sessions, the full texts on
their way, and who waits for what.

Invariants: everything here runs on one loop. What the core decides within one tick of the loop goes to the ledger as
one batch, and `Dispatch` and `Tell` of that tick are performed after its commit: an attempt and its reservation are
on disk before the prompt is sent, a result and its cost before anybody is told. When the ledger cannot write, nothing
is dispatched, what came back is kept in memory in its order, and the same batch is written when the pool is unpaused.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from claude_pool_nb import events
from claude_pool_nb.core import commands, inputs
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.engine.intake import Intake
from claude_pool_nb.engine.results import result_of
from claude_pool_nb.engine.slots import SlotRunner, TurnReport
from claude_pool_nb.errors import PoolClosed, PoolError, PoolPaused, StoreError
from claude_pool_nb.records import (
    AttemptRecord,
    BudgetRecord,
    CostBasis,
    Failure,
    FailureKind,
    RunState,
    SlotRecord,
    StopReason,
    TaskRecord,
    TaskResult,
    TurnResult,
    Usage,
    usd,
)
from claude_pool_nb.redact import redact
from claude_pool_nb.sessions.base import Backend, Turn
from claude_pool_nb.store import queries
from claude_pool_nb.store.ledger import Ledger, WriteResult

log = logging.getLogger("claude_pool_nb")

PROGRESS_EVERY_S = 1.0
"""How often the ledger is told what a running attempt has used so far."""


@dataclass(slots=True, eq=False)
class _Batch:
    """What one tick of the loop decided."""

    number: int
    """Batches are committed in the order of their numbers."""
    events: list[events.Event] = field(default_factory=list)
    deferred: list[commands.Command] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.deferred)


class Engine:
    """Performs commands; one for each pool."""

    def __init__(
        self,
        state: PoolState,
        ledger: Ledger,
        backend: Backend,
        intake: Intake,
        *,
        pool_id: str,
        budget: BudgetRecord,
        idle_close_s: float | None = None,
    ) -> None:
        self.state = state
        self.ledger = ledger
        self.backend = backend
        self.intake = intake
        self.pool_id = pool_id
        self.runners: dict[str, SlotRunner] = {}
        self.store_error: StoreError | None = None
        self.closed = False
        self.thread_id = 0
        self.warnings: list[str] = []
        self.budget = budget
        self._idle_close_s = idle_close_s
        self._batch = _Batch(1)
        self._written_number = 0
        self._flush_asked = False
        self._unwritten: deque[_Batch] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._undispatched: dict[tuple[str, int], StopReason | None] = {}
        self._run_waiters: dict[str, list[cf.Future[None]]] = {}
        self._task_waiters: dict[str, list[cf.Future[None]]] = {}
        self._closed_waiters: list[cf.Future[None]] = []
        self._commit_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._watchers: list[Callable[[events.Event], None]] = []
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = float("inf")
        self._own = _OwnBookings()
        self._others_seen: tuple[int, int | None, int, int] | None = None
        self._pids: dict[str, int] = {}

    # -- the two ends of the core --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the slots."""
        self._loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self._perform(self.state.start(time.time()))

    def handle(self, told: inputs.Input) -> None:
        """Tell the core something and perform what it asks for."""
        self._perform(self.state.handle(told))

    def _perform(self, asked: Iterable[commands.Command]) -> None:
        for command in asked:
            match command:
                case commands.Write():
                    self._batch.events.extend(command.events)
                case commands.Dispatch():
                    self._undispatched[command.task_id, command.attempt] = None
                    self._batch.deferred.append(command)
                case commands.Tell() | commands.Closed() | commands.ReadBudget():
                    self._batch.deferred.append(command)
                case commands.OpenSlot():
                    self._spawn(self._open_slot(command))
                case commands.ResetSlot():
                    self._spawn(self._reset_slot(command))
                case commands.CloseSlot():
                    self._spawn(self._close_slot(command))
                case commands.StopAttempt():
                    self._stop_attempt(command)
                case commands.WakeAt():
                    self._wake_up_at(command.at)
        if self._batch and not self._flush_asked:
            self._flush_asked = True
            self._loop.call_soon(self._flush)

    def _spawn(self, coro: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a defect of claude-pool-nb: please report it", exc_info=error)
            self.warnings.append(f"internal error: {error!r}; please report it")

    def _wake_up_at(self, at: float) -> None:
        if at >= self._wake_at:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = at
        self._wake = self._loop.call_later(max(0.0, at - time.time()), self._tick)

    def _tick(self) -> None:
        self._wake, self._wake_at = None, float("inf")
        self.handle(inputs.Tick(time.time()))

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_asked = False
        batch, self._batch = self._batch, _Batch(self._batch.number + 1)
        if self.store_error is not None:
            self._set_aside(batch)
        else:
            self._write(batch)

    def _write(self, batch: _Batch) -> None:
        future = self.ledger.write(
            self.pool_id, self.budget.id, batch.events, call_soon=self._loop.call_soon_threadsafe
        )
        future.add_done_callback(partial(self._written, batch))

    def _written(self, batch: _Batch, future: cf.Future[WriteResult]) -> None:
        error = future.exception()
        if error is not None:
            if not isinstance(error, StoreError):
                error = StoreError(f"the ledger could not be written: {error!r}; `%pool doctor` tells more")
            self._keep_for_later(batch, error)
            return
        self._written_number = batch.number
        done = future.result()
        for event in batch.events:
            self._own.book(event, done.refused)
        if done.budget is not None:
            self._see_budget(done.budget)
        if done.refused or done.refused_extensions:
            self._take_back(batch, done)
        for command in batch.deferred:
            match command:
                case commands.Dispatch() if (command.task_id, command.attempt) not in done.refused:
                    self._dispatch(command)
                case commands.Tell():
                    self._tell(command)
                case commands.Closed():
                    self._finish()
                case commands.ReadBudget():
                    self.handle(inputs.BudgetRead(time.time(), self._as_core_sees(self.budget)))
        for watcher in tuple(self._watchers):
            for event in batch.events:
                watcher(event)
        self._wake_committed()

    def _wake_committed(self) -> None:
        waiting, self._commit_waiters = self._commit_waiters, []
        for number, future in waiting:
            if number > self._written_number and self.store_error is None:
                self._commit_waiters.append((number, future))
            elif not future.done():
                future.set_result(None)

    def _keep_for_later(self, batch: _Batch, error: StoreError) -> None:
        """The ledger failed: keep what it did not take, stop dispatching and say so."""
        self._set_aside(batch)
        if self.store_error is None:
            self.store_error = error
            log.warning("%s", error)
            self.handle(inputs.Pause(time.time(), str(error), by_person=False))
        for attempt in [key for key, reason in self._undispatched.items() if reason is not None]:
            self._report_unsent(*attempt)
        self._wake_all()
        self._wake_committed()

    def _set_aside(self, batch: _Batch) -> None:
        self._unwritten.append(batch)
        if any(isinstance(command, commands.Closed) for command in batch.deferred):
            self._finish()  # the pool ends although its last words cannot be written

    def retry_writes(self) -> None:
        """Write what could not be written; called when the pool is unpaused."""
        self.store_error = None
        waiting, self._unwritten = self._unwritten, deque()
        for batch in waiting:
            self._write(batch)

    def _take_back(self, batch: _Batch, done: WriteResult) -> None:
        """Another pool was quicker: the core learns what the ledger did not grant."""
        for event in batch.events:
            match event:
                case events.TaskRunning() if (event.task_id, event.attempt) in done.refused:
                    self._undispatched.pop((event.task_id, event.attempt), None)
                    budget = self._as_core_sees(self.budget, less_nano=event.reserved_nano)
                    told = inputs.ReservationRefused(time.time(), event.task_id, event.attempt, budget)
                case events.ReservationExtended() if (event.task_id, event.attempt) in done.refused_extensions:
                    budget = self._as_core_sees(self.budget, less_nano=event.added_nano)
                    told = inputs.ReservationRefused(time.time(), event.task_id, event.attempt, budget, extension=True)
                case _:
                    continue
            self.handle(told)

    def _as_core_sees(self, budget: BudgetRecord, *, less_nano: int = 0) -> BudgetRecord:
        """The ledger's sums as of its last commit, brought up to what the core has decided since.

        The core subtracts its own part to know the others'; its own part may be ahead of the ledger.
        """
        return replace(
            budget,
            spent_nano=budget.spent_nano - self._own.spent_nano + self.state.own_spent_nano,
            reserved_nano=budget.reserved_nano - self._own.reserved_nano + self.state.own_reserved_nano - less_nano,
        )

    def _see_budget(self, budget: BudgetRecord) -> None:
        """Tell the core, if other pools have changed anything."""
        self.budget = budget
        others = (
            budget.id,
            budget.limit_nano,
            budget.spent_nano - self._own.spent_nano,
            budget.reserved_nano - self._own.reserved_nano,
        )
        if others != self._others_seen:
            self._others_seen = others
            self.handle(inputs.BudgetRead(time.time(), self._as_core_sees(budget)))

    # -- slots ---------------------------------------------------------------------------------------------------------

    def _runner(self, slot_id: str) -> SlotRunner:
        if slot_id not in self.runners:
            self.runners[slot_id] = SlotRunner(slot_id, self.backend, idle_close_s=self._idle_close_s)
        return self.runners[slot_id]

    async def _open_slot(self, command: commands.OpenSlot) -> None:
        if command.delay_s:
            await asyncio.sleep(command.delay_s)
        try:
            await self._runner(command.slot_id).open(self.intake.options_of_slot(command.slot_id))
        except PoolError as error:
            self.handle(inputs.SlotLost(time.time(), command.slot_id, command.epoch, str(error)))
            return
        self._note_process(command.slot_id)
        self.handle(inputs.SlotOpened(time.time(), command.slot_id, command.epoch))

    async def _reset_slot(self, command: commands.ResetSlot) -> None:
        try:
            await self._runner(command.slot_id).make_ready(self.intake.options_of_slot(command.slot_id))
        except PoolError as error:
            self.handle(inputs.SlotLost(time.time(), command.slot_id, command.epoch, str(error)))
            return
        self._note_process(command.slot_id)
        self.handle(inputs.SlotReady(time.time(), command.slot_id, command.epoch))

    async def _close_slot(self, command: commands.CloseSlot) -> None:
        await self._runner(command.slot_id).close(kill=command.kill)
        self.runners.pop(command.slot_id, None)
        self.handle(inputs.SlotClosed(time.time(), command.slot_id, command.epoch))

    def _note_process(self, slot_id: str) -> None:
        """Let the ledger know the slot's process, so that the next kernel can end it if this one dies badly."""
        runner = self.runners.get(slot_id)
        info = runner.info if runner is not None else None
        if info is not None and info.pid is not None and self._pids.get(slot_id) != info.pid:
            self._pids[slot_id] = info.pid
            self.ledger.record_process(self.pool_id, slot_id, info.pid, info.started_at or 0.0, info.executable or "")

    # -- attempts ------------------------------------------------------------------------------------------------------

    def _dispatch(self, command: commands.Dispatch) -> None:
        reason = self._undispatched.pop((command.task_id, command.attempt), None)
        if reason is None:
            self._spawn(self._attempt(command))

    def _stop_attempt(self, command: commands.StopAttempt) -> None:
        key = command.task_id, command.attempt
        if key in self._undispatched:
            # The prompt was not sent yet and never will be: the attempt is over, at no cost.
            self._undispatched[key] = command.reason
            self._loop.call_soon(self._report_unsent, *key)
            return
        runner = self.runners.get(command.slot_id)
        if runner is not None:
            runner.stop(command.reason, kill=command.kill)

    def _report_unsent(self, task_id: str, attempt: int) -> None:
        reason = self._undispatched.get((task_id, attempt))
        if reason is not None:
            self._done(task_id, attempt, TurnResult(failure=_STOPPED), reason)

    async def _attempt(self, command: commands.Dispatch) -> None:
        task_id, attempt = command.task_id, command.attempt
        runner = self._runner(command.slot_id)
        intake = self.intake
        try:
            options = intake.options_of(task_id, command.slot_id)
        except PoolError as error:  # the slot's configuration or the shared context made the task impossible
            failure = Failure(FailureKind.REQUEST, type(error).__name__, str(error))
            self._done(task_id, attempt, TurnResult(failure=failure), None)
            return
        turn = Turn(intake.prompt_of(task_id), options, sample=self.state.task(task_id).sample)
        relaunch = False
        if options.conversation is not None and not intake.conversations.holds(options.conversation, runner):
            relaunch = True
            turn = replace(turn, options=intake.conversations.resumed(options))
        last_recorded = time.monotonic()
        estimate = self.backend.estimate_nano

        def began() -> None:
            self.handle(inputs.AttemptBegan(time.time(), task_id, attempt))

        def spent(usage: Usage, cost_nano: int) -> None:
            nonlocal last_recorded
            now = time.monotonic()
            record = now - last_recorded >= PROGRESS_EVERY_S
            if record:
                last_recorded = now
            self.handle(inputs.AttemptSpent(time.time(), task_id, attempt, cost_nano, usage, record))

        result, stopped = await runner.attempt(task_id, turn, TurnReport(began, spent), relaunch=relaunch)
        if stopped is not None and result.cost_basis is CostBasis.UNKNOWN:
            cost = estimate(result.model or options.model, result.usage)
            result = replace(result, cost_nano=max(result.cost_nano, cost or 0))
        self._note_process(command.slot_id)
        if options.conversation is not None:
            intake.conversations.turned(options.conversation, runner, result)
        self._done(task_id, attempt, result, stopped)

    def _done(self, task_id: str, attempt: int, result: TurnResult, stopped: StopReason | None) -> None:
        cleaned = redact(result.output)
        if cleaned is not result.output:
            result = replace(result, output=cleaned)
        for warning in result.warnings:
            if warning not in self.warnings:
                self.warnings.append(warning)
        self.handle(inputs.AttemptDone(time.time(), task_id, attempt, result, stopped))

    # -- who waits -----------------------------------------------------------------------------------------------------

    def when_final(self, run_id: str) -> cf.Future[None]:
        """A future that is done when the run is final.

        It raises PoolPaused if the pool paused itself, StoreError if the ledger failed, PoolClosed if the pool ended.
        """
        return self._waiter(self._run_waiters, run_id, final=self.run_is_final(run_id))

    def when_task_final(self, task_id: str) -> cf.Future[None]:
        """The same for one task."""
        return self._waiter(self._task_waiters, task_id, final=self.state.task(task_id).state.is_final)

    def when_closed(self) -> cf.Future[None]:
        """A future that is done when the pool is drained."""
        future: cf.Future[None] = cf.Future()
        if self.closed:
            future.set_result(None)
        else:
            self._closed_waiters.append(future)
        return future

    def run_is_final(self, run_id: str) -> bool:
        """True if all tasks of the run are final."""
        return self.state.run(run_id).state in _FINAL_RUNS

    def _waiter(self, waiters: dict[str, list[cf.Future[None]]], key: str, *, final: bool) -> cf.Future[None]:
        future: cf.Future[None] = cf.Future()
        if final and self._written_number >= self._last_number():
            future.set_result(None)
        elif (error := self._why_not(final=final)) is not None:
            future.set_exception(error)
        elif final:
            self._spawn(self._resolve_when_committed(future))
        else:
            waiters.setdefault(key, []).append(future)
        return future

    async def _resolve_when_committed(self, future: cf.Future[None]) -> None:
        try:
            await self.committed()
        except StoreError as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    def _why_not(self, *, final: bool = False) -> PoolError | None:
        """Why waiting would be for ever, if it would."""
        if self.store_error is not None:
            return self.store_error
        if self.closed and not final:
            return PoolClosed()
        if self.state.paused is not None and not final:
            return PoolPaused(f"the pool is paused: {self.state.paused}")
        return None

    def _tell(self, command: commands.Tell) -> None:
        for task_id in command.task_ids:
            _resolve(self._task_waiters.pop(task_id, ()))
        for run_id in command.run_ids:
            _resolve(self._run_waiters.pop(run_id, ()))
        if self.state.paused is not None and not self.state.paused_by_person:
            self._wake_all()

    def _wake_all(self) -> None:
        """Nobody waits for what will not come: raise the reason in whoever waits."""
        error = self._why_not()
        if error is None:
            return
        for waiters in (self._run_waiters, self._task_waiters):
            for futures in waiters.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            waiters.clear()

    def _finish(self) -> None:
        self.closed = True
        if self._wake is not None:
            self._wake.cancel()
        self._wake_all()
        _resolve(self._closed_waiters)
        self._closed_waiters.clear()

    async def committed(self) -> None:
        """Wait until all that was decided so far is in the ledger.

        Raises:
            StoreError: the ledger failed.
        """
        number = self._last_number()
        if self.store_error is None and self._written_number < number:
            future: asyncio.Future[None] = self._loop.create_future()
            self._commit_waiters.append((number, future))
            await future
        if self.store_error is not None:
            raise self.store_error

    def _last_number(self) -> int:
        """The number of the latest batch that holds anything."""
        return self._batch.number if self._batch else self._batch.number - 1

    async def release(self) -> None:
        """After the drain: give back what the backend and the ledger hold."""
        for runner in list(self.runners.values()):
            await runner.close(kill=True)
        self.runners.clear()
        await self.backend.close()
        self.ledger.close_pool(self.pool_id)
        self.ledger.close()

    async def set_budget(self, limit_nano: int | None, *, fresh: bool) -> None:
        """Move the wall, or open a new budget."""
        if fresh:
            self.budget = await asyncio.to_thread(
                self.ledger.open_budget,
                self.budget.name,
                limit_usd=None if limit_nano is None else usd(limit_nano),
                fresh=True,
                play_money=self.budget.play_money,
            )
            self._own = _OwnBookings()
            self._see_budget(self.budget)
        self.handle(inputs.SetBudget(time.time(), limit_nano))
        await self.committed()

    # -- what there is of a task ---------------------------------------------------------------------------------------

    def task_result(self, task: TaskRecord) -> TaskResult:
        """What there is of a task, over all its attempts."""
        return result_of(task, self._attempts_of(task.id), self.backend.info.name)

    def task_results(self, tasks: list[TaskRecord]) -> list[TaskResult]:
        """The same for the tasks of one run."""
        if not tasks:
            return []
        attempts: dict[str, list[AttemptRecord]] = {}
        for attempt in queries.run_attempts(self.ledger, tasks[0].run_id):
            attempts.setdefault(attempt.task_id, []).append(attempt)
        return [
            result_of(task, self._with_unwritten(task.id, attempts.get(task.id, [])), self.backend.info.name)
            for task in tasks
        ]

    def _attempts_of(self, task_id: str) -> list[AttemptRecord]:
        return self._with_unwritten(task_id, queries.attempts(self.ledger, task_id))

    def _with_unwritten(self, task_id: str, attempts: list[AttemptRecord]) -> list[AttemptRecord]:
        """A full disk loses nothing that was paid for, as long as the kernel lives: it is in the waiting batches."""
        for batch in self._unwritten:
            for event in batch.events:
                if isinstance(event, events.AttemptEnded) and event.task_id == task_id:
                    ended = AttemptRecord(
                        task_id, event.attempt, "", event.state, finished_at=event.at, result=event.result
                    )
                    attempts = [a for a in attempts if a.number != event.attempt] + [ended]
        return attempts

    # -- who watches ---------------------------------------------------------------------------------------------------

    def subscribe(self, watcher: Callable[[events.Event], None]) -> Callable[[], None]:
        """Call `watcher` with every committed event, on the loop; returns how to stop that."""
        self._watchers.append(watcher)

        def unsubscribe() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return unsubscribe

    def slots(self) -> list[SlotRecord]:
        """The slots as they are now, with process, session and memory."""
        return [
            self.runners[slot.id].describe(slot) if slot.id in self.runners else slot for slot in self.state.slots()
        ]


_FINAL_RUNS = frozenset({RunState.COMPLETED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.FAILED})
_STOPPED = Failure(FailureKind.TASK, "stopped", "stopped before its prompt was sent")


def _resolve(futures: Iterable[cf.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class _OwnBookings:
    """What this pool has committed to a budget that others may share: the rest of the ledger's sums is theirs."""

    def __init__(self) -> None:
        self.spent_nano = 0
        self.reserved_nano = 0
        self._reserved: dict[tuple[str, int], int] = {}

    def book(self, event: events.Event, refused: frozenset[tuple[str, int]]) -> None:
        """Take over a committed event."""
        match event:
            case events.TaskRunning():
                if (event.task_id, event.attempt) not in refused:
                    self._add(event.task_id, event.attempt, event.reserved_nano)
            case events.ReservationExtended():
                self._add(event.task_id, event.attempt, event.added_nano)
            case events.AttemptEnded():
                self.reserved_nano -= self._reserved.pop((event.task_id, event.attempt), 0)
                self.spent_nano += event.result.cost_nano

    def _add(self, task_id: str, attempt: int, nano: int) -> None:
        self.reserved_nano += nano
        self._reserved[task_id, attempt] = self._reserved.get((task_id, attempt), 0) + nano
